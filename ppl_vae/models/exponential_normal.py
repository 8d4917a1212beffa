"""The toy: a positive number with an exponential prior, seen through Normal noise."""

from __future__ import annotations

import math
from typing import Any

import pyro
import pyro.distributions as dist
import torch
from torch import Tensor, nn
from torch.distributions import Distribution

from ppl_vae import checks
from ppl_vae.closed_forms import exponential_normal
from ppl_vae.models.data_sets import DataSetPair, data_plate


class ExponentialNormalModel(DataSetPair):
    """The model of `ExponentialNormal`, its closed forms and checks; a subclass adds the rate.

    ``guide_rate(x)`` is the rate of the guide, q(z) = Exponential(guide_rate(x)).
    """

    prior_rate: Tensor
    noise_scale: Tensor

    def __init__(self, prior_rate: float, noise_scale: float, **config: Any) -> None:  # noqa: ANN401
        prior = checks.positive_number("prior_rate", prior_rate)
        noise = checks.positive_number("noise_scale", noise_scale)
        super().__init__(prior_rate=prior, noise_scale=noise, **config)
        self.register_buffer("prior_rate", torch.tensor(prior), persistent=False)
        self.register_buffer("noise_scale", torch.tensor(noise), persistent=False)

    def guide_rate(self, x: Tensor) -> Tensor:
        """Return the guide's rate for each data set of `x`, shape (*batch)."""
        raise NotImplementedError(f"{type(self).__name__} does not define guide_rate(x)")

    def model(self, x: Tensor) -> Tensor:
        """Draw z from the prior and score the observations."""
        self.begin(x)
        with data_plate(x):
            z = pyro.sample("z", dist.Exponential(self.prior_rate))
            loc = z.unsqueeze(-1).expand(*z.shape, x.shape[-1])
            return pyro.sample("x", dist.Normal(loc, self.noise_scale).to_event(1), obs=x)

    def guide(self, x: Tensor) -> Tensor:
        """Draw z from Exponential(guide_rate)."""
        self.begin(x)
        with data_plate(x):
            return pyro.sample("z", dist.Exponential(self.guide_rate(x)))

    @property
    def exact(self) -> ExactExponentialNormal:
        """The toy's closed forms at this pair's parameters."""
        return ExactExponentialNormal(self)


class ExponentialNormal(ExponentialNormalModel):
    """One positive latent, n noisy observations of it, and a guide with one learned rate.

        p(z) = Exponential(prior_rate)      p(x_i | z) = Normal(z, noise_scale), i = 1..n
        q(z) = Exponential(guide_rate)

    `x` is one data set of n numbers, (n,), or a batch of data sets, (batch, n); each data set is
    one example with a latent of its own, and the plate ``data`` is over data sets. Everything is
    known in closed form; see `ppl_vae.closed_forms.exponential_normal`.

    Args:
        prior_rate: rate of the prior, above 0.
        noise_scale: standard deviation of the observations, above 0.
        guide_rate: the guide's rate before training, above 0.

    Attributes:
        log_rate: the parameter; the guide's rate is its exponential.

    Raises:
        TypeError: an argument is not a number.
        ValueError: an argument is not finite and above 0.

    Example:
        >>> pair = ExponentialNormal(guide_rate=2.0)
        >>> x = torch.tensor([1.2, 0.7, 1.1])
        >>> bool(pair.exact.elbo(x) < pair.exact.log_evidence(x))
        True
    """

    def __init__(
        self, prior_rate: float = 1.0, noise_scale: float = 1.0, *, guide_rate: float = 1.0
    ) -> None:
        rate = checks.positive_number("guide_rate", guide_rate)
        super().__init__(prior_rate, noise_scale, guide_rate=rate)
        self.log_rate = nn.Parameter(torch.tensor(math.log(rate)))

    def guide_rate(self, x: Tensor) -> Tensor:
        """Return the guide's rate for each data set of `x`, shape (*batch)."""
        return self.log_rate.exp().expand(x.shape[:-1])


class ExactExponentialNormal:
    """The closed forms of `ppl_vae.closed_forms.exponential_normal` at one pair's parameters.

    Everything is per data set, shape (*batch), in nats, and differentiable in the pair's
    parameters.
    """

    def __init__(self, pair: ExponentialNormalModel) -> None:
        self._pair = pair
        self._constants = {"prior_rate": pair.prior_rate, "noise_scale": pair.noise_scale}

    def log_evidence(self, x: Tensor) -> Tensor:
        """Return log p(x)."""
        return exponential_normal.log_evidence(x, **self._constants)

    def posterior(self, x: Tensor) -> Distribution:
        """Return p(z | x), a Normal truncated to z > 0."""
        return exponential_normal.posterior(x, **self._constants)

    def optimal_guide_rate(self, x: Tensor) -> Tensor:
        """Return the rate at which the ELBO is largest."""
        return exponential_normal.optimal_guide_rate(x, **self._constants)

    def elbo(self, x: Tensor) -> Tensor:
        """Return the ELBO of the guide as it stands."""
        return exponential_normal.elbo(x, self._pair.guide_rate(x), **self._constants)

    def kl_to_posterior(self, x: Tensor) -> Tensor:
        """Return KL(q || p(z | x)) of the guide as it stands."""
        return exponential_normal.kl_to_posterior(x, self._pair.guide_rate(x), **self._constants)

    def value_variance(self, x: Tensor, *, estimator: str) -> Tensor:
        """Return the variance of a one-particle estimate of ``elbo(x).sum()``."""
        return exponential_normal.value_variance(
            x, self._pair.guide_rate(x), estimator=estimator, **self._constants
        ).sum()

    def gradient_variance(self, x: Tensor, *, estimator: str) -> dict[str, Tensor]:
        """Return the variance of a one-particle gradient of ``elbo(x).sum()``.

        Data sets have independent noise, so with rates r_i(w) the variance of the derivative by
        w is the sum over i of (d r_i / d w)^2 times the closed form for r_i.

        Returns:
            Each parameter's name, with the variances in the parameter's shape.
        """
        rate = self._pair.guide_rate(x)
        variance = exponential_normal.gradient_variance(
            x, rate.detach(), estimator=estimator, **self._constants
        )
        named = dict(self._pair.named_parameters())
        total = {name: torch.zeros_like(p) for name, p in named.items()}
        for rate_i, variance_i in zip(rate.reshape(-1), variance.reshape(-1), strict=True):
            jacobian = torch.autograd.grad(rate_i, list(named.values()), retain_graph=True)
            for name, slope in zip(named, jacobian, strict=True):
                total[name] += slope**2 * variance_i
        return total
