"""The rows of a sparse matrix, made dense a batch at a time."""

from __future__ import annotations

from typing import Any

import numpy as np
import torch
from torch import Tensor

Index = slice | Tensor


class SparseRows:
    """A sparse matrix by rows (CSR) on a device.

    Args:
        starts: where each row starts among the values, and where the last ends, (count + 1,).
        columns: of the values, (entries,).
        values: floats, (entries,).
        width: the number of columns.
    """

    def __init__(self, starts: Tensor, columns: Tensor, values: Tensor, width: int) -> None:
        self.starts, self.columns, self.values, self.width = starts, columns, values, width
        self.longest = int(starts.diff().max()) if len(starts) > 1 else 0

    @classmethod
    def from_scipy(cls, matrix: Any) -> SparseRows:  # noqa: ANN401
        """Return any of SciPy's sparse matrices; duplicate entries are added up."""
        rows = matrix.tocsr(copy=True)
        rows.sum_duplicates()
        values = rows.data
        if values.dtype.kind in "buif" and values.dtype not in (np.float32, np.float64):
            exact = not values.size or np.abs(values.astype(np.float64)).max() <= 2**24
            values = values.astype(np.float32 if exact else np.float64)
        starts = torch.from_numpy(rows.indptr.astype(np.int64))
        columns = torch.from_numpy(rows.indices.astype(np.int32))
        return cls(starts, columns, torch.from_numpy(values), rows.shape[1])

    def __len__(self) -> int:
        return len(self.starts) - 1

    @property
    def shape(self) -> torch.Size:
        """The shape of the matrix, (count, width)."""
        return torch.Size((len(self), self.width))

    @property
    def dtype(self) -> torch.dtype:
        """The dtype of the values."""
        return self.values.dtype

    @property
    def device(self) -> torch.device:
        """The device of the values."""
        return self.values.device

    def to(self, device: torch.device | str) -> SparseRows:
        """Return the matrix on `device`, still sparse."""
        return SparseRows(
            self.starts.to(device), self.columns.to(device), self.values.to(device), self.width
        )

    def __getitem__(self, index: Index) -> SparseRows:
        """Return the rows at `index`, still sparse."""
        lengths, where = self._entries(index)
        starts = torch.cat([lengths.new_zeros(1), lengths.cumsum(0)])
        return SparseRows(starts, self.columns[where], self.values[where], self.width)

    def dense(self, index: Index, dtype: torch.dtype | None = None) -> Tensor:
        """Return the rows at `index` as a tensor, (count, width).

        Every row takes as many steps as the longest, so that sizes are known without a wait for
        the device; what is beyond a row's end goes into a column that is cut off.
        """
        rows = torch.arange(len(self), device=self.device)[index]
        starts, ends = self.starts[rows, None], self.starts[rows + 1, None]
        where = starts + torch.arange(self.longest, device=self.device)
        inside, where = where < ends, where.clamp(max=max(len(self.values) - 1, 0))
        columns = torch.where(inside, self.columns[where].long(), self.width)
        result = self.values.new_zeros((len(rows), self.width + 1), dtype=dtype or self.dtype)
        result.scatter_(1, columns, self.values[where].to(result.dtype))
        return result[:, :-1].contiguous()

    def _entries(self, index: Index) -> tuple[Tensor, Tensor]:
        """Return how many entries each row at `index` has, and where they all are."""
        rows = torch.arange(len(self), device=self.device)[index]
        starts = self.starts[rows]
        lengths = self.starts[rows + 1] - starts
        ends = lengths.cumsum(0)
        total = int(ends[-1]) if len(ends) else 0
        shift = torch.repeat_interleave(starts - (ends - lengths), lengths, output_size=total)
        return lengths, torch.arange(total, device=self.device) + shift
