"""The 700 blood cells of 765 genes that scanpy carries with it, as counts."""

from __future__ import annotations

from importlib.util import find_spec
from pathlib import Path
from typing import Any

import numpy as np
import torch

from ppl_vae import checks
from ppl_vae.data.arrays import ArrayData

FILE = Path("datasets", "10x_pbmc68k_reduced.h5ad")
SHAPE = (700, 765)
SCALED_TO = 10_000
TEST_EVERY = 5
Array = np.ndarray[Any, Any]


def read(split: str, data_dir: Path | None) -> ArrayData:
    """Return the counts `x` of 560 or 140 cells; `data_dir` is not needed.

    Beside them are ``labels`` (bulk_labels, ten types of cells), ``phase`` (of the cell cycle) and
    ``n_counts``, the total count of a cell over all genes, of which these have 11 to 28 percent.

    The split is the same everywhere. Of the cells sorted by label, in the file's order within one,
    every fifth, from the third on, is a test cell.

    The file is read without scanpy or anndata: they take seconds to import, and two versions of
    its format are about.

    Source:
        Zheng and others, Nature Communications 8, 14049, 2017, donor A, as reduced by scanpy.
    """
    logs, totals, columns, genes = _contents(_path())
    counts = recovered(logs, totals)
    labels, phase = columns["bulk_labels"], columns["phase"]
    test = np.zeros(len(counts), dtype=bool)
    test[np.argsort(labels[0], kind="stable")[TEST_EVERY // 2 :: TEST_EVERY]] = True
    data = ArrayData(
        {"x": counts.astype(np.float32)},
        beside={"labels": labels[0], "phase": phase[0], "n_counts": totals},
        features={"x": genes},
        categories={"labels": labels[1], "phase": phase[1]},
        name="pbmc",
        split=split,
    )
    return data[torch.from_numpy(np.flatnonzero(test == (split == "test")))]


def recovered(logs: Array, totals: Array) -> Array:
    """Return the whole numbers c of which `logs` are log(1 + 10000 c / total), (cells, genes).

    A row's smallest entry above 0 stands for c = 1, which its total confirms. The logarithms are
    rounded to three decimals, so that counts up to 900 can be told apart; here the largest is 259.

    Args:
        logs: (cells, genes).
        totals: the count of each cell over all genes, (cells,).

    Raises:
        ValueError: they are not logarithms of such counts.
    """
    scaled = np.expm1(logs.astype(np.float64))
    if not (np.isfinite(scaled).all() and (scaled >= 0).all() and (scaled > 0).any(axis=1).all()):
        raise _another("numbers below 0, NaN, or a cell without counts")
    one = np.where(scaled > 0, scaled, np.inf).min(axis=1)
    ratios = scaled / one[:, None]
    counts = np.rint(ratios)
    off = np.abs(ratios - counts).max()
    if off > 0.12:
        raise _another(
            f"numbers up to {off:.3f} from a whole multiple of the smallest in their row"
        )
    low, high = (one * totals).min(), (one * totals).max()
    if low < 9_990 or high > 10_010:
        raise _another(f"rows scaled to between {low:.0f} and {high:.0f}")
    error = np.abs(np.log1p(SCALED_TO * counts / totals[:, None]) - logs).max()
    if error > 0.00051:
        raise _another(f"logarithms {error:.5f} from those of the counts")
    return counts


def _path() -> Path:
    spec = find_spec("scanpy")
    if spec is None or not spec.submodule_search_locations:
        raise checks.extra("counts", "scanpy")
    path = Path(spec.submodule_search_locations[0]) / FILE
    if not path.is_file():
        raise FileNotFoundError(
            checks.message(
                f"the file {FILE} in scanpy", "none", "Install a version below 1.13, from 1.11."
            )
        )
    return path


def _contents(path: Path) -> tuple[Array, Array, dict[str, tuple[Array, list[str]]], list[str]]:
    """Return logarithms, totals, columns as codes with their names, and genes.

    scanpy 1.11 has the file in anndata's first format, 1.12 in its present one.
    """
    try:
        import h5py
    except ImportError:
        raise checks.extra("counts", "h5py") from None
    try:
        with h5py.File(path) as opened:
            file: Any = opened
            first = "raw.X" in file
            matrix = file["raw.X" if first else "raw/X"]
            ends, places, values = (matrix[k][:] for k in ("indptr", "indices", "data"))
            logs = np.zeros(SHAPE, dtype=np.float32)
            logs[np.repeat(np.arange(len(ends) - 1), np.diff(ends)), places] = values
            totals = file["obs"]["n_counts"][:].astype(np.float64)
            columns = {name: _codes(file, name, first=first) for name in ("bulk_labels", "phase")}
            genes = file["raw.var"]["index"] if first else file["raw/var/index"][:]
    except (OSError, KeyError, IndexError, ValueError, AttributeError) as error:
        raise _another(f"one that cannot be read so ({error})") from None
    if totals.shape != SHAPE[:1] or len(ends) != SHAPE[0] + 1 or len(genes) != SHAPE[1]:
        raise _another(f"{len(totals)} cells and {len(genes)} genes")
    return logs, totals, columns, _words(genes)


def _codes(file: Any, name: str, *, first: bool) -> tuple[Array, list[str]]:  # noqa: ANN401
    column = file["obs"][name]
    codes = column if first else column["codes"]
    names = file["uns"][f"{name}_categories"] if first else column["categories"]
    return codes[:].astype(np.int64), _words(names[:])


def _words(words: Array) -> list[str]:
    return [word.decode() if isinstance(word, bytes) else str(word) for word in words]


def _another(came: str) -> ValueError:
    return checks.value_error(
        f"the file {FILE.name} of scanpy 1.11 or 1.12: 700 cells of 765 genes, with "
        "log(1 + counts scaled to 10000) in raw",
        came,
        "Install such a version of scanpy anew.",
    )
