"""Data that are larger than memory."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from itertools import chain
from pathlib import Path
from typing import Any

import torch
from torch import Tensor
from torch.utils.data import DataLoader, IterableDataset

from ppl_vae import checks
from ppl_vae.data.shards.division import place, share, steps
from ppl_vae.data.shards.parquet import Piece, Rows, Table
from ppl_vae.seeding import derive

_AT_ONCE = 4096  # rows that are read
PathLike = str | Path


class ShardedData:
    """Rows of Parquet files that need not fit into memory.

    `fit` and the evaluation functions take it as they take a ``DataLoader``. Training sees the
    rows in another order every epoch: the row groups in a random order, their rows mixed within a
    buffer. Elsewhere they come in the order of the files. Both are functions of `seed`, the epoch
    and the process alone, so that a run resumes bit by bit.

    With several processes each reads a part of its own, in training and in evaluation, of as many
    steps as the others'; a batch is what all of them take in one step.

    Args:
        paths: a file, a folder, whose ``*.parquet`` are taken in the order of their names, or a
            list of these.
        columns: the arguments of the program, each with a column's name or a list of names, whose
            numbers become a matrix of floats. Lists of numbers become rows. `x` becomes floats;
            other whole numbers and booleans stay so. None takes all columns by their names; a
            lone one is the program's one argument.
        buffer: how many rows are mixed, at least 1; so many are in memory.
        seed: of the order.
        rank: this process's number, and
        world_size: how many there are. None takes those of ``torch.distributed`` where it is
            initialised, else the variables ``RANK`` and ``WORLD_SIZE``, which torchrun sets, else
            one process. They are looked up when reading begins.
        name: what to call the data.

    Raises:
        ImportError: the extra ``parquet`` is not installed.
        FileNotFoundError: no such file or folder, or none in it.
        TypeError: paths, columns or numbers of another kind; a column of text, dates or the like.
        ValueError: a file that is no Parquet file or has other columns than the first; an unknown
            column; no rows; missing values, lists of different lengths, numbers that no int64
            holds, or a file that was changed meanwhile, once they are read; fewer rows, or a
            smaller batch, than processes.

    Example:
        ``fit(pair, ShardedData("cells/", columns={"x": "counts", "batch": "donor"}))``
    """

    def __init__(
        self,
        paths: PathLike | Sequence[PathLike],
        *,
        columns: Mapping[str, str | Sequence[str]] | None = None,
        buffer: int = 10_000,
        seed: int = 0,
        rank: int | None = None,
        world_size: int | None = None,
        name: str = "shards",
    ) -> None:
        self.buffer, self.seed = (
            checks.count("buffer", buffer),
            checks.count("seed", seed, minimum=0),
        )
        self._given = rank, world_size
        if rank is not None or world_size is not None:
            place(rank, world_size)
        self._table = Table(paths, columns)
        self._is_tensor = columns is None and len(self._table.columns) == 1
        self.name = name

    def __len__(self) -> int:
        """Return how many rows there are, for all processes together."""
        return self._table.num_rows

    def __repr__(self) -> str:
        columns = ", ".join(self._table.columns)
        return (
            f"ShardedData({self.name}, {len(self)} rows of {columns} in "
            f"{len(self._table.files)} files, buffer={self.buffer}, seed={self.seed})"
        )

    def loader(self, batch_size: int = 128) -> DataLoader[Any]:
        """Return this process's part in batches, for a loop of your own or for Lightning.

        They come in the order of the files until ``loader.dataset.set_epoch(epoch)`` is called,
        with epochs from 1 on.

        Args:
            batch_size: rows a step, over all processes.
        """
        checks.count("batch_size", batch_size)
        rank, world_size = place(*self._given)
        sizes = steps(len(self), batch_size, world_size)
        ends = [sum(share(size, r, world_size) for size in sizes) for r in range(rank + 1)]
        part = _Part(
            self,
            self._table.pieces(sum(ends[:-1]), sum(ends)),
            [share(size, rank, world_size) for size in sizes],
            derive(self.seed, rank, world_size),
        )
        return DataLoader(part, batch_size=None)


class _Part(IterableDataset[Any]):
    """The batches of one process."""

    def __init__(
        self, data: ShardedData, pieces: list[Piece], sizes: list[int], seed: int
    ) -> None:
        self._data, self._pieces, self._sizes, self._seed = data, pieces, sizes, seed
        self._epoch = 0

    def set_epoch(self, epoch: int) -> None:
        """Choose the order of the next pass; 0 is that of the files."""
        self._epoch = epoch

    def __len__(self) -> int:
        return len(self._sizes)

    def __iter__(self) -> Iterator[Tensor | Rows]:
        table, pieces, buffer = self._data._table, self._pieces, self._data.buffer
        size = min(_AT_ONCE, buffer)
        if self._epoch == 0:
            rows = chain.from_iterable(table.read(piece, size) for piece in pieces)
        else:
            generator = torch.Generator().manual_seed(derive(self._seed, self._epoch))
            order = torch.randperm(len(pieces), generator=generator).tolist()
            rows = chain.from_iterable(table.read(pieces[place], size) for place in order)
            rows = _mixed(rows, buffer, generator)
        for batch in _batches(rows, self._sizes):
            yield next(iter(batch.values())) if self._data._is_tensor else batch


def _mixed(rows: Iterator[Rows], buffer: int, generator: torch.Generator) -> Iterator[Rows]:
    """Yield rows in a random order: each takes the place of one out of `buffer` that wait."""
    waiting: list[Rows] = []
    while sum(map(_length, waiting)) < buffer and (some := next(rows, None)) is not None:
        waiting.append(some)
    pool = _joined(waiting)
    del waiting
    for some in rows:
        order = torch.randperm(_length(pool), generator=generator)[: _length(some)]
        yield {name: values[order] for name, values in pool.items()}
        for name, values in pool.items():
            values[order] = some[name]
    order = torch.randperm(_length(pool), generator=generator)
    for part in order.split(_AT_ONCE):
        yield {name: values[part] for name, values in pool.items()}


def _batches(rows: Iterator[Rows], sizes: list[int]) -> Iterator[Rows]:
    """Yield the rows in batches of the sizes."""
    held: list[Rows] = []
    for size in sizes:
        while sum(map(_length, held)) < size:
            held.append(next(rows))
        whole = _joined(held)
        yield {name: values[:size] for name, values in whole.items()}
        held = [{name: values[size:] for name, values in whole.items()}]


def _length(rows: Rows) -> int:
    return len(next(iter(rows.values())))


def _joined(parts: list[Rows]) -> Rows:
    if len(parts) == 1:
        return parts[0]
    return {name: torch.cat([part[name] for part in parts]) for name in parts[0]}
