"""Examples as several arrays: parts of them, on a device, and batches."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Self, overload

import numpy as np
import torch
from torch import Tensor

from ppl_vae import checks
from ppl_vae.data.arrays import forms
from ppl_vae.data.arrays.entries import Entry, described, taken
from ppl_vae.data.arrays.sparse_rows import Index, SparseRows

Batch = Tensor | tuple[Tensor | None, ...] | dict[str, Tensor | None]


class Examples:
    """What `ArrayData` does with the arrays that it has looked at.

    Attributes:
        form: of a batch: ``Tensor``, ``tuple`` or ``dict``.
        arrays: the arguments by name.
        beside: arrays that batches leave out, by name.
        name: what the data are called.
        split: which part of them this is.
    """

    form: type
    arrays: dict[str, Entry]
    beside: dict[str, Entry]
    name: str
    split: str

    def __len__(self) -> int:
        return next(len(entry) for entry in self.arrays.values() if entry is not None)

    def __repr__(self) -> str:
        shown = ", ".join(described(key, entry) for key, entry in self.arrays.items())
        kind = type(self).__name__
        return f"{kind}({self.name}, split={self.split}, {len(self)} examples of {shown})"

    @overload
    def __getitem__(self, index: str) -> Tensor | None: ...
    @overload
    def __getitem__(self, index: Index) -> Self: ...
    def __getitem__(self, index: Any) -> Any:
        """Return a part of the data by a slice or a tensor of indices, or an array by its name.

        Raises:
            TypeError: `index` is a number.
            ValueError: no array has this name.
        """
        if isinstance(index, str):
            known = {**self.arrays, **self.beside}
            found = known[checks.name("array", index, known)]
            return found.dense(slice(None)) if isinstance(found, SparseRows) else found
        if isinstance(index, int) or getattr(index, "ndim", 1) == 0:
            raise checks.type_error(
                "a slice, a tensor of indices, or the name of an array",
                f"the number {int(index)}",
                f"Use data[{int(index)}:{int(index) + 1}] for one example.",
            )
        return self._each(lambda entry: entry[index])

    def to(self, device: torch.device | str) -> Self:
        """Return the data on `device`; sparse arrays are still sparse."""
        return self._each(lambda entry: entry.to(device))

    def batch(self, index: Index, *, dtype: torch.dtype | None = None) -> Batch:
        """Return the examples at `index` as the arguments of a program.

        Args:
            index: a slice or a tensor of indices.
            dtype: of the floats; torch's default dtype if None. Whole numbers and booleans keep
                theirs.
        """
        floats = dtype or torch.get_default_dtype()
        found = {key: taken(entry, index, floats) for key, entry in self.arrays.items()}
        if self.form is dict:
            return found
        values = tuple(found.values())
        return values if self.form is tuple else values[0]  # pyright: ignore[reportReturnType]

    def train_test_split(
        self, train: float | tuple[int, int] = 0.8, *, seed: int = 0
    ) -> tuple[Self, Self]:
        """Return two parts of the data, drawn at random, each in the order of the whole.

        Args:
            train: the fraction of the first part, or the sizes of both.
            seed: of the draw, which is the same on every device and leaves torch's streams alone.

        Raises:
            TypeError: neither a fraction nor two whole numbers.
            ValueError: an empty part, or sizes that do not make up all examples.
        """
        first, _ = forms.sizes(len(self), train)
        order = np.random.default_rng(seed).permutation(len(self))
        parts = []
        for rows, split in ((order[:first], "train"), (order[first:], "test")):
            part = self[torch.from_numpy(np.sort(rows))]
            part.split = split if self.split == "all" else f"{self.split}, {split}"
            parts.append(part)
        return parts[0], parts[1]

    def _each(self, change: Callable[[Tensor | SparseRows], Entry]) -> Self:
        def changed(entries: dict[str, Entry]) -> dict[str, Entry]:
            return {k: None if e is None else change(e) for k, e in entries.items()}

        part = object.__new__(type(self))
        part.__dict__.update(
            self.__dict__, arrays=changed(self.arrays), beside=changed(self.beside)
        )
        return part
