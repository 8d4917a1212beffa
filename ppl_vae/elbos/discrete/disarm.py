"""Antithetic pairs of bits."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from typing import Any

import pyro
import torch
from pyro.poutine.messenger import Messenger
from pyro.poutine.trace_struct import Trace
from torch import Tensor
from torch.distributions import Bernoulli

from ppl_vae import checks
from ppl_vae.elbos.scores import ScoredELBO, along_the_path, log_ratio, with_gradient_of
from ppl_vae.elbos.sites.closed_kl import base
from ppl_vae.elbos.sites.draws import CutAtLatents, Draw, Function, Program
from ppl_vae.elbos.sites.subsamples import SameSubsamples
from ppl_vae.elbos.sites.traces import (
    density_sites,
    is_reparameterised,
    is_subsample,
    latent_sites,
    log_density,
    total,
)
from ppl_vae.elbos.weights import PARTICLES


@dataclass
class _Antithetic(Draw):
    """A particle, and for each site of bits a twin in which they are drawn antithetically."""

    twins: dict[str, Draw] = field(default_factory=dict)

    @property
    def members(self) -> list[Draw]:
        """The particle and its first twin; each by itself is a draw from the guide.

        How many more sites follow may depend on the bits, and so may no weight of a mean.
        """
        return [self, *list(self.twins.values())[:1]]


class TraceDisARM_ELBO(ScoredELBO):  # noqa: N801  (Pyro's naming)
    """The ELBO of bits, by antithetic pairs.

        (1/2) (f(b) - f(c)) (b - c) sigmoid(|t|) d t / d phi

    b = 1[u < p] and c = 1[1 - u < p] share a uniform number; t is the logit of p, and
    f = log p(x, z) - log q(z). Several sites are taken one after the other: the twin of a site has
    the draws that came before it in the guide, antithetic bits there, and fresh draws after it.
    Within plates bits are weighed by their own data point's terms only. Draws that have an rsample
    are followed along the path.

    Estimand: the ELBO, the mean over the particles and the twins of their first bits.
    Gradient: of the bits' logits by differences, of other draws by their derivatives.
    Bias: none.
    Needs: an even number of particles; Bernoulli latents, others reparameterised.
    Cost: for each pair a pass through guide and model, and one more for each site of bits.
    Source: Dong, Mnih and Tucker, DisARM, 2020, https://arxiv.org/abs/2006.10680.
        `ppl_vae.closed_forms.one_bit` has the variance for one bit.

    Args:
        num_particles: two for each pair, so an even number.
        **options: of ``pyro.infer.ELBO``.

    Raises:
        TypeError: `num_particles` is not an int.
        ValueError: `num_particles` below 2, or odd.
        NotImplementedError: at a step, a draw of the guide that is neither of bits nor
            reparameterised.
    """

    runs_once_a_particle = False

    def __init__(self, num_particles: int = 2, **options: Any) -> None:  # noqa: ANN401
        super().__init__(num_particles, **options)
        if num_particles % 2:
            raise checks.value_error(
                "an even num_particles for TraceDisARM_ELBO",
                f"{num_particles}",
                f"They are drawn in pairs: choose {num_particles + 1}.",
            )

    def check_traces(self, model: Trace, guide: Trace) -> None:
        """Raise unless the draws without an rsample are bits."""
        for name, site in density_sites(guide).items():
            if not (_is_bits(site) or is_reparameterised(site["fn"])):
                raise checks.not_implemented(
                    f"Bernoulli or reparameterised draws at the guide's site {name!r}",
                    f"{type(base(site['fn'])).__name__}, which has no antithetic pair",
                    "Choose 'leave-one-out', which takes any discrete latent.",
                )
        super().check_traces(model, guide)

    def bound(self, draws: list[_Antithetic], program: Program) -> Tensor:  # pyright: ignore[reportIncompatibleMethodOverride]
        """Return the mean of log p(x, z) - log q(z) over particles and twins of the first bits."""
        values, surrogates = [], []
        for draw in draws:
            count = len(draw.members)
            for each in draw.members:
                values.append((log_density(each.model) - log_density(each.guide)) / count)
                surrogates.append(along_the_path(each.model, each.guide) / count)
            surrogates += [_difference(draw, name) for name in draw.twins]
        pairs = self.num_particles // 2
        return with_gradient_of(total(values) / pairs, total(surrogates) / pairs)

    def _draws(self, program: Program) -> Iterator[_Antithetic]:
        shared = SameSubsamples()
        for _ in range(1 if self.vectorize_particles else self.num_particles // 2):
            bits = _Bits()
            with shared, bits:
                model, guide = next(iter(self._get_traces(*program)))
            draw = _Antithetic(model, guide, CutAtLatents())
            for name in bits.uniforms:
                with shared, _Twin(name, draw.guide, bits):
                    model, guide = next(iter(self._get_traces(*program)))
                draw.twins[name] = Draw(model, guide, draw.cut)
            yield draw

    def _vectorized_num_particles(self, fn: Function) -> Callable[..., Any]:
        pairs = self.num_particles // 2
        if pairs == 1:
            return fn
        return pyro.plate(PARTICLES, pairs, dim=-int(self.max_plate_nesting))(fn)


class _Bits(Messenger):
    """Draws the guide's bits from uniform numbers, and keeps these by site."""

    def __init__(self) -> None:
        super().__init__()
        self.uniforms: dict[str, Tensor] = {}

    def _pyro_sample(self, msg: Any) -> None:  # noqa: ANN401
        # What is done already is the model's, replayed.
        if not msg["done"] and not msg["is_observed"] and _is_bits(msg):
            probs = base(msg["fn"]).probs.detach()  # pyright: ignore[reportAttributeAccessIssue]
            u = torch.rand(probs.shape, dtype=probs.dtype, device=probs.device)
            self.uniforms[msg["name"]] = u
            msg["value"], msg["done"] = (u < probs).to(probs.dtype), True


