"""Posteriors of a pair's code, from an encoder's loc and scale, by name."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import pyro.distributions as dist
import torch
from pyro.distributions.transforms import ConditionalAffineAutoregressive
from pyro.nn import ConditionalAutoRegressiveNN
from torch import Tensor, nn

from ppl_vae import checks
from ppl_vae.flows import lazy_transform, transform_on
from ppl_vae.models.families import Family, choose, flow_options

__all__ = ["POSTERIORS", "DiagonalNormal", "FlowPosterior", "IAFPosterior", "Posterior"]

Spec = Any  # a Posterior, its name, or a mapping of name and options


class Posterior(Family):
    """q(z | x) from an encoder's loc and scale, each (*batch, latent_dim)."""

    def build(self, latent_dim: int) -> None:
        """Make the parameters, from torch's random stream as it stands."""

    def forward(self, loc: Tensor, scale: Tensor) -> dist.TorchDistribution:
        """Return q(z | x): batch shape (*batch), event shape (latent_dim,)."""
        raise NotImplementedError

    def centre(self, loc: Tensor, scale: Tensor) -> Tensor:
        """Return the code that is drawn where the noise is 0, (*batch, latent_dim)."""
        raise NotImplementedError


class DiagonalNormal(Posterior):
    """q(z | x) = Normal(loc, diag(scale)^2)."""

    name = "diagonal-normal"

    def __init__(self) -> None:
        super().__init__()

    def forward(self, loc: Tensor, scale: Tensor) -> dist.TorchDistribution:
        """Return q(z | x): batch shape (*batch), event shape (latent_dim,)."""
        return dist.Normal(loc, scale).to_event(1)

    def centre(self, loc: Tensor, scale: Tensor) -> Tensor:
        """Return the mean."""
        return loc


class FlowPosterior(Posterior):
    """q(z | x): the diagonal Normal's draws through a flow of zuko's (extra ``flows``).

    The flow sees loc and log scale of the same example. No closed-form KL is known, so it is
    sampled. A density is one pass through the networks; a draw of ``maf`` or ``nsf`` is one for
    each latent dimension: with many of them ``nice`` or `IAFPosterior` is faster. A ``maf`` of one
    transform without hidden layers can hold every Normal, correlated ones too.

    Args:
        kind: ``maf`` (affine autoregressive), ``nsf`` (splines) or ``nice`` (affine coupling).
        transforms: how many follow each other.
        hidden: hidden sizes of each one's network.

    Raises:
        ImportError: the extra ``flows`` is not installed.
        TypeError: a size is not an int.
        ValueError: an unknown kind, or a size below 1.

    Source:
        Rezende and Mohamed, Variational Inference with Normalizing Flows, 2015.
    """

    name = "flow"

    def __init__(
        self, kind: str = "maf", *, transforms: int = 3, hidden: Sequence[int] = (64, 64)
    ) -> None:
        super().__init__(**flow_options(kind, transforms, hidden))

    def build(self, latent_dim: int) -> None:
        """Make the networks."""
        self.transform = lazy_transform(
            features=latent_dim, context=2 * latent_dim, **self.options
        )

    def forward(self, loc: Tensor, scale: Tensor) -> dist.TorchDistribution:
        """Return q(z | x): batch shape (*batch), event shape (latent_dim,)."""
        base = dist.Normal(loc, scale).to_event(1)
        return transform_on(base, self.transform, _context(loc, scale))

    def centre(self, loc: Tensor, scale: Tensor) -> Tensor:
        """Return the code that is drawn where the noise is 0."""
        return self.transform(_context(loc, scale)).inv(loc)


class IAFPosterior(Posterior):
    """q(z | x): the diagonal Normal's draws through inverse autoregressive transforms of Pyro's.

        z <- s * z + (1 - s) * m,    s, m = network(z, loc, log scale), s in (0, 1)

    A draw with its density is one pass through each network. The density of any other code takes
    one for each latent dimension, which estimators that cut the graph at the draw need
    (``sticking-the-landing``, ``dreg``): choose ``analytic-kl`` or ``iwae`` where that is slow.

    Args:
        transforms: how many follow each other; every other one has the dimensions reversed.
        hidden: hidden sizes of each one's network, at least `latent_dim` each.

    Raises:
        TypeError: a size is not an int.
        ValueError: a size below 1, a hidden size below `latent_dim`, or one latent dimension,
            where there is nothing to be autoregressive in.

    Source:
        Kingma and others, Improved Variational Inference with Inverse Autoregressive Flow, 2016,
        https://arxiv.org/abs/1606.04934, algorithm 1.
    """

    name = "iaf"

    def __init__(self, transforms: int = 2, *, hidden: Sequence[int] = (64, 64)) -> None:
        options = {"transforms": checks.count("transforms", transforms)}
        super().__init__(**options, hidden=checks.sizes("hidden", hidden))

    def build(self, latent_dim: int) -> None:
        """Make the networks."""
        hidden = self.options["hidden"]
        checks.count("latent_dim for IAFPosterior", latent_dim, minimum=2)
        for size in hidden:
            checks.count("every entry of hidden for IAFPosterior", size, minimum=latent_dim)
        order: Any = torch.arange(latent_dim)
        networks = [
            ConditionalAutoRegressiveNN(
                latent_dim, 2 * latent_dim, hidden, permutation=order.flip(0) if i % 2 else order
            )
            for i in range(self.options["transforms"])
        ]
        self.transforms = nn.ModuleList(
            ConditionalAffineAutoregressive(network, stable=True) for network in networks
        )

    def forward(self, loc: Tensor, scale: Tensor) -> dist.TorchDistribution:
        """Return q(z | x): batch shape (*batch), event shape (latent_dim,)."""
        base = dist.Normal(loc, scale).to_event(1)
        return dist.TransformedDistribution(base, self._given(loc, scale))

    def centre(self, loc: Tensor, scale: Tensor) -> Tensor:
        """Return the code that is drawn where the noise is 0."""
        z = loc
        for transform in self._given(loc, scale):
            z = transform(z)
        return z

    def _given(self, loc: Tensor, scale: Tensor) -> list[Any]:
        # New ones for every batch: they remember what they were last given.
        context = _context(loc, scale)
        transforms: Any = self.transforms
        return [transform.condition(context) for transform in transforms]


POSTERIORS: dict[str, type[Posterior]] = {
    cls.name: cls for cls in (DiagonalNormal, FlowPosterior, IAFPosterior)
}


def make_posterior(given: Spec, latent_dim: int) -> Posterior:
    """Return the posterior that was chosen, with its parameters."""
    posterior = choose("posterior", given, POSTERIORS)
    posterior.build(latent_dim)
    return posterior


def _context(loc: Tensor, scale: Tensor) -> Tensor:
    return torch.cat([loc, scale.log()], -1)
