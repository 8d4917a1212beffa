"""Coordinates in which an integral over R, a half-line or an interval is one over (-1, 1)."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor
from torch.distributions import constraints

from ppl_vae import checks

Bounds = tuple[Tensor, Tensor]

# sinh of it, and the square of that, are numbers of the dtype.
_FARTHEST = {torch.float64: 300.0, torch.float32: 25.0}


@dataclass(frozen=True)
class Coordinates:
    """A smooth one-to-one map from the cube (-1, 1)^dim onto the support, for every batch element.

    ``v = sinh(t / (1 - t^2))``, ``w = origin + scale_tril v``, ``z = squash(w)``: the identity on
    R; on a half-line above a ``a + s softplus((w - a) / s)``, which is the identity far from a
    and decays like exp(w / s) towards it, so that integrable poles at an end do no harm; on an
    interval the same at both ends. The sinh makes tails that fall like a power of z fall
    exponentially.

    Attributes:
        origin: (*batch, dim), float64.
        scale_tril: (*batch, dim, dim), lower triangular.
        bounds: ends of the support, each (*batch, dim); infinite where there is none.
        dtype: of the points; everything is computed in float64.
    """

    origin: Tensor
    scale_tril: Tensor
    bounds: Bounds
    dtype: torch.dtype

    @classmethod
    def around(
        cls, centre: Tensor, scale_tril: Tensor, bounds: Bounds, dtype: torch.dtype
    ) -> Coordinates:
        """Return coordinates in which t = 0 is `centre`, with `scale_tril` as the unit there.

        The centre, (*batch, dim), is in the units of z and within the bounds.
        """
        lower, upper = bounds
        centre = inside(centre, bounds)
        # On an interval the unit is at most its width.
        size = _row_norms(scale_tril)
        scale_tril = scale_tril * ((upper - lower) / size).clamp(max=1).unsqueeze(-1)
        size = _row_norms(scale_tril)
        origin = centre
        below, above = (centre - lower) / size, (upper - centre) / size
        if not _unbounded(lower):
            origin = lower + size * _inverse_softplus(below)
            if not _unbounded(upper):
                origin = origin - size * _log1mexp(above)
        elif not _unbounded(upper):
            origin = upper - size * _inverse_softplus(above)
        return cls(origin, scale_tril, bounds, dtype)

    @property
    def size(self) -> Tensor:
        """The unit of length of each dimension of z about the origin, (*batch, dim)."""
        return _row_norms(self.scale_tril)

    def __call__(self, t: Tensor) -> tuple[Tensor, Tensor]:
        """Return points z, (num_points, *batch, dim), and log |dz/dt|, (num_points, *batch).

        Args:
            t: (num_points, dim), or (num_points, *batch, dim), within (-1, 1). Too near the ends
                for z to be a float, the slope is returned as 0.
        """
        if t.dim() == 2:
            t = t.reshape(len(t), *(1 for _ in self.origin.shape[:-1]), t.shape[-1])
        rest = (1 - t) * (1 + t)
        u = t / rest
        # Also where rounding has put t on an end.
        far = ~(u.abs() < _FARTHEST.get(self.dtype, 5.0))
        u = torch.where(far, 0.0, u)
        w = self.origin + (self.scale_tril @ u.sinh().unsqueeze(-1)).squeeze(-1)
        log_slope = u.abs() + torch.log1p(torch.exp(-2 * u.abs())) - math.log(2)
        log_slope = log_slope + torch.log1p(t * t) - 2 * rest.log()
        log_slope = torch.where(far, -math.inf, log_slope).sum(-1)
        log_slope = log_slope + self.scale_tril.diagonal(dim1=-2, dim2=-1).log().sum(-1)
        z, log_squash = _squash(w, *self.bounds, self.size)
        return inside(z.to(self.dtype), self.bounds), log_slope + log_squash.sum(-1)

    def inverse(self, z: Tensor) -> Tensor:
        """Return t of points z, (num_points, *batch, dim), where the support is the whole line."""
        v = torch.linalg.solve_triangular(
            self.scale_tril, (z - self.origin).unsqueeze(-1), upper=False
        ).squeeze(-1)
        w = v.asinh()
        return 2 * w / (1 + (1 + 4 * w.square()).sqrt())


def stretch_at(t: Tensor) -> Tensor:
    """Return dv/dt of ``v = sinh(t / (1 - t^2))``, elementwise."""
    rest = (1 - t) * (1 + t)
    return (t / rest).cosh() * (1 + t.square()) / rest.square()


def midpoints(dim: int, device: torch.device, side: int | None = None) -> Tensor:
    """Return the centres of equal cells in (-1, 1)^dim, (count, dim); few of them by default."""
    side = side or {1: 201, 2: 41}[dim]
    line = (2 * torch.arange(side, dtype=torch.float64, device=device) + 1) / side - 1
    return torch.cartesian_prod(*[line] * dim).reshape(-1, dim)


def cell_sizes(grid: Tensor) -> Tensor:
    """Return how wide the cells of `midpoints` are in v, (count, dim)."""
    side = round(len(grid) ** (1 / grid.shape[-1]))
    return stretch_at(grid) * (2 / side)


def bounds_of(support: constraints.Constraint | None, shape: torch.Size) -> Bounds:
    """Return the ends of a support as tensors of `shape`, float64.

    Raises:
        TypeError: the support is not R, a half-line or an interval in every dimension.
    """
    inner: Any = support
    while hasattr(inner, "base_constraint"):
        inner = inner.base_constraint
    known = (
        type(constraints.real),
        constraints.greater_than,
        constraints.greater_than_eq,
        constraints.less_than,
        constraints.interval,
        constraints.half_open_interval,
    )
    if not isinstance(inner, known):
        raise TypeError(
            checks.message(
                "a support that is the real line, a half-line or an interval in each dimension",
                f"{support}",
                "Transform the variable, or use method='monte-carlo'.",
            )
        )
    ends = getattr(inner, "lower_bound", -math.inf), getattr(inner, "upper_bound", math.inf)
    lower, upper = (torch.as_tensor(end).detach().double().expand(shape) for end in ends)
    return lower, upper


def inside(z: Tensor, bounds: Bounds) -> Tensor:
    """Return `z` with what rounding has put on an end of the support moved just within."""
    lower, upper = (b.to(z.dtype) for b in bounds)
    infinity = torch.tensor(torch.inf, dtype=z.dtype, device=z.device)
    if not _unbounded(lower):
        z = z.maximum(torch.nextafter(lower, infinity))
    if not _unbounded(upper):
        z = z.minimum(torch.nextafter(upper, -infinity))
    return z


def about_bulk(
    points: Tensor,
    bounds: Bounds,
    dtype: torch.dtype,
    *,
    weights: Tensor | None = None,
    blur: Tensor | None = None,
) -> Coordinates:
    """Return coordinates about the bulk of some draws or weighted points, whatever the tails.

    The centre is the median, the unit half the width of the central 68 per cent, and correlation
    that of the points after they are cut off at three units.

    Args:
        points: (count, *batch, dim), float64.
        bounds: of the support, each (*batch, dim).
        dtype: of the points that the coordinates are to return.
        weights: (count, *batch), each batch element's sum 1; equal if None.
        blur: a square root, (*batch, dim, dim), of what is added to the covariance, so that it
            is no sharper than what the points could resolve.
    """
    if weights is None:
        weights = points.new_ones(points.shape[:-1]) / len(points)
    ordered, order = points.sort(dim=0)
    reached = weights.unsqueeze(-1).expand_as(points).gather(0, order).cumsum(0)
    low, centre, high = (
        ordered.gather(0, (reached < share).sum(0, keepdim=True).clamp(max=len(points) - 1))[0]
        for share in (0.1587, 0.5, 0.8413)
    )
    smallest = torch.finfo(points.dtype).eps * centre.abs().clamp(min=1e-280)
    if blur is not None:
        smallest = smallest.maximum(1e-6 * _row_norms(blur))
    size = ((high - low) / 2).maximum(smallest)
    cut = ((points - centre) / size).clamp(-3, 3)
    cut = cut - (weights.unsqueeze(-1) * cut).sum(0)
    covariance = torch.einsum("n...i,n...j->...ij", weights.unsqueeze(-1) * cut, cut)
    spread = covariance.diagonal(dim1=-2, dim2=-1).sqrt().clamp(min=1e-3)
    correlation = covariance / (spread.unsqueeze(-1) * spread.unsqueeze(-2))
    eye = torch.eye(points.shape[-1], dtype=points.dtype, device=points.device)
    # A little shrunk, so that the factor exists.
    inner = torch.where(eye == 1, 1 + 1e-10, correlation)
    if blur is not None:
        rows = blur / size.unsqueeze(-1)
        inner = inner + rows @ rows.mT
    factor = size.unsqueeze(-1) * torch.linalg.cholesky_ex(inner).L
    return Coordinates.around(centre, factor, bounds, dtype)


def _squash(w: Tensor, lower: Tensor, upper: Tensor, size: Tensor) -> tuple[Tensor, Tensor]:
    """Return z on the support and log dz/dw, both like `w`."""
    below, above = (w - lower) / size, (w - upper) / size
    if _unbounded(lower) and _unbounded(upper):
        return w, torch.zeros_like(w)
    if _unbounded(upper):
        return lower + size * _softplus(below), -_softplus(-below)
    if _unbounded(lower):
        return upper - size * _softplus(-above), -_softplus(above)
    from_lower = lower + size * (_softplus(below) - _softplus(above))
    from_upper = upper - size * (_softplus(-above) - _softplus(-below))
    z = torch.where(below + above < 0, from_lower, from_upper)
    width = _log1mexp(below - above)
    return z, width - _softplus(-below) - _softplus(above)


def _softplus(x: Tensor) -> Tensor:
    return torch.logaddexp(x, torch.zeros_like(x))


def _inverse_softplus(y: Tensor) -> Tensor:
    return y + _log1mexp(y)


def _log1mexp(y: Tensor) -> Tensor:
    return torch.log(-torch.expm1(-y.clamp(min=1e-300)))


def _row_norms(matrix: Tensor) -> Tensor:
    return matrix.square().sum(-1).sqrt()


def _unbounded(end: Tensor) -> bool:
    return bool(end.isinf().all())
