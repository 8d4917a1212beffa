"""Counts that scanpy carries as rounded logarithms, recovered."""

import sys
from importlib.util import find_spec
from types import SimpleNamespace

import numpy as np
import pytest
import torch

from ppl_vae import load
from ppl_vae.data import pbmc

h5py = pytest.importorskip("h5py")
needs_scanpy = pytest.mark.skipif(find_spec("scanpy") is None, reason="needs scanpy's file")
LABELS, PHASES = [f"type {i}" for i in range(10)], ["G1", "G2M", "S"]


@pytest.fixture(scope="module")
def truth():
    """Counts and totals like the data set's, but known."""
    rng = np.random.default_rng(0)
    counts = rng.poisson(rng.gamma(0.3, 3.0, size=pbmc.SHAPE)).clip(max=60)
    counts[:, 0] = 1
    totals = rng.integers(2141, 9498, size=len(counts)).astype(float)
    return counts, totals


def logarithms(counts, totals):
    return np.log1p(10_000 * counts / totals[:, None]).round(3).astype(np.float32)


def written(path, logs, totals, *, first):
    """Write what is read of the file, in anndata's first format or in the present one."""
    rng = np.random.default_rng(1)
    codes = {
        "bulk_labels": rng.integers(0, 10, len(totals)),
        "phase": rng.integers(0, 3, len(totals)),
    }
    names = {"bulk_labels": LABELS, "phase": PHASES}
    genes = np.array([f"g{i}".encode() for i in range(logs.shape[1])])
    full = logs > 0
    with h5py.File(path, "w") as file:
        matrix = file.create_group("raw.X" if first else "raw/X")
        matrix["data"], matrix["indices"] = logs[full], np.nonzero(full)[1]
        matrix["indptr"] = np.concatenate([[0], full.sum(1).cumsum()])
        if first:
            kinds = [("n_counts", "f4"), ("bulk_labels", "i1"), ("phase", "i1")]
            table = np.zeros(len(totals), dtype=kinds)
            table["n_counts"] = totals
            for name, values in codes.items():
                table[name] = values
                file[f"uns/{name}_categories"] = np.array([n.encode() for n in names[name]])
            file["obs"] = table
            file["raw.var"] = np.array([(gene,) for gene in genes], dtype=[("index", "S8")])
            return codes
        file["obs/n_counts"] = totals.astype(np.float32)
        file["raw/var/index"] = genes.astype(object)
        for name, values in codes.items():
            file[f"obs/{name}/codes"] = values.astype(np.int8)
            file[f"obs/{name}/categories"] = np.array(names[name], dtype=object)
    return codes


@pytest.fixture
def scanpy_at(tmp_path, monkeypatch):
    """A folder in the place of scanpy's; the path is where the file belongs."""
    spec = SimpleNamespace(submodule_search_locations=[str(tmp_path)])
    monkeypatch.setattr(pbmc, "find_spec", lambda _: spec)
    path = tmp_path / pbmc.FILE
    path.parent.mkdir()
    return path


@pytest.mark.parametrize("first", [True, False])
def test_known_counts_are_recovered_from_both_formats(truth, scanpy_at, first):
    counts, totals = truth
    codes = written(scanpy_at, logarithms(counts, totals), totals, first=first)
    for split in ("train", "test"):
        data = load("pbmc", split=split)
        rows = [int(np.flatnonzero((counts == x).all(1))[0]) for x in data["x"].numpy()]
        assert len(rows) == len(data) == {"train": 560, "test": 140}[split]
        assert rows == sorted(rows)
        assert data["labels"].tolist() == codes["bulk_labels"][rows].tolist()
        assert data["phase"].tolist() == codes["phase"][rows].tolist()
        assert data["n_counts"].tolist() == totals[rows].tolist()
        assert data.categories == {"labels": tuple(LABELS), "phase": tuple(PHASES)}
        assert data.features["x"][:2] == ("g0", "g1")


