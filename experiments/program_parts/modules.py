"""Programs that users write as networks, as functions, or with one of Pyro's own guides."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import Any

import pyro.distributions as dist
from pyro.infer.autoguide import AutoNormal
from torch import Tensor, cat, nn
from torch.nn.functional import softplus

from ppl_vae import Pair, pair_from_modules
from program_parts.families import BASE, BITS, LIKELIHOODS, X, line, read
from program_parts.small import Functions, Numbers, Small, Spec


class Network(nn.Module):
    """A function of a program's own parameters and of what it is given."""

    def __init__(self, parameters: nn.ParameterDict, function: Callable[..., Any]) -> None:
        super().__init__()
        self.numbers, self._function = parameters, function

    def forward(self, given: Tensor) -> Any:  # noqa: ANN401
        """Return what the function does."""
        return self._function(self.numbers, given)


def of_networks(
    encode: Callable[..., Any], decode: Callable[..., Any], **options: object
) -> Callable[[Small], Pair]:
    """Return what makes a pair of an encoder and a decoder, one number an example each."""

    def make(pair: Small) -> Pair:
        encoder, decoder = Network(pair.encoder, encode), Network(pair.decoder, decode)
        return pair_from_modules(encoder, decoder, latent_dim=1, **options)  # pyright: ignore[reportArgumentType]

    return make


def standard(_: Numbers) -> dist.Distribution:
    """The prior of every VAE of networks."""
    return dist.Normal(0.0, 1.0)


def two_outputs(p: Numbers, x: Tensor) -> tuple[Tensor, Tensor]:
    """A loc, and the logarithm of a variance."""
    return p["a"] * x + p["b"], 2 * p["c"] + 0 * x


def side_by_side(p: Numbers, x: Tensor) -> Tensor:
    """The same in one tensor."""
    return cat(two_outputs(p, x), -1)


def fields(p: Numbers, x: Tensor) -> dict[str, Tensor]:
    """A loc, and a scale, which softplus makes."""
    return {"loc": p["a"] * x + p["b"], "scale": softplus(p["c"] + 0 * x)}


def a_laplace(p: Numbers, z: Tensor) -> dist.Distribution:
    """The likelihood itself."""
    return dist.Laplace(line(p, z), 0.7)


def a_normal(p: Numbers, z: Tensor) -> dist.Distribution:
    """A Normal likelihood, of a scale that is held."""
    return dist.Normal(line(p, z), 0.5)


def auto_normal(pair: Small) -> Functions:
    """Return the model, and Pyro's Normal guide with a loc and a scale an example."""
    guide = AutoNormal(pair.model, init_scale=0.5)
    guide(pair.spec.x)
    return pair.model, guide


NETWORKS = Spec(standard, a_normal, read, X, column=True)
WRITTEN_OTHERWISE = {
    "model and guide as functions": replace(BASE, build=lambda pair: (pair.model, pair.guide)),
    "AutoNormal": replace(BASE, build=auto_normal),
    "AutoNormal, Bernoulli pixels": replace(
        BASE, likelihood=LIKELIHOODS["Bernoulli"][0], x=BITS, build=auto_normal
    ),
    "modules, two outputs, logits": replace(
        NETWORKS,
        likelihood=LIKELIHOODS["Bernoulli"][0],
        x=BITS,
        build=of_networks(two_outputs, line),
    ),
    "modules, one output, a loc": replace(
        NETWORKS,
        build=of_networks(side_by_side, line, likelihood="normal", scale=0.5),
    ),
    "modules, fields": replace(
        NETWORKS,
        posterior=lambda p, x: dist.Normal(p["a"] * x + p["b"], softplus(p["c"])),
        build=of_networks(fields, line, likelihood="normal", scale=0.5),
    ),
    "modules that return distributions": replace(
        NETWORKS,
        likelihood=a_laplace,
        build=of_networks(read, a_laplace, likelihood="distribution"),
        smooth=False,
    ),
}
