"""Counts of one unknown rate: Gamma prior, Poisson counts, and a learned Gamma guide."""

from __future__ import annotations

import math
from typing import Any

import pyro
import pyro.distributions as dist
import torch
from torch import Tensor, nn
from torch.distributions import Distribution

from ppl_vae import checks
from ppl_vae.closed_forms import gamma_poisson
from ppl_vae.likelihoods import LIKELIHOODS
from ppl_vae.models.data_sets import DataSetPair, data_plate


class GammaPoisson(DataSetPair):
    """One positive latent, n counts with that rate, and a learned Gamma guide.

        p(z) = Gamma(concentration, rate)      p(x_i | z) = Poisson(z), i = 1..n
        q(z) = Gamma(guide_concentration, guide_rate)

    `x` is one data set of n counts, (n,), or a batch of data sets, (batch, n); each data set is
    one example with a latent of its own, and the plate ``data`` is over data sets. The guide is
    one for all of them. Of a single data set it can become the posterior itself, so that training
    closes the gap. See `ppl_vae.closed_forms.gamma_poisson`.

    Args:
        concentration: of the prior, above 0.
        rate: of the prior, above 0.
        guide_concentration: the guide's concentration before training, above 0.
        guide_rate: the guide's rate before training, above 0.

    Attributes:
        log_concentration: a parameter; the guide's concentration is its exponential.
        log_rate: a parameter; the guide's rate is its exponential.

    Raises:
        TypeError: an argument is not a number.
        ValueError: an argument is not finite and above 0.

    Example:
        >>> pair = GammaPoisson(guide_concentration=4.0, guide_rate=4.0)
        >>> x = torch.tensor([2.0, 0.0, 1.0])
        >>> bool(torch.isclose(pair.exact.elbo(x), pair.exact.log_evidence(x)))
        True
    """

    concentration: Tensor
    rate: Tensor

    def __init__(
        self,
        concentration: float = 1.0,
        rate: float = 1.0,
        *,
        guide_concentration: float = 1.0,
        guide_rate: float = 1.0,
    ) -> None:
        config = {
            "concentration": concentration,
            "rate": rate,
            "guide_concentration": guide_concentration,
            "guide_rate": guide_rate,
        }
        config = {name: checks.positive_number(name, value) for name, value in config.items()}
        super().__init__(**config)
        for name in ("concentration", "rate"):
            self.register_buffer(name, torch.tensor(config[name]), persistent=False)
        self.log_concentration = nn.Parameter(torch.tensor(math.log(guide_concentration)))
        self.log_rate = nn.Parameter(torch.tensor(math.log(guide_rate)))

    def guide_parameters(self, x: Tensor) -> tuple[Tensor, Tensor]:
        """Return the guide's concentration and rate for each data set of `x`, (*batch) each."""
        shape = x.shape[:-1]
        return self.log_concentration.exp().expand(shape), self.log_rate.exp().expand(shape)

    def model(self, x: Tensor) -> Tensor:
        """Draw z from the prior and score the counts."""
        self.begin(x)
        with data_plate(x):
            z = pyro.sample("z", dist.Gamma(self.concentration, self.rate))
            rate = z.unsqueeze(-1).expand(*z.shape, x.shape[-1])
            return pyro.sample("x", dist.Poisson(rate).to_event(1), obs=x)

    def guide(self, x: Tensor) -> Tensor:
        """Draw z from the guide's Gamma distribution."""
        self.begin(x)
        with data_plate(x):
            return pyro.sample("z", dist.Gamma(*self.guide_parameters(x)))

    @property
    def exact(self) -> ExactGammaPoisson:
        """The closed forms at this pair's parameters."""
        return ExactGammaPoisson(self)

    def check(self, x: Tensor) -> None:
        """Raise unless `x` is one data set of counts, (n,), or a batch of them, (batch, n)."""
        super().check(x)
        LIKELIHOODS["poisson"].check(x)


class ExactGammaPoisson:
    """The closed forms of `ppl_vae.closed_forms.gamma_poisson` at one pair's parameters.

    Everything is per data set, shape (*batch), in nats, and differentiable in the pair's
    parameters.
    """

    def __init__(self, pair: GammaPoisson) -> None:
        self._pair = pair
        self._prior = {"concentration": pair.concentration, "rate": pair.rate}

    def log_evidence(self, x: Tensor) -> Tensor:
        """Return log p(x)."""
        return gamma_poisson.log_evidence(x, **self._prior)

    def posterior(self, x: Tensor) -> Distribution:
        """Return p(z | x), a Gamma distribution."""
        return gamma_poisson.posterior(x, **self._prior)

    def elbo(self, x: Tensor) -> Tensor:
        """Return the ELBO of the guide as it stands."""
        return gamma_poisson.elbo(x, **self._prior, **self._guide(x))

    def gradient_variance(self, x: Tensor, *, estimator: str) -> dict[str, Tensor]:
        """Return the variance of a one-particle gradient of ``elbo(x).sum()``.

        Data sets have independent noise, so their variances add up; those by a logarithm are
        those by the parameter itself times its square.

        Returns:
            Each parameter's name, with its variance, ().

        Raises:
            ValueError: an estimator whose gradient by the concentration has no closed-form
                variance: all but ``score_function``.
        """
        guide = {name: value.detach() for name, value in self._guide(x).items()}
        found = gamma_poisson.gradient_variance(x, estimator=estimator, **self._prior, **guide)
        if found.guide_concentration is None:
            raise checks.value_error(
                "an estimator whose gradient variances all have a closed form: score_function",
                f"{estimator!r}",
                "ppl_vae.closed_forms.gamma_poisson.gradient_variance gives that by the rate.",
            )
        by_concentration = found.guide_concentration * guide["guide_concentration"].square()
        by_rate = found.guide_rate * guide["guide_rate"].square()
        return {"log_concentration": by_concentration.sum(), "log_rate": by_rate.sum()}

    def _guide(self, x: Tensor) -> dict[str, Any]:
        concentration, rate = self._pair.guide_parameters(x)
        return {"guide_concentration": concentration, "guide_rate": rate}