@needs_scanpy
def test_the_cells_of_scanpy():
    train, test = load("pbmc"), load("pbmc", split="test")
    assert repr(test) == "ArrayData(pbmc, split=test, 140 examples of x (765,))"
    assert len(train) == 560
    x = torch.cat([train["x"], test["x"]])
    assert x.dtype is torch.float32
    assert bool((x == x.round()).all())
    assert (x.min(), x.max(), x.sum()) == (0, 259, 486_651)
    totals = torch.cat([train["n_counts"], test["n_counts"]])
    assert (totals.min(), totals.max()) == (2141, 9497)
    share = x.sum(1) / totals
    assert 0.10 < share.min() < share.max() < 0.28
    assert test["labels"].bincount().tolist() == [14, 1, 4, 11, 8, 26, 19, 3, 6, 48]
    assert (train["labels"].bincount() + test["labels"].bincount()).tolist() == [
        *(68, 8, 19, 54, 43, 129, 95, 13, 31, 240)
    ]
    assert train.categories["labels"][5] == "CD14+ Monocyte"
    assert train.categories["phase"] == ("G1", "G2M", "S")
    # Monocytes express LYZ, B cells CD79A: counts, labels and genes belong together.
    for gene, label in (("LYZ", "CD14+ Monocyte"), ("CD79A", "CD19+ B")):
        column = x[:, train.features["x"].index(gene)]
        labels = torch.cat([train["labels"], test["labels"]])
        own = labels == train.categories["labels"].index(label)
        assert column[own].mean() > 3 * column[labels == 0].mean()


@needs_scanpy
def test_how_exactly_the_counts_are_known():
    logs, totals, _, _ = pbmc._contents(pbmc._path())
    scaled = np.expm1(logs.astype(float))
    one = np.where(scaled > 0, scaled, np.inf).min(1)
    ratios = scaled / one[:, None]
    assert np.abs(ratios - ratios.round()).max() == pytest.approx(0.1122, abs=1e-4)
    assert (one * totals).min() == pytest.approx(9992.4, abs=0.1)
    assert (one * totals).max() == pytest.approx(10007.0, abs=0.1)
    assert np.abs(logs - logs.round(3)).max() < 1e-6


@pytest.mark.parametrize(
    ("spoil", "message"),
    [
        (lambda c, n: (logarithms(2 * c, n), n), "rows scaled to between"),
        (lambda c, n: (logarithms(c, n), 0.9 * n), "rows scaled to between"),
        (
            lambda c, n: (logarithms(c + 0.4 * (c > 3), n), n),
            "from a whole multiple of the smallest",
        ),
        (lambda c, n: (logarithms(c, n) - (c == 0), n), "numbers below 0"),
        (lambda c, n: (logarithms(c * (n > 2500)[:, None], n), n), "a cell without counts"),
        (lambda c, n: (logarithms(c, n) + 0.0008 * (c > 20), n), "from those of the counts"),
    ],
)
def test_numbers_that_are_no_such_counts(truth, spoil, message):
    assert (pbmc.recovered(logarithms(*truth), truth[1]) == truth[0]).all()
    with pytest.raises(ValueError, match=f"10x_pbmc68k_reduced.h5ad of scanpy.*{message}"):
        pbmc.recovered(*spoil(*truth))


def test_a_file_of_other_cells_or_none(truth, scanpy_at):
    with pytest.raises(FileNotFoundError, match="10x_pbmc68k_reduced.h5ad in scanpy"):
        load("pbmc")
    scanpy_at.write_bytes(b"not such a file")
    with pytest.raises(ValueError, match="cannot be read"):
        load("pbmc")
    counts, totals = truth
    written(scanpy_at, logarithms(counts, totals)[:600], totals[:600], first=False)
    with pytest.raises(ValueError, match="600 cells and 765 genes"):
        load("pbmc")
    with h5py.File(scanpy_at, "a") as file:
        del file["obs/n_counts"]
    with pytest.raises(ValueError, match="cannot be read.*n_counts"):
        load("pbmc")


def test_without_the_extra(monkeypatch, truth, scanpy_at):
    written(scanpy_at, logarithms(*truth), truth[1], first=True)
    monkeypatch.setitem(sys.modules, "h5py", None)
    with pytest.raises(ImportError, match=r"library h5py.*pip install 'ppl_vae\[counts\]'"):
        load("pbmc")
    monkeypatch.setattr(pbmc, "find_spec", lambda _: None)
    with pytest.raises(ImportError, match=r"library scanpy.*pip install 'ppl_vae\[counts\]'"):
        load("pbmc")
