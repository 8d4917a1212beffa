"""Priors of a pair's code, by name."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import pyro.distributions as dist
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from ppl_vae import checks
from ppl_vae.flows import lazy_transform, transform_on
from ppl_vae.likelihoods.support import counts, labels, unit_interval
from ppl_vae.models.families import Family, choose, flow_options
from ppl_vae.pair import Pair

__all__ = ["PRIORS", "FlowPrior", "MixturePrior", "Prior", "StandardNormal", "VampPrior"]

Spec = Any  # a Prior, its name, or a mapping of name and options


class Prior(Family):
    """p(z) of a code, a vector of `latent_dim` numbers."""

    def build(self, latent_dim: int, data_shape: tuple[int, ...] | None) -> None:
        """Make the parameters, from torch's random stream as it stands.

        Args:
            latent_dim: length of the code.
            data_shape: of an example, if it is all that the pair's encoder takes.
        """

    def forward(self, pair: Any) -> dist.TorchDistribution:  # noqa: ANN401
        """Return p(z): event shape (latent_dim,)."""
        raise NotImplementedError


class StandardNormal(Prior):
    """p(z) = Normal(0, I). The KL divergence from a diagonal Normal is a closed form."""

    name = "standard-normal"

    def __init__(self) -> None:
        super().__init__()

    def forward(self, pair: Any) -> dist.TorchDistribution:  # noqa: ANN401
        """Return p(z): event shape (latent_dim,)."""
        return standard_normal(pair, pair.latent_dim)


class MixturePrior(Prior):
    """p(z) = sum_k w_k Normal(m_k, diag(s_k)^2), with weights, means and scales that are learned.

    No closed-form KL is known, so it is sampled. A draw has no derivative: `generalised-dreg` does
    not serve it. With `LinearGaussian` evidence and posterior are closed forms.

    Args:
        components: how many Normals.

    Attributes:
        logits: log w_k up to a constant, (components,).
        loc: m, (components, latent_dim); drawn from a standard Normal at the start.
        log_scale: log s, likewise; 0 at the start.

    Raises:
        TypeError: `components` is not an int.
        ValueError: it is below 1.
    """

    name = "mixture"

    def __init__(self, components: int) -> None:
        super().__init__(components=checks.count("components", components))

    def build(self, latent_dim: int, data_shape: tuple[int, ...] | None) -> None:
        """Make the parameters."""
        count = self.options["components"]
        self.logits = nn.Parameter(torch.zeros(count))
        self.loc = nn.Parameter(torch.randn(count, latent_dim))
        self.log_scale = nn.Parameter(torch.zeros(count, latent_dim))

    def forward(self, pair: Any) -> dist.TorchDistribution:  # noqa: ANN401
        """Return p(z): event shape (latent_dim,)."""
        normals = dist.Normal(self.loc, self.log_scale.exp()).to_event(1)
        return dist.MixtureSameFamily(dist.Categorical(logits=self.logits), normals)


class VampPrior(Prior):
    """p(z) = (1/K) sum_k q(z | u_k), the guide's mixture at learned pseudo-inputs.

    It shares the encoder with the guide. Estimators that leave out the score of q keep the
    derivative of log p(z) by the encoder, and so stay unbiased. Each log-density passes all
    pseudo-inputs through the encoder.

    Args:
        components: K, how many pseudo-inputs.

    Attributes:
        inputs: u before it is brought into the range of the data, (components, *data_shape):
            by a sigmoid to [0, 1] or between the labels, by a softplus to counts.

    Raises:
        TypeError: `components` is not an int.
        ValueError: it is below 1.
        NotImplementedError: the encoder takes more than the data, such as labels; or the guide's
            density cannot be taken for each of several codes (an `IAFPosterior`).

    Source:
        Tomczak and Welling, VAE with a VampPrior, 2018, https://arxiv.org/abs/1705.07120,
        equation 9.
    """

    name = "vamp"

    def __init__(self, components: int) -> None:
        super().__init__(components=checks.count("components", components))

    def build(self, latent_dim: int, data_shape: tuple[int, ...] | None) -> None:
        """Make the parameters."""
        if data_shape is None:
            raise checks.not_implemented(
                "a pair whose encoder takes the data alone, for VampPrior",
                "one that takes labels, batches or library sizes too",
                "Choose MixturePrior or FlowPrior.",
            )
        self.inputs = nn.Parameter(torch.randn(self.options["components"], *data_shape))

    def forward(self, pair: Any) -> dist.TorchDistribution:  # noqa: ANN401
        """Return p(z): event shape (latent_dim,)."""
        guide = pair.posterior_family(*pair.encode(_in_range(self.inputs, pair)))
        if isinstance(guide, torch.distributions.TransformedDistribution):
            raise checks.not_implemented(
                "a guide whose density can be taken at any code, for VampPrior",
                type(pair.posterior_family).__name__,
                "Choose DiagonalNormal or FlowPosterior, or another prior.",
            )
        uniform = dist.Categorical(logits=self.inputs.new_zeros(len(self.inputs)))
        return dist.MixtureSameFamily(uniform, guide)


class FlowPrior(Prior):
    """p(z): a standard Normal's noise through a normalising flow of zuko's (extra ``flows``).

    Its density is one pass through the networks; a draw of ``maf`` or ``nsf`` is one for each
    latent dimension. Draws have a derivative, so `generalised-dreg` serves it.

    Args:
        kind: ``maf`` (affine autoregressive), ``nsf`` (splines) or ``nice`` (affine coupling).
        transforms: how many follow each other.
        hidden: hidden sizes of each one's network.

    Raises:
        ImportError: the extra ``flows`` is not installed.
        TypeError: a size is not an int.
        ValueError: an unknown kind, or a size below 1.

    Source:
        Papamakarios, Pavlakou and Murray, Masked Autoregressive Flow, 2017; Durkan and others,
        Neural Spline Flows, 2019; Dinh and others, Real NVP, 2017.
    """

    name = "flow"

    def __init__(
        self, kind: str = "maf", *, transforms: int = 3, hidden: Sequence[int] = (64, 64)
    ) -> None:
        super().__init__(**flow_options(kind, transforms, hidden))

    def build(self, latent_dim: int, data_shape: tuple[int, ...] | None) -> None:
        """Make the networks."""
        self.transform = lazy_transform(features=latent_dim, context=0, **self.options)

    def forward(self, pair: Any) -> dist.TorchDistribution:  # noqa: ANN401
        """Return p(z): event shape (latent_dim,)."""
        return transform_on(standard_normal(pair, pair.latent_dim), self.transform, None)


PRIORS: dict[str, type[Prior]] = {
    cls.name: cls for cls in (StandardNormal, MixturePrior, VampPrior, FlowPrior)
}


def make_prior(given: Spec, latent_dim: int, data_shape: tuple[int, ...] | None) -> Prior:
    """Return the prior that was chosen, with its parameters."""
    prior = choose("prior", given, PRIORS)
    prior.build(latent_dim, data_shape)
    return prior


def standard_normal(pair: Pair, size: int) -> dist.TorchDistribution:
    """Return Normal(0, I) of the pair's dtype and device: event shape (size,)."""
    zeros = torch.zeros(size, dtype=pair.dtype, device=pair.device)
    return dist.Normal(zeros, torch.ones_like(zeros)).to_event(1)


def _in_range(inputs: Tensor, pair: Any) -> Tensor:  # noqa: ANN401
    """Bring real numbers into the range of the data that the pair's likelihood scores."""
    observation = getattr(pair, "observation", None)
    if observation is None:
        return inputs
    support = observation.entry.support
    if support in (checks.binary, unit_interval):
        return inputs.sigmoid()
    if support is labels:
        return inputs.sigmoid() * (observation.entry.sizes["num_classes"] - 1)
    return F.softplus(inputs) if support is counts else inputs
