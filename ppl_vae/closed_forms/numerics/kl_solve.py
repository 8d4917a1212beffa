"""Triangular systems solved to the last digits, also where the matrix is nearly singular."""

from __future__ import annotations

import torch
from torch import Tensor

from ppl_vae.closed_forms.numerics.kl_terms import power_above, two_difference

_NUM_SLICES = 4
_CHUNK_ENTRIES = 1 << 20


def solve_lower(factor: Tensor, right: Tensor, rest: Tensor) -> Tensor:
    """Return X with `factor @ X = right + rest`, for a lower triangular float64 `factor`.

    `rest` is the rounding error of `right`, (*batch, d, n). One step of refinement, with a
    residual that is exact to about 80 bits, removes the rounding that the condition number of the
    factor amplifies. It carries no gradient; the plain solution does.
    """
    plain = torch.linalg.solve_triangular(factor, right, upper=False)
    if plain.numel() == 0:
        return plain
    with torch.no_grad():
        correction = _correction(factor, plain, right, rest)
    return plain + correction


def _correction(factor: Tensor, solution: Tensor, right: Tensor, rest: Tensor) -> Tensor:
    batch, (size, width) = solution.shape[:-2], solution.shape[-2:]
    count = batch.numel() * size * max(size, width) // _CHUNK_ENTRIES + 1
    if batch and count > 1:
        # Temporaries of a few megabytes are allocated faster than those of a whole batch.
        flat = (
            x.expand(*batch, *x.shape[-2:]).flatten(0, -3) for x in (factor, solution, right, rest)
        )
        chunks = zip(*(x.chunk(count) for x in flat), strict=True)
        return torch.cat([_refine(*chunk) for chunk in chunks]).reshape(solution.shape)
    return _refine(factor, solution, right, rest)


def _refine(factor: Tensor, solution: Tensor, right: Tensor, rest: Tensor) -> Tensor:
    residual = _residual(factor, solution, right) + rest
    return torch.linalg.solve_triangular(factor, residual, upper=False)


def _residual(factor: Tensor, solution: Tensor, right: Tensor) -> Tensor:
    """Return `right - factor @ solution`; 0 where that would not be exact enough.

    Source:
        Ozaki, Ogita, Oishi and Rump 2012: entries are cut into slices of so few bits that
        products of slices are summed without rounding, whatever the order. Scaling by powers of
        two beforehand makes rows and columns of very different size no obstacle.
    """
    size = factor.shape[-1]
    bits = (52 - (size - 1).bit_length()) // 2
    row = power_above(solution.abs().amax(-1, keepdim=True))
    factor, solution = factor * row.mT, solution / row
    column = power_above(solution.abs().amax(-2, keepdim=True))
    scale = power_above(factor.abs().amax(-1, keepdim=True))
    factor, solution, scaled = factor / scale, solution / column, right / scale / column
    left_slices, right_slices = _slices(factor, bits), _slices(solution, bits)
    residual, lost = scaled, torch.zeros_like(scaled)
    for order in range(_NUM_SLICES):
        product = left_slices[0] @ right_slices[order]
        for k in range(1, order + 1):
            product = product + left_slices[k] @ right_slices[order - k]
        residual, off = two_difference(residual, product)
        lost = lost + off
    weight = factor.abs() @ solution.abs()
    exact = (weight == 0) | (weight > 4 * size * 2.0 ** (53 - _NUM_SLICES * bits))
    residual = torch.where(exact, residual + lost, 0.0)
    return residual * column * scale


def _slices(x: Tensor, bits: int) -> list[Tensor]:
    """Cut entries of at most 1 in size into multiples of 2^-bits, 2^-2bits, and so on."""
    parts = []
    for k in range(1, _NUM_SLICES + 1):
        shift = 0.75 * 2.0 ** (53 - k * bits)
        part = (x + shift) - shift
        parts.append(part)
        x = x - part
    return parts
