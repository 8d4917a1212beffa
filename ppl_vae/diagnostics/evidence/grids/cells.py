"""Cells of a cube, and the rules by which a function is integrated over one."""

from __future__ import annotations

import math
from dataclasses import dataclass
from functools import lru_cache

import torch
from torch import Tensor

from ppl_vae.diagnostics.quadrature.coordinates import midpoints

ROOTS_PER_SIDE = {1: 16, 2: 8}


@dataclass(frozen=True)
class Cells:
    """Parts of the cube, for all functions.

    Attributes:
        owner: the index of the function that each belongs to, (cells,).
        centre: (cells, dim).
        half: half the width, (cells,).
    """

    owner: Tensor
    centre: Tensor
    half: Tensor

    def __getitem__(self, index: Tensor) -> Cells:
        return Cells(self.owner[index], self.centre[index], self.half[index])

    def split(self) -> Cells:
        """Return the halves of every cell in every dimension."""
        dim = self.centre.shape[-1]
        side = torch.tensor([-0.5, 0.5], dtype=self.centre.dtype, device=self.centre.device)
        corners = torch.cartesian_prod(*[side] * dim).reshape(-1, dim)
        centre = self.centre.unsqueeze(1) + self.half[:, None, None] * corners
        count = len(corners)
        return Cells(
            self.owner.repeat_interleave(count),
            centre.flatten(0, 1),
            (self.half / 2).repeat_interleave(count),
        )

    @classmethod
    def roots(cls, count: int, dim: int, device: torch.device) -> Cells:
        """Return the mesh that every function starts with."""
        side = ROOTS_PER_SIDE[dim]
        centre = midpoints(dim, device, side)
        return cls(
            torch.arange(count, device=device).repeat_interleave(len(centre)),
            centre.repeat(count, 1),
            torch.full((count * len(centre),), 1 / side, dtype=torch.float64, device=device),
        )


@lru_cache(maxsize=2)
def product_rule(dim: int) -> tuple[Tensor, Tensor]:
    """Return points, (7^dim, dim), and the weights of both rules at them, (7^dim, 2)."""
    points, kronrod, gauss = rule()
    weights = torch.stack([kronrod, gauss])
    index = torch.cartesian_prod(*[torch.arange(7)] * dim).reshape(-1, dim)
    return points[index], weights[:, index].prod(-1).T.contiguous()


def rule() -> tuple[Tensor, Tensor, Tensor]:
    """Return 7 points in (-1, 1) and their weights in Kronrod's rule and in Gauss's of 3 points.

    Example:
        >>> x, kronrod, gauss = rule()
        >>> round(float((kronrod * x**10).sum()) * 11, 12)
        2.0
    """
    # Gauss: roots of P_3. Kronrod adds the roots of x^4 - 10/9 x^2 + 155/891.
    root = math.sqrt(100 / 81 - 620 / 891)
    outer, inner = (math.sqrt((10 / 9 + sign * root) / 2) for sign in (1, -1))
    third = math.sqrt(3 / 5)
    x = torch.tensor([-outer, -third, -inner, 0.0, inner, third, outer], dtype=torch.float64)
    degrees = torch.arange(7, dtype=torch.float64)
    moments = torch.where(degrees % 2 == 0, 2 / (degrees + 1), 0.0)
    kronrod = torch.linalg.solve(x ** degrees.unsqueeze(-1), moments)
    gauss = torch.tensor([0, 5 / 9, 0, 8 / 9, 0, 5 / 9, 0], dtype=torch.float64)
    return x, kronrod, gauss
