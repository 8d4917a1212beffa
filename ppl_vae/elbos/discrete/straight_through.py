"""Discrete latents whose gradient passes straight through a relaxation."""

from __future__ import annotations

import copy
from typing import Any

import torch
from pyro.distributions import OneHotCategorical
from pyro.poutine.messenger import Messenger
from pyro.poutine.trace_struct import Trace
from torch import Tensor
from torch.distributions import Bernoulli

from ppl_vae import checks
from ppl_vae.elbos.pathwise import PathwiseELBO
from ppl_vae.elbos.sites.closed_kl import base
from ppl_vae.elbos.sites.draws import Draw, Function, Program
from ppl_vae.elbos.sites.traces import (
    check_sites,
    density_sites,
    is_reparameterised,
    is_subsample,
    log_density,
    total,
)


class TraceStraightThrough_ELBO(PathwiseELBO):  # noqa: N801  (Pyro's naming)
    """The ELBO of discrete latents with the straight-through Gumbel-softmax gradient.

        z = one_hot(argmax_k (t_k + g_k)),    dz := d softmax((t + g) / temperature)

    t are the logits and g Gumbel noise. The draws are exact, so the value is that of the ELBO; the
    gradient treats each draw as if it moved with its relaxation, which has little noise and is
    biased: log p(x, z) between the corners of the cube decides it. A lower temperature brings less
    bias and more noise. Draws that have an rsample are followed along the path, without bias.

    Estimand: the ELBO.
    Gradient: of discrete draws that of a relaxation.
    Bias: of the gradient, at every temperature; none of the value.
    Needs: a temperature; Bernoulli or one-hot latents, others reparameterised.
    Cost: one pass through guide and model.
    Source: Jang, Gu and Poole, Categorical Reparameterization with Gumbel-Softmax, 2017,
        https://arxiv.org/abs/1611.01144; for bits, Maddison, Mnih and Teh, The Concrete
        Distribution, 2017, https://arxiv.org/abs/1611.00712.

    Args:
        num_particles: draws in each estimate, at least 1.
        temperature: of the relaxation, above 0; 0.5 to 1 are usual.
        **options: of ``pyro.infer.ELBO``.

    Raises:
        TypeError: `num_particles` is not an int, or `temperature` no number.
        ValueError: `num_particles` below 1, no `temperature`, or one not above 0.
        NotImplementedError: at a step, another draw of the guide without an rsample.
    """

    def __init__(
        self,
        num_particles: int = 1,
        *,
        temperature: float | None = None,
        **options: Any,  # noqa: ANN401
    ) -> None:
        if temperature is None:
            raise checks.value_error(
                "temperature= of TraceStraightThrough_ELBO",
                "none",
                "Bias and noise depend on it; pass 0.5, say, and compare with others.",
            )
        super().__init__(num_particles, **options)
        self.temperature = checks.positive_number("temperature", temperature)

    def check_traces(self, model: Trace, guide: Trace) -> None:
        """Raise unless the draws without an rsample are bits or one-hot."""
        check_sites(model, guide, reparameterised=False)
        for name, site in density_sites(guide).items():
            fn = site["fn"]
            if not (_is_discrete(fn) or is_reparameterised(fn)):
                raise checks.not_implemented(
                    f"Bernoulli, OneHotCategorical or reparameterised draws at the guide's site "
                    f"{name!r}",
                    f"{type(base(fn)).__name__}, whose draws cannot carry a gradient",
                    "Draw OneHotCategorical instead, or choose 'leave-one-out'.",
                )

    def bound(self, draws: list[Draw], program: Program) -> Tensor:
        """Return the mean of log p(x, z) - log q(z) over the particles."""
        parts = [log_density(draw.model) - log_density(draw.guide) for draw in draws]
        return total(parts) / self.num_particles

    def _get_trace(
        self, model: Function, guide: Function, args: tuple[Any, ...], kwargs: dict[str, Any]
    ) -> tuple[Trace, Trace]:
        with _StraightThrough(self.temperature):
            return super()._get_trace(model, guide, args, kwargs)


class _StraightThrough(Messenger):
    """Draws bits and one-hot vectors with the gradient of their relaxations."""

    def __init__(self, temperature: float) -> None:
        super().__init__()
        self._temperature = temperature

    def _pyro_sample(self, msg: Any) -> None:  # noqa: ANN401
        if msg["is_observed"] or is_subsample(msg) or not _is_discrete(msg["fn"]):
            return
        msg["fn"] = _linear(msg["fn"])
        if not msg["done"]:  # what is done already is the model's, replayed
            msg["value"], msg["done"] = self._draw(base(msg["fn"])), True

    def _draw(self, fn: Any) -> Tensor:  # noqa: ANN401
        logits = fn.logits
        tiny = torch.finfo(logits.dtype).tiny
        noise = torch.rand(logits.shape, dtype=logits.dtype, device=logits.device).clamp_min(tiny)
        if isinstance(fn, Bernoulli):
            shifted = logits + noise.log() - (-noise).log1p()
            hard, soft = (shifted > 0).to(logits.dtype), shifted / self._temperature
            soft = soft.sigmoid()
        else:
            shifted = logits - (-noise.log()).log()
            hard = torch.zeros_like(logits).scatter_(-1, shifted.argmax(-1, keepdim=True), 1.0)
            soft = (shifted / self._temperature).softmax(-1)
        return hard + (soft - soft.detach())


class _LinearOneHot(OneHotCategorical):
    """One-hot vectors whose log-density is linear in them, so that it has a derivative."""

    def log_prob(self, value: Tensor) -> Tensor:
        lowest = torch.finfo(self.logits.dtype).min
        return (value * self.logits.clamp_min(lowest)).sum(-1)


def _is_discrete(fn: object) -> bool:
    kind = base(fn)
    is_plain = not type(kind).__name__.endswith("StraightThrough")
    return is_plain and isinstance(kind, (Bernoulli, OneHotCategorical))


def _linear(fn: Any) -> Any:  # noqa: ANN401
    """Return a copy in which one-hot vectors are `_LinearOneHot`."""
    twin = copy.copy(fn)
    if hasattr(fn, "base_dist"):
        twin.base_dist = _linear(fn.base_dist)
    elif isinstance(fn, OneHotCategorical):
        twin.__class__ = _LinearOneHot
    return twin
