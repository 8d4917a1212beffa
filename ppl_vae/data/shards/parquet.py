"""Rows of Parquet files as tensors, a few at a time."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from importlib import import_module
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import torch
from torch import Tensor

from ppl_vae import checks
from ppl_vae.data.shards.files import found_files, opened, stamp

Columns = Mapping[str, str | Sequence[str]]
Rows = dict[str, Tensor]


class Piece(NamedTuple):
    """Some rows of a row group: the file, the group, its first row and the one after the last."""

    path: Path
    group: int
    start: int
    stop: int


class Table:
    """The rows of some Parquet files, in the order of the files.

    Args:
        paths: files, and folders of such.
        columns: by the arguments of a program; None takes all, by their names.

    Attributes:
        files: in the order of their names within each folder.
        columns: by argument.
        num_rows: in all.

    Raises:
        ImportError: the extra ``parquet`` is not installed.
        FileNotFoundError: no such file or folder, or none in it.
        TypeError: paths or columns of another kind; a column of text, dates or the like.
        ValueError: a file that is no Parquet file or has other columns than the first, an unknown
            column, or no rows.
    """

    def __init__(self, paths: object, columns: object) -> None:
        self.files = found_files(paths)
        self._groups: list[Piece] = []
        self._stamps: dict[Path, tuple[int, int]] = {}
        self._shapes: dict[str, tuple[int, ...]] = {}  # of a row, once one is read
        schema: Any = None
        for path in self.files:
            self._stamps[path] = stamp(path)
            with opened(path) as file:
                found = file.schema_arrow
                metadata = file.metadata
                sizes = [metadata.row_group(g).num_rows for g in range(metadata.num_row_groups)]
            self._groups += [Piece(path, group, 0, n) for group, n in enumerate(sizes) if n]
            if schema is None:
                schema, self.columns = found, _columns(columns, found.names)
            _require_same(schema, found, self.names, path)
        for name in self.names:
            _require_numbers(name, schema.field(name).type)
        self.num_rows = sum(piece.stop for piece in self._groups)
        if not self.num_rows:
            raise checks.value_error("at least one row", "none", "Pass data.")

    @property
    def names(self) -> list[str]:
        """The columns that are read."""
        every = ([c] if isinstance(c, str) else c for c in self.columns.values())
        return list(dict.fromkeys(name for names in every for name in names))

    def pieces(self, start: int, stop: int) -> list[Piece]:
        """Return the pieces that hold the rows from `start` to before `stop`, in their order."""
        found, before = [], 0
        for piece in self._groups:
            first, last = max(start - before, 0), min(stop - before, piece.stop)
            if first < last:
                found.append(piece._replace(start=first, stop=last))
            before += piece.stop
        return found

    def read(self, piece: Piece, size: int) -> Iterator[Rows]:
        """Yield the rows of a piece in their order, at most `size` at a time.

        Raises:
            ValueError: the file was changed since it was looked at; missing values, lists of
                different lengths, or numbers that no int64 holds.
        """
        if stamp(piece.path) != self._stamps[piece.path]:
            raise checks.value_error(
                f"{piece.path} as it was when the data were made",
                "a file that was changed since",
                "Make the ShardedData again.",
            )
        before = 0
        with opened(piece.path) as file:
            options = {"row_groups": [piece.group], "columns": self.names}
            for batch in file.iter_batches(size, **options):
                first, last = max(piece.start - before, 0), min(piece.stop - before, len(batch))
                before += len(batch)
                if first < last:
                    yield self._tensors(batch.slice(first, last - first))
                if before >= piece.stop:
                    return

    def _tensors(self, batch: Any) -> Rows:  # noqa: ANN401
        found = {name: _values(name, batch.column(name)) for name in self.names}
        for name, values in found.items():
            shape = self._shapes.setdefault(name, values.shape[1:])
            if values.shape[1:] != shape:
                raise _lengths_error(name, f"some of shape {values.shape[1:]} after {shape}")
        rows = {}
        for argument, columns in self.columns.items():
            several = not isinstance(columns, str)
            if several and len({found[c].shape for c in columns}) > 1:
                shapes = ", ".join(f"{c}: {found[c].shape[1:]}" for c in columns)
                raise checks.value_error(
                    f"columns whose rows have one shape, for {argument!r}",
                    shapes,
                    "Give each shape an argument of its own.",
                )
            values = np.stack([found[c] for c in columns], 1) if several else found[columns]
            tensor = torch.from_numpy(np.array(values))
            floats = (several or argument == "x") and not tensor.is_floating_point()
            rows[argument] = tensor.to(torch.get_default_dtype()) if floats else tensor
        return rows


def _columns(columns: object, known: list[str]) -> Columns:
    if columns is None:
        return {name: name for name in known}
    remedy = 'For example {"x": ["length", "width"], "y": "kind"}.'
    given: Columns = checks.instance(
        "columns", columns, Mapping, "a mapping from a program's arguments to columns", remedy
    )
    for wanted in given.values():
        words = "the name of a column, or a list of names"
        checks.instance("every entry of columns", wanted, (str, list, tuple), words, remedy)
        for name in [wanted] if isinstance(wanted, str) else wanted:
            checks.name("column", name, known)
    if not given or not all(given.values()):
        raise checks.value_error("at least one column for each argument", f"{columns}", remedy)
    return given


def _require_same(schema: Any, found: Any, names: list[str], path: Path) -> None:  # noqa: ANN401
    for name in names:
        if found.names.count(name) > 1:
            raise checks.value_error(
                f"one column {name!r} in {path}", "several of this name", "Rename all but one."
            )
        here = str(found.field(name).type) if name in found.names else "none"
        if here != str(schema.field(name).type):
            raise checks.value_error(
                f"the column {name!r} of the same kind in every file, {schema.field(name).type}",
                f"{here} in {path}",
                "Write all files alike.",
            )


def _require_numbers(name: str, kind: Any) -> None:  # noqa: ANN401
    types = import_module("pyarrow.types")
    inner = kind
    while hasattr(inner, "storage_type") or hasattr(inner, "value_type"):
        inner = inner.storage_type if hasattr(inner, "storage_type") else inner.value_type
    if types.is_dictionary(kind) or not (
        types.is_integer(inner) or types.is_floating(inner) or types.is_boolean(inner)
    ):
        raise checks.type_error(
            f"numbers or booleans, or lists of them, in the column {name!r}",
            f"{kind}",
            "Leave it out of columns=, or write codes.",
        )


def _values(name: str, column: Any) -> np.ndarray[Any, Any]:  # noqa: ANN401
    """Return a column's values, one row or number each."""
    compute = import_module("pyarrow.compute")
    shape, inner = [len(column)], getattr(column, "storage", column)
    missing = inner.null_count
    while hasattr(inner, "flatten") and hasattr(inner.type, "value_type"):
        inner, rows = inner.flatten(), inner
        missing += inner.null_count
        lengths = np.unique(compute.list_value_length(rows).to_numpy(zero_copy_only=False))
        if not missing and len(lengths) > 1:
            raise _lengths_error(name, f"lengths from {lengths[0]} to {lengths[-1]}")
        shape.append(int(lengths[0]) if not missing else 0)
    if missing:
        raise checks.value_error(
            f"no missing values in the column {name!r}", f"{missing}", "Fill or drop them."
        )
    values = inner.to_numpy(zero_copy_only=False).reshape(shape)
    if values.dtype.kind != "u" or values.itemsize == 1:
        return values
    if values.dtype == np.uint64 and values.size and values.max() > np.iinfo(np.int64).max:
        raise checks.value_error(
            f"numbers below 2**63 in the column {name!r}", f"{values.max()}", "Write codes."
        )
    return values.astype(np.int64)


def _lengths_error(name: str, came: str) -> ValueError:
    return checks.value_error(
        f"lists of the same length in the column {name!r}", came, "Pad them, and pass a mask."
    )