class _Twin(Messenger):
    """Repeats a guide up to one site of bits, and draws these antithetically."""

    def __init__(self, name: str, guide: Trace, bits: _Bits) -> None:
        super().__init__()
        drawn = latent_sites(guide)
        names = list(drawn)
        self._values = {n: drawn[n]["value"] for n in names[: names.index(name)]}
        self._name, self._uniform = name, bits.uniforms[name]

    def _pyro_sample(self, msg: Any) -> None:  # noqa: ANN401
        if msg["done"] or msg["is_observed"] or is_subsample(msg):
            return
        if msg["name"] in self._values:
            msg["value"], msg["done"] = self._values[msg["name"]], True
        elif msg["name"] == self._name:
            probs = base(msg["fn"]).probs.detach()  # pyright: ignore[reportAttributeAccessIssue]
            msg["value"], msg["done"] = (1 - self._uniform < probs).to(probs.dtype), True


def _is_bits(site: Any) -> bool:  # noqa: ANN401
    return isinstance(base(site["fn"]), Bernoulli)


def _difference(draw: _Antithetic, name: str) -> Tensor:
    """Return a scalar with the gradient by the logits of one site's bits."""
    twin = draw.twins[name]
    site, other = (latent_sites(each.guide)[name] for each in (draw, twin))
    frames = site["cond_indep_stack"]
    ratios = [log_ratio(each.model, each.guide).sum_to(frames) for each in (draw, twin)]
    gap: Any = torch.as_tensor(ratios[0] - ratios[1])
    gap = gap.reshape(gap.shape + (1,) * site["fn"].event_dim)
    logits: Tensor = base(site["fn"]).logits  # pyright: ignore[reportAttributeAccessIssue]
    change = site["value"] - other["value"]
    slope = gap * change * logits.detach().abs().sigmoid() / 2
    return (slope * logits).sum()
