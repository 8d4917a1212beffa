"""The Normal distribution truncated to positive values."""

from __future__ import annotations

from typing import Any

import torch
from torch import Size, Tensor
from torch.distributions import Distribution, constraints

from ppl_vae import checks
from ppl_vae.checks import Real
from ppl_vae.closed_forms.numerics.special import (
    HALF_LOG_TWO_PI,
    cumulant,
    hazard,
    split_log_ndtr,
)
from ppl_vae.closed_forms.numerics.truncated_normal_quantile import (
    INFINITE,
    distribution,
    quantile,
)

__all__ = ["TruncatedNormal"]


class TruncatedNormal(Distribution):
    """Normal(loc, scale) truncated to z > 0.

    ``p(z) = phi((z - loc) / scale) / (scale Phi(loc / scale))`` for z >= 0. Accurate for loc/scale
    of either sign up to 1e4 and beyond: towards minus infinity it tends to an Exponential of rate
    |loc| / scale^2.

    Args:
        loc: location of the Normal before truncation; any batch shape.
        scale: its scale, above 0; broadcasts against `loc`.
        dtype: dtype of everything returned; by default that of `loc` and `scale`. Parameters are
            kept, and everything is computed, in float64.
        validate_args: whether to check arguments and values, as in torch.distributions.

    Raises:
        TypeError: an argument is neither a number nor a floating-point tensor.
        ValueError: a NaN, a scale not above 0, shapes that do not broadcast, a value outside the
            support.

    Source:
        With t = loc/scale and g(t) = t^2/2 + log Phi(t), z/scale has mean g'(t) and variance
        g''(t). Samples solve P(Z > z) = exp(-e) for e ~ Exponential(1), and carry the derivative
        of that solution.

    Example:
        >>> f"{TruncatedNormal(-1e4, 1.0).mean.item():.4g}"
        '0.0001'
    """

    arg_constraints: Any = {"loc": constraints.real, "scale": constraints.positive}
    support: Any = constraints.nonnegative
    has_rsample = True

    def __init__(
        self,
        loc: Real,
        scale: Real,
        *,
        dtype: torch.dtype | None = None,
        validate_args: bool | None = None,
    ) -> None:
        values = checks.floats(loc=loc, scale=scale)
        shape = checks.broadcastable(loc=values[0], scale=values[1])
        if validate_args is not False:
            checks.finite("loc", values[0])
            checks.positive("scale", values[1])
        # From the arguments themselves: a Python number keeps its digits beside a float32 tensor.
        exact = (
            torch.as_tensor(v, dtype=torch.float64, device=values[0].device) for v in (loc, scale)
        )
        self._keep(*(v.expand(shape) for v in exact), dtype=dtype or values[0].dtype)
        super().__init__(shape, validate_args=validate_args)

    def _keep(self, loc: Tensor, scale: Tensor, *, dtype: torch.dtype) -> None:
        self._loc, self._scale, self.dtype = loc, scale, dtype
        self.loc, self.scale = loc.to(dtype), scale.to(dtype)

    @property
    def _ratio(self) -> Tensor:
        return self._loc / self._scale

    def expand(
        self, batch_shape: Size | list[int], _instance: TruncatedNormal | None = None
    ) -> TruncatedNormal:
        """Return the same distribution with a larger batch shape (see torch.distributions)."""
        new: Any = self._get_checked_instance(TruncatedNormal, _instance)
        loc, scale = self._loc.expand(batch_shape), self._scale.expand(batch_shape)
        new._keep(loc, scale, dtype=self.dtype)
        Distribution.__init__(new, Size(batch_shape), validate_args=False)
        new._validate_args = self._validate_args
        return new

    @property
    def mean(self) -> Tensor:
        """Mean, (*batch), in the units of z."""
        return (self._scale * cumulant(self._ratio, 1)).to(self.dtype)

    @property
    def variance(self) -> Tensor:
        """Variance, (*batch), in the squared units of z."""
        return (self._scale.square() * cumulant(self._ratio, 2)).to(self.dtype)

    @property
    def mode(self) -> Tensor:
        """Mode: loc where it is positive, else 0."""
        return self._loc.clamp(min=0).to(self.dtype)

    def entropy(self) -> Tensor:
        """Return the differential entropy, (*batch), in nats."""
        t = self._ratio
        shift = torch.where(t < 0, cumulant(t, 1), hazard(t))
        result = self._scale.log() + HALF_LOG_TWO_PI + split_log_ndtr(t) + (1 - t * shift) / 2
        return result.to(self.dtype)

    def log_prob(self, value: Tensor) -> Tensor:
        """Return the log density at `value` >= 0, in nats; -inf below 0."""
        value = self._checked(value)
        z = torch.where(value < 0, 0.0, value)
        t, y = self._ratio, z / self._scale
        squares = torch.where(t < 0, y * (y - 2 * t), ((z - self._loc) / self._scale).square())
        density = -squares / 2 - self._scale.log() - HALF_LOG_TWO_PI - split_log_ndtr(t)
        return torch.where(value < 0, -torch.inf, density).to(self.dtype)

    def cdf(self, value: Tensor) -> Tensor:
        """Return P(Z < value), with full relative precision near 0."""
        value = self._checked(value)
        z = torch.where(value < 0, 0.0, value).clamp(max=INFINITE)
        y, below = z / self._scale, (self._loc - z) / self._scale
        return distribution(y, self._ratio, below)[0].to(self.dtype)

    def icdf(self, value: Tensor) -> Tensor:
        """Return the z with P(Z < z) = `value`, 0 <= value <= 1; differentiable in all three."""
        value = checks.floating("value", value).double()
        if self._validate_args and not bool(((value >= 0) & (value <= 1)).all()):
            remedy = "Pass values of a distribution function."
            raise checks.value_error("probabilities in [0, 1]", "some outside", remedy)
        return (self._scale * quantile(-torch.log1p(-value), self._ratio)).to(self.dtype)

    def rsample(self, sample_shape: Size | list[int] = Size()) -> Tensor:  # noqa: B008
        """Return draws, (*sample_shape, *batch), differentiable in loc and scale."""
        shape = self._extended_shape(Size(sample_shape))
        exponential = torch.empty(shape, dtype=torch.float64, device=self._loc.device)
        exponential.exponential_()
        return (self._scale * quantile(exponential, self._ratio)).to(self.dtype)

    def _checked(self, value: Tensor) -> Tensor:
        if self._validate_args:
            self._validate_sample(value)
        return value.double()
