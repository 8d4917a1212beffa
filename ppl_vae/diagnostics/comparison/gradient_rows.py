"""One parameter's gradients in many replicates, their components, means and variances."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor


@dataclass
class Dense:
    """Gradients as they are.

    Attributes:
        values: (count, *shape of the parameter).
    """

    values: Tensor

    def along(self, direction: Tensor) -> Tensor:
        """Return the components along a direction in the shape of the parameter, (count,)."""
        return self.values.reshape(len(self.values), -1) @ direction.flatten()

    def moments(self) -> tuple[Tensor, Tensor]:
        """Return the sum, and the unbiased variance summed over the entries, ()."""
        # From the first, so that equal ones have a variance of exactly 0.
        first, count = self.values[0], len(self.values)
        rest = self.values - first
        total = rest.sum(0)
        squares = torch.linalg.vector_norm(rest).square()
        variance = (squares - total.square().sum() / count) / (count - 1)
        return total + count * first, variance

    def split(self, sizes: Sequence[int]) -> list[Dense]:
        """Return the replicates in parts."""
        return [Dense(part) for part in self.values.split(sizes)]


@dataclass
class Product:
    """Gradients of a layer's weight whose input does not depend on the noise.

        G_r = A_r B,   sum_r G_r = (sum_r A_r) B,   |G_r|^2 = sum of (A_r' A_r) * (B B')

    with the examples as the inner dimension: no gradient is worked out.

    Attributes:
        left: A, (count, rows, inner).
        right: B, (inner, columns), the same in every replicate.
        turned: whether the weight is the transpose of this.
    """

    left: Tensor
    right: Tensor
    turned: bool

    def along(self, direction: Tensor) -> Tensor:
        """Return the components along a direction in the shape of the parameter, (count,)."""
        direction = direction.T if self.turned else direction
        return self.left.reshape(len(self.left), -1) @ (direction @ self.right.T).flatten()

    def moments(self) -> tuple[Tensor, Tensor]:
        """Return the sum, and the unbiased variance summed over the entries, ()."""
        first, count = self.left[0], len(self.left)
        rest = self.left - first
        total = rest.sum(0)
        squares = (rest.mT @ rest).sum(0) - total.T @ total / count
        variance = (squares * (self.right @ self.right.T)).sum() / (count - 1)
        whole = (total + count * first) @ self.right
        return whole.T if self.turned else whole, variance

    def split(self, sizes: Sequence[int]) -> list[Product]:
        """Return the replicates in parts."""
        return [Product(part, self.right, self.turned) for part in self.left.split(sizes)]

    def dense(self) -> Dense:
        """Return the gradients themselves."""
        found = self.left @ self.right
        return Dense(found.mT if self.turned else found)


Rows = Dense | Product
