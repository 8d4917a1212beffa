"""A program made of a prior, a likelihood and a posterior, with its exact answers."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

import pyro
import pyro.distributions as dist
import torch
from pyro.infer.autoguide import AutoNormal
from torch import Tensor, nn
from torch.distributions import Distribution

from ppl_vae import Pair
from program_parts import answers

Numbers = dict[str, Any]
Functions = tuple[Callable[..., Any], Callable[..., Any]]
Subject = Pair | Functions


@dataclass(frozen=True)
class Spec:
    """What makes a program.

    Attributes:
        prior: of its parameters, p(z).
        likelihood: of its parameters and z, p(x | z).
        posterior: of its parameters and x, q(z | x).
        x: the data, (examples,) or (examples, dim).
        start: the parameters' values: of ``prior``, ``decoder`` and ``encoder``.
        dims: of a continuous latent that is a vector; 1 else.
        plate: the name of the plate over the examples.
        weight: by which log-densities are scaled.
        mask: of the observations.
        shared: whether all examples have one latent, outside of the plate.
        declared: whether latents are declared by ``to_event`` and not by a plate.
        size: of the plate, where the data are a part of it; None else.
        smooth: whether no density has a kink, or a corner, where sums over a grid lose digits.
        build: makes what users would pass, of the same parameters; None for the pair itself.
        column: whether that takes data of the shape (examples, 1).
    """

    prior: Callable[[Numbers], Distribution]
    likelihood: Callable[[Numbers, Tensor], Distribution]
    posterior: Callable[[Numbers, Tensor], Distribution]
    x: Tensor
    start: dict[str, dict[str, float]] = field(
        default_factory=lambda: {
            "prior": {"a": 0.3, "b": 0.1},
            "decoder": {"a": 0.7, "b": -0.2},
            "encoder": {"a": 0.4, "b": 0.1, "c": 0.1},
        }
    )
    dims: int = 1
    plate: str = "data"
    weight: float = 1.0
    mask: Tensor | None = None
    shared: bool = False
    declared: bool = False
    size: int | None = None
    smooth: bool = True
    build: Callable[[Small], Subject] | None = None
    column: bool = False

    @property
    def data(self) -> Tensor:
        """The data as they are passed."""
        return self.x[:, None] if self.column else self.x


class Small(Pair):
    """A pair of a `Spec`."""

    def __init__(self, spec: Spec) -> None:
        super().__init__()
        self.spec = spec
        for name, values in spec.start.items():
            numbers = {n: nn.Parameter(torch.tensor(v)) for n, v in values.items()}
            setattr(self, name, nn.ParameterDict(numbers))
        # Not by attribute: its modules hold these parameters too.
        vars(self)["subject"] = self if spec.build is None else spec.build(self)

    @property
    def functions(self) -> Functions:
        """Model and guide of what is passed."""
        subject = vars(self)["subject"]
        return subject if isinstance(subject, tuple) else (subject.model, subject.guide)

    def flat(self, x: Tensor) -> Tensor:
        """Return data as the program itself takes them."""
        return x.squeeze(-1) if self.spec.column else x

    def factor(self, x: Tensor) -> float:
        """Return by what log-densities are multiplied."""
        return self.spec.weight * (self.spec.size or len(x)) / len(x)

    def posterior(self, x: Tensor) -> Distribution:
        """Return q(z | x)."""
        guide = self.functions[1]
        if isinstance(guide, AutoNormal):
            return dist.Normal(guide.locs.z, guide.scales.z)
        return self.spec.posterior(self.encoder, x)

    def model(self, x: Tensor) -> None:
        """Draw z and score x."""
        self.begin(x)
        prior, spec = self.spec.prior(self.prior), self.spec
        if spec.shared:
            z = pyro.sample("z", prior)
            with pyro.plate(spec.plate, len(x)):
                self._observe(z, x)
            return
        if spec.declared:
            z = pyro.sample("z", prior.expand(x.shape[:1]).to_event(1))
            likelihood = spec.likelihood(self.decoder, z)
            pyro.sample("x", likelihood.to_event(1), obs=x)
            return
        with self._plate(x), pyro.poutine.scale(scale=spec.weight):
            self._observe(pyro.sample("z", prior), x)

    def _plate(self, x: Tensor) -> pyro.plate:
        size = self.spec.size
        part = {} if size is None else {"subsample": torch.arange(len(x))}
        return pyro.plate(self.spec.plate, size or len(x), **part)

    def _observe(self, z: Tensor, x: Tensor) -> None:
        fn = self.spec.likelihood(self.decoder, z)
        if self.spec.mask is not None:
            fn = fn.mask(self.spec.mask)
        pyro.sample("x", fn, obs=x)

    def guide(self, x: Tensor) -> None:
        """Draw z given x."""
        self.begin(x)
        spec = self.spec
        fn = self.posterior(x)
        if spec.shared:
            pyro.sample("z", fn)
            return
        if spec.declared:
            pyro.sample("z", fn.to_event(1))
            return
        with self._plate(x), pyro.poutine.scale(scale=spec.weight):
            pyro.sample("z", fn)

    def terms(self, x: Tensor) -> tuple[Tensor, Tensor]:
        """Return log p(x | z) and log p(z) - log q(z) as a user writes them, (examples,).

        At one draw where it is reparameterised, else as sums over all values.
        """
        spec, x = self.spec, self.flat(x)
        prior, posterior = spec.prior(self.prior), self.posterior(x)
        if not posterior.has_rsample:
            log_p, log_q, log_weights = self.exact.terms(x)
            z = answers.nodes(prior, spec.dims)[0].unsqueeze(1)
            rest = answers.unchecked(prior).log_prob(z) - log_q
            likelihood = answers.elbo(log_p - rest, log_q, log_weights)
            rest = answers.elbo(rest + log_q, log_q, log_weights)
        else:
            z = posterior.rsample()
            likelihood = spec.likelihood(self.decoder, z).log_prob(x)
            likelihood = (
                likelihood if spec.mask is None else torch.where(spec.mask, likelihood, 0.0)
            )
            rest = prior.log_prob(z) - posterior.log_prob(z)
        if spec.shared:
            likelihood, rest = likelihood.sum(), rest.sum()
        return self.factor(x) * likelihood, self.factor(x) * rest

    @property
    def exact(self) -> Exact:
        """Sums over a grid."""
        return Exact(self)


class Exact:
    """The exact answers of a `Small`, one an example; one in all for a shared latent."""

    def __init__(self, pair: Small) -> None:
        self._pair = pair

    def elbo(self, x: Tensor) -> Tensor:
        """Return the ELBO in nats; differentiable."""
        log_p, log_q, log_weights = self.terms(x)
        return self._pair.factor(x) * answers.elbo(log_p, log_q, log_weights)

    def log_evidence(self, x: Tensor) -> Tensor:
        """Return log p(x) in nats; of all examples together where they have no plate."""
        log_p, _, log_weights = self.terms(x, fine=True)
        found = answers.log_evidence(log_p, log_weights)
        return found.sum(0, keepdim=True) if self._pair.spec.declared else found

    def terms(self, x: Tensor, *, fine: bool = False) -> tuple[Tensor, Tensor, Tensor]:
        """Return log p(x, z) and log q(z), (points, examples), and logs of weights."""
        pair, spec, x = self._pair, self._pair.spec, self._pair.flat(x)
        prior, posterior = spec.prior(pair.prior), pair.posterior(x)
        z, log_weights = answers.nodes(prior, spec.dims, fine=fine)
        z = z.unsqueeze(1)
        likelihood = spec.likelihood(pair.decoder, z)
        density = answers.unchecked(likelihood).log_prob(x)
        density = density if spec.mask is None else torch.where(spec.mask, density, 0.0)
        if spec.shared:
            density = density.sum(-1, keepdim=True)
        log_p = answers.unchecked(prior).log_prob(z) + density
        log_q = answers.unchecked(posterior).log_prob(z)
        return log_p, log_q.expand_as(log_p), log_weights.unsqueeze(1)
