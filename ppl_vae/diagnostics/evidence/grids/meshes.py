"""Adaptive integration of many functions over a cube, each with a mesh of its own."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor

from ppl_vae.diagnostics.evidence.grids.cells import ROOTS_PER_SIDE, Cells, product_rule

Values = Callable[[Tensor, Tensor], Tensor]
_MOST_ROUNDS = 60
_SMALLEST = 1e-14
_LUCK = 0.02
_SMALL_PART = 1e-4
_ROUGH = 0.05
_MARGIN = 4.0


@dataclass(frozen=True)
class Meshed:
    """Integrals of exp(log-values), each over a mesh of its own.

    Attributes:
        log_value: (count,), float64.
        error: relative, (count,): see `integrate_each`.
        num_points: at which each was evaluated, (count,).
        converged: whether the error is below what was asked for, (count,).
        points: of the last meshes, (most, count, dim), if they were to be kept.
        weights: the shares of the integral that they stand for, (most, count).
    """

    log_value: Tensor
    error: Tensor
    num_points: Tensor
    converged: Tensor
    points: Tensor | None = None
    weights: Tensor | None = None


def integrate_each(
    values: Values,
    *,
    count: int,
    dim: int,
    tolerance: float,
    max_points: int,
    device: torch.device,
    must_split: Callable[[Cells], Tensor] | None = None,
    keep_points: bool = False,
) -> Meshed:
    """Integrate `count` functions over (-1, 1)^dim, until each is right to `tolerance`.

    Each starts with a mesh of equal cells. In every round the cells with the largest errors are
    halved in all dimensions, so many that the rest has half of the error allowed. The rule in a
    cell is Kronrod's of 7 points per dimension. Its error is taken to be the distance to the Gauss
    rule of 3 that is in it, or, for a halved cell, by how much the halves changed its integral,
    if that is less. A function's error is the sum of its cells' errors, plus four times
    the root of the sum of their squares: in many cells with kinks they have either sign.

    Args:
        values: from owners, (cells,), and points, (points, cells, dim), to the logarithms of the
            functions' values, (points, cells).
        count: of functions.
        dim: 1 or 2.
        tolerance: relative, of each integral.
        max_points: for each function, where to stop.
        device: of the points.
        must_split: which cells are to be halved whatever their error, (cells,).
        keep_points: whether to return the points with their weights.

    Source:
        Genz and Malik 1980 (adaptive cubature by the largest error); rule: Kronrod 1965.
    """
    mesh = _Mesh(values, count, dim, device, must_split, keep_points=keep_points)
    mesh.add(Cells.roots(count, dim, device))
    for _ in range(_MOST_ROUNDS):
        chosen = mesh.worst(tolerance, max_points)
        if not bool(chosen.any()):
            break
        mesh.split(chosen)
    return mesh.result(tolerance)


class _Mesh:
    """The cells of all functions with what the two rules give in each."""

    def __init__(
        self,
        values: Values,
        count: int,
        dim: int,
        device: torch.device,
        must_split: Callable[[Cells], Tensor] | None,
        *,
        keep_points: bool,
    ) -> None:
        self._values, self._count, self._must_split = values, count, must_split
        self._points, self._weights = (r.to(device) for r in product_rule(dim))
        none = torch.zeros(0, dtype=torch.float64, device=device)
        self._cells = Cells(none.long(), none.new_zeros(0, dim), none)
        self._sums, self._forced = none.new_zeros(0, 2), none.bool()
        # The values are kept relative to the largest that each function has shown.
        self._top = none.new_full((count,), -math.inf)
        self._used = none.new_zeros(count).long()
        # Log-values at the points of each cell, with the rule's weights.
        self._logs = none.new_zeros(0, len(self._points)) if keep_points else None

    def add(self, new: Cells, parents: Tensor | None = None) -> None:
        """Evaluate the functions in new cells.

        If they are halves, those of one cell stand together, and `parents` is what the rule gave
        in the cells that were halved.
        """
        t = new.centre + new.half[:, None] * self._points.unsqueeze(1)
        logs = self._values(new.owner, t)
        top = self._top.scatter_reduce(0, new.owner, logs.amax(0), "amax")
        finite = top.nan_to_num(0.0, neginf=0.0)
        relative = (logs - finite[new.owner]).exp()
        volume = (new.half ** t.shape[-1]).unsqueeze(-1)
        value, gauss = (torch.einsum("pc,pr->cr", relative, self._weights) * volume).unbind(-1)
        error = value - gauss
        fade = (self._top - finite).exp()
        if parents is not None:
            halves = 2 ** t.shape[-1]
            before = parents * fade[new.owner[::halves]]
            missed = value.unflatten(0, (-1, halves)).sum(1) - before
            size = error.abs()
            both = size.unflatten(0, (-1, halves)).sum(1).repeat_interleave(halves)
            share = size / both.clamp(min=1e-300)
            # What the whole cell missed is more than what its halves do; the floor is for luck.
            size = (share * missed.abs().repeat_interleave(halves)).clamp(_LUCK * size, size)
            error = size * missed.sign().repeat_interleave(halves)
        old = self._sums * fade[self._cells.owner].unsqueeze(-1)
        self._sums = torch.cat([old, torch.stack([value, error], -1)])
        self._top = top
        self._used += torch.bincount(new.owner, minlength=self._count) * len(self._points)
        if self._logs is not None:
            mass = logs.T + (self._weights[:, 0] * volume).log()
            self._logs = torch.cat([self._logs, mass])
        never = torch.zeros_like(new.half, dtype=torch.bool)
        forced = never if self._must_split is None else self._must_split(new)
        self._forced = torch.cat([self._forced, forced])
        both = zip(vars(self._cells).values(), vars(new).values(), strict=True)
        self._cells = Cells(*(torch.cat(pair) for pair in both))

    def split(self, chosen: Tensor) -> None:
        """Put their halves in the place of the chosen cells."""
        whole, values = self._cells[chosen], self._sums[chosen, 0]
        self._cells = self._cells[~chosen]
        self._sums, self._forced = self._sums[~chosen], self._forced[~chosen]
        if self._logs is not None:
            self._logs = self._logs[~chosen]
        self.add(whole.split(), values)

    def worst(self, tolerance: float, max_points: int) -> Tensor:
        """Return which cells to split, (cells,)."""
        owner, error = self._cells.owner, self._errors()
        # From the smallest error on, as long as they together are half of what is allowed.
        order = error.abs().argsort()
        order = order[owner[order].argsort(stable=True)]
        sums = (_running_sums(v[order], owner[order]) for v in (error, error**2))
        together = _error_bound(*sums)
        over = torch.empty_like(self._forced)
        over[order] = together > tolerance / 2
        late = self._total_errors(error) > tolerance
        # Where two rules in one cell agree by chance, halves tell; a part that counts has some.
        total = _by_owner(self._sums[:, 0], owner, self._count)
        whole = self._cells.half == 1 / ROOTS_PER_SIDE[self._points.shape[-1]]
        unsure = whole & (self._sums[:, 0] > _SMALL_PART * total[owner])
        room = (self._used < max_points)[owner] & (self._cells.half > _SMALLEST)
        unsure = unsure & (tolerance < _ROUGH)
        return (self._forced | unsure | (over & late[owner])) & room

    def result(self, tolerance: float) -> Meshed:
        """Return the integrals."""
        total = _by_owner(self._sums[:, 0], self._cells.owner, self._count)
        error = self._total_errors(self._errors())
        value = total.log() + self._top
        kept = () if self._logs is None else self._weighted(self._logs, value)
        return Meshed(value, error, self._used, error <= tolerance, *kept)

    def _weighted(self, logs: Tensor, value: Tensor) -> tuple[Tensor, Tensor]:
        """Return points, (most, count, dim), and their shares, (most, count), 0 where padded."""
        cells = self._cells
        order = cells.owner.argsort(stable=True)
        owner = cells.owner[order]
        place = torch.arange(len(owner), device=owner.device) - torch.searchsorted(owner, owner)
        shape = int(place.max()) + 1, self._count, len(self._points)
        t = cells.centre + cells.half[:, None] * self._points.unsqueeze(1)
        points = t.new_zeros(*shape, t.shape[-1])
        points[place, owner] = t.movedim(0, 1)[order]
        weights = t.new_zeros(shape)
        weights[place, owner] = (logs - value[cells.owner].unsqueeze(-1)).exp()[order]
        return points.movedim(2, 1).flatten(0, 1), weights.movedim(2, 1).flatten(0, 1)

    def _total_errors(self, error: Tensor) -> Tensor:
        owner = self._cells.owner
        return _error_bound(*(_by_owner(v, owner, self._count) for v in (error, error**2)))

    def _errors(self) -> Tensor:
        """Return the error in each cell, relative to the whole integral."""
        total = _by_owner(self._sums[:, 0], self._cells.owner, self._count)
        return self._sums[:, 1] / total.clamp(min=1e-300)[self._cells.owner]


def _error_bound(total: Tensor, squares: Tensor) -> Tensor:
    """Return a bound of the sum of errors, from the sum of their estimates and of the squares."""
    return total.abs() + _MARGIN * squares.clamp(min=0).sqrt()


def _running_sums(values: Tensor, owner: Tensor) -> Tensor:
    """Return cumulative sums that start again with every owner; the owners are in order."""
    sums = values.cumsum(0)
    owner = owner.contiguous()
    first = torch.searchsorted(owner, owner)
    return sums - torch.where(first > 0, sums[(first - 1).clamp(min=0)], 0.0)


def _by_owner(values: Tensor, owner: Tensor, count: int) -> Tensor:
    return values.new_zeros(count).index_add(0, owner, values)
