"""Two latent layers, linear and Gaussian: a hierarchy in which everything is exact."""

from __future__ import annotations

import math
from collections.abc import Mapping

import pyro
import pyro.distributions as dist
import torch
from torch import Tensor, nn
from torch.distributions import MultivariateNormal

from ppl_vae import checks
from ppl_vae.closed_forms import gaussian_chain
from ppl_vae.pair import Pair

INITIAL: dict[str, dict[str, float]] = {
    "bottom-up": {"a": 0.5, "a0": 0.0, "s1": 0.8, "b": 0.5, "b0": 0.0, "s2": 0.8},
    "top-down": {"c": 0.3, "c0": 0.0, "s2": 0.8, "d": 0.5, "e": 0.5, "f": 0.0, "s1": 0.8},
}


class GaussianChain(Pair):
    """A chain of two Gaussian layers, with a bottom-up or a top-down guide.

        p: z2 ~ Normal(0, 1)    z1 ~ Normal(z2, 1)    x ~ Normal(z1, 1)
        bottom-up guide: z1 ~ Normal(a x + a0, s1)    z2 ~ Normal(b z1 + b0, s2)
        top-down guide:  z2 ~ Normal(c x + c0, s2)    z1 ~ Normal(d z2 + e x + f, s1)

    `x` is (batch, data_dim); every number of it has a z1 and a z2 of its own, and the guide's
    parameters are one number per column. With the bottom-up guide an ELBO with one analytic KL per
    site is biased; see `ppl_vae.closed_forms.gaussian_chain`.

    Args:
        data_dim: numbers per example.
        guide: ``top-down`` or ``bottom-up``.
        initial: the guide's parameters before training, by their names in the formula; those left
            out have the defaults.

    Attributes:
        coefficients: the guide's parameters, (data_dim) each; scales by their logarithm, under
            the names ``log_s1`` and ``log_s2``.

    Raises:
        TypeError: a size or a parameter is not a number.
        ValueError: an unknown guide or parameter, a size below 1, a scale not above 0.

    Example:
        >>> pair = GaussianChain(guide="bottom-up", initial={"a": 0.6, "s1": 0.7})
        >>> pair.exact.mean_field_bias(torch.tensor([[1.3]]))
        tensor([-0.2450], grad_fn=<SumBackward1>)
    """

    def __init__(
        self,
        data_dim: int = 1,
        guide: str = "top-down",
        *,
        initial: Mapping[str, float] | None = None,
    ) -> None:
        checks.count("data_dim", data_dim)
        checks.name("guide", guide, INITIAL)
        given = {} if initial is None else initial
        checks.instance("initial", given, Mapping, "a mapping", "For example {'a': 0.5}.")
        for name in given:
            checks.name(f"parameter of the {guide} guide", name, INITIAL[guide])
        values = {**INITIAL[guide], **given}
        super().__init__(data_dim=data_dim, guide=guide, initial=values)
        self.data_dim, self.guide_kind = data_dim, guide
        self.coefficients = nn.ParameterDict()
        for name, value in values.items():
            if name in ("s1", "s2"):
                name, value = f"log_{name}", math.log(checks.positive_number(name, value))
            self.coefficients[name] = nn.Parameter(torch.full((data_dim,), float(value)))

    def guide_parameters(self) -> dict[str, Tensor]:
        """Return the guide's parameters by their names in the formula, (data_dim) each."""
        values = dict(self.coefficients.items())
        for name in ("s1", "s2"):
            values[name] = values.pop(f"log_{name}").exp()
        return values

    def model(self, x: Tensor) -> Tensor:
        """Draw z2, then z1, and score the data."""
        self.begin(x)
        with pyro.plate("data", len(x), dim=-1):
            zeros, ones = x.new_zeros(self.data_dim), x.new_ones(self.data_dim)
            z2 = pyro.sample("z2", dist.Normal(zeros, ones).to_event(1))
            z1 = pyro.sample("z1", dist.Normal(z2, ones).to_event(1))
            return pyro.sample("x", dist.Normal(z1, ones).to_event(1), obs=x)

    def guide(self, x: Tensor) -> None:
        """Draw z1 and z2, in the order of the guide."""
        self.begin(x)
        p = self.guide_parameters()
        with pyro.plate("data", len(x), dim=-1):
            if self.guide_kind == "bottom-up":
                z1 = pyro.sample("z1", dist.Normal(p["a"] * x + p["a0"], p["s1"]).to_event(1))
                pyro.sample("z2", dist.Normal(p["b"] * z1 + p["b0"], p["s2"]).to_event(1))
            else:
                z2 = pyro.sample("z2", dist.Normal(p["c"] * x + p["c0"], p["s2"]).to_event(1))
                loc = p["d"] * z2 + p["e"] * x + p["f"]
                pyro.sample("z1", dist.Normal(loc, p["s1"]).to_event(1))

    @property
    def exact(self) -> ExactGaussianChain:
        """The chain's closed forms at this pair's parameters."""
        return ExactGaussianChain(self)

    def check(self, x: Tensor) -> None:
        """Raise unless `x` is (batch, data_dim)."""
        super().check(x)
        if x.dim() != 2 or x.shape[1] != self.data_dim:
            raise checks.value_error(
                f"x of shape (batch, {self.data_dim})",
                f"shape {tuple(x.shape)}",
                "Build the pair with the data's data_dim.",
            )

    def blank(self, n: int) -> Tensor:
        """Return `n` examples of zeros."""
        return torch.zeros(n, self.data_dim, dtype=self.dtype, device=self.device)


class ExactGaussianChain:
    """The closed forms of `ppl_vae.closed_forms.gaussian_chain` at one pair's parameters.

    Per example, shape (batch), in nats, differentiable in the guide's parameters.
    """

    def __init__(self, pair: GaussianChain) -> None:
        self._kind, self._parameters = pair.guide_kind, pair.guide_parameters()

    def log_evidence(self, x: Tensor) -> Tensor:
        """Return log p(x)."""
        return gaussian_chain.log_evidence(x).sum(-1)

    def posterior(self, x: Tensor) -> MultivariateNormal:
        """Return p(z1, z2 | x) for every number of x: batch shape (batch, data_dim)."""
        return gaussian_chain.posterior(x)

    def elbo(self, x: Tensor) -> Tensor:
        """Return the ELBO of the guide as it stands."""
        return gaussian_chain.elbo(x, guide=self._kind, **self._parameters).sum(-1)

    def mean_field_bias(self, x: Tensor) -> Tensor:
        """Return by how much an ELBO with one analytic KL per site is off in expectation."""
        return gaussian_chain.mean_field_bias(x, guide=self._kind, **self._parameters).sum(-1)
