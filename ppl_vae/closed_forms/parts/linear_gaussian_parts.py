"""What the linear Gaussian model's answers share: checks, factorisation, quadratic form.

In units of the noise, A = W / s and r = (x - b) / s, every answer follows from one k x k matrix:
T, lower triangular with T'T = I + A'A, the posterior precision. T comes from an orthogonal
factorisation of A above I. A'A is never formed, as it would cost half the digits where the noise
is small beside W.
"""

from __future__ import annotations

import torch
from torch import Tensor

from ppl_vae.checks import (
    Real,
    broadcastable,
    finite,
    floats,
    nonempty,
    positive,
    value_error,
    values_are_checked,
)
from ppl_vae.closed_forms.numerics.special import HALF_LOG_TWO_PI


def prepare(
    x: Tensor, weight: Tensor, loc: Real, noise_scale: Real, **guide: Real
) -> tuple[Tensor, ...]:
    """Check the model's arguments; return x, then x - b, W and s in float64, then the guide's."""
    x, weight, loc, noise_scale, *guide_tensors = floats(
        x=x, weight=weight, loc=loc, noise_scale=noise_scale, **guide
    )
    if weight.dim() != 2:
        raise _shape_error("weight", weight, "(d, k)")
    d = nonempty("weight", weight).shape[0]
    require_shape("x", x, f"(*batch, d) with d = {d}, the rows of weight", (d,))
    if loc.shape not in ((), (d,)):
        raise _shape_error("loc", loc, f"({d},) or ()")
    if noise_scale.numel() != 1:
        raise _shape_error("noise_scale", noise_scale, "() (one number)")
    require_finite("x", x)
    require_finite("weight", weight)
    require_finite("loc", loc)
    s = positive("noise_scale", noise_scale).double().reshape(())
    return x, x.double() - loc.double(), weight.double(), s, *guide_tensors


def factor(weight: Tensor, s: Tensor) -> tuple[Tensor, Tensor]:
    """Return T (k, k), its diagonal above 0, and the gain M^-1 W' (k, d)."""
    d = weight.shape[0]
    # QR of the columns in reverse order is QL, which leaves T lower triangular.
    q, t = torch.linalg.qr(torch.cat([weight / s, identity(weight)]).flip(-1))
    q, t = q.flip(-1), t.flip((-2, -1))
    sign = torch.where(t.detach().diagonal() < 0, -1.0, 1.0).to(t)
    t = t * sign[:, None]
    return t, torch.linalg.solve_triangular(t, (q[:d] * sign).mT, upper=False) / s


def identity(like: Tensor) -> Tensor:
    """Return the identity matrix with the columns, dtype and device of `like`."""
    return torch.eye(like.shape[-1], dtype=like.dtype, device=like.device)


def energy(difference: Tensor, weight: Tensor, s: Tensor, z: Tensor) -> Tensor:
    """Return |r - A z|^2 + |z|^2, which is -2 log p(x, z) except for constants."""
    batch = torch.broadcast_shapes(difference.shape[:-1], z.shape[:-1])
    rows, codes = (t.expand(*batch, -1).reshape(-1, t.shape[-1]) for t in (difference, z))
    residual = torch.addmm(rows, codes, weight.mT, alpha=-1)
    scaled = residual.square().sum(-1) / s.square()
    return (scaled + codes.square().sum(-1)).reshape(batch)


def log_normaliser(weight: Tensor, s: Tensor) -> Tensor:
    """Return (d / 2) log(2 pi s^2)."""
    return weight.shape[0] * (HALF_LOG_TWO_PI + s.log())


def guide_mean(guide_loc: Tensor, weight: Tensor) -> Tensor:
    """Check the guide's mean; return it in float64."""
    require_shape("guide_loc", guide_loc, "(*batch, k) or (k,)", weight.shape[1:])
    require_finite("guide_loc", guide_loc)
    return guide_loc.double()


def require_batches(**batches: Tensor) -> None:
    """Raise ValueError unless the batches broadcast."""
    broadcastable(**{f"the batch of {name}": batch for name, batch in batches.items()})


def require_finite(name: str, value: Tensor) -> None:
    """Raise ValueError if `value` is empty or has a NaN or an infinity."""
    # The extremes take one pass and no memory; `finite` takes several, and says what it found.
    extremes = torch.stack(torch.aminmax(nonempty(name, value).detach()))
    if values_are_checked() and not bool(extremes.isfinite().all()):
        finite(name, value)


def require_lower_triangular(name: str, value: Tensor) -> None:
    """Raise ValueError unless every matrix is lower triangular, its diagonal above 0."""
    positive(f"the diagonal of {name}", value.diagonal(dim1=-2, dim2=-1))
    if not values_are_checked():
        return
    # Row by row: a copy of the upper triangles would be as large as `value`.
    above = [value[..., row, row + 1 :].any() for row in range(value.shape[-1])]
    if bool(torch.stack(above).any()):
        raise value_error(
            f"{name}: lower triangular matrices only",
            "entries other than 0 above the diagonal",
            "Pass the Cholesky factor of the covariance, not the covariance.",
        )


def require_shape(name: str, value: Tensor, expected: str, trailing: tuple[int, ...]) -> None:
    """Raise ValueError unless the last dimensions are `trailing`."""
    if value.shape[-len(trailing) :] != trailing:
        raise _shape_error(name, value, expected)


def _shape_error(name: str, value: Tensor, expected: str) -> ValueError:
    return value_error(f"{name} of shape {expected}", f"{tuple(value.shape)}", "Reshape it.")
