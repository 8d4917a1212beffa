"""Standard noise as draws of a guide's latents: read from a recording, drawn, injected."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import torch
from pyro.poutine.messenger import Messenger
from torch import Tensor

from ppl_vae.batch import Data
from ppl_vae.diagnostics.check.objective.noise_recorder import EXPONENTIAL, NORMAL, UNIFORM
from ppl_vae.elbos.sites.closed_kl import base
from ppl_vae.elbos.sites.traces import is_reparameterised

LAYOUTS = ("particles first", "examples first")
# Families whose draws torch differentiates inaccurately. Near a probability of 1/2 the inverse of
# the distribution function of this one suffers from cancellation: in float32 the gradient is off
# by a sixth.
INEXACT = ("ContinuousBernoulli",)
_KINDS = {"Normal": NORMAL, "Exponential": EXPONENTIAL}


@dataclass(frozen=True)
class Latent:
    """A latent of the guide whose draw is a known function of standard noise.

    Attributes:
        name: its site.
        kind: of the noise, ``normal`` or ``exponential``.
        event_shape: of one example's draw.
    """

    name: str
    kind: str
    event_shape: torch.Size

    @classmethod
    def of(cls, name: str, fn: Any) -> Latent | None:  # noqa: ANN401
        """Return the latent drawn from `fn`, or None for a distribution of another family."""
        kind = _KINDS.get(type(base(fn)).__name__)
        return None if kind is None else cls(name, kind, fn.event_shape)


def arrange(
    draws: dict[str, list[Tensor]], latents: list[Latent], batch: int, layout: str
) -> dict[str, Tensor] | None:
    """Return the noise of each latent, (particles, batch, *event_shape), or None if none fits.

    A function that draws several particles draws them in one tensor, particles or examples first,
    or in one tensor after the other.

    Args:
        draws: what a `Recorder` saw.
        latents: those of the guide, in its order.
        batch: the number of examples; 0 where they have no dimension of their own.
        layout: which of particles and examples comes first in a tensor of several particles.
    """
    arranged: dict[str, Tensor] = {}
    for kind in {latent.kind for latent in latents}:
        same_kind = [latent for latent in latents if latent.kind == kind]
        stream = draws[kind]
        if kind == EXPONENTIAL and not stream:
            # By the inverse distribution function.
            stream = [-(-uniform).log1p() for uniform in draws[UNIFORM]]
        stream = of_latents(stream, same_kind, batch)
        if not stream or len(stream) % len(same_kind):
            return None
        for place, latent in enumerate(same_kind):
            tensors, shape = stream[place :: len(same_kind)], latent.event_shape
            size = max(batch, 1) * shape.numel()
            if any(tensor.numel() == 0 or tensor.numel() % size for tensor in tensors):
                return None
            if layout == LAYOUTS[0]:
                parts = [t.reshape(-1, max(batch, 1), *shape) for t in tensors]
            else:
                parts = [t.reshape(max(batch, 1), -1, *shape).transpose(0, 1) for t in tensors]
            noise = torch.cat(parts)
            arranged[latent.name] = noise if batch else noise[:, 0]
    if len({len(noise) for noise in arranged.values()}) != 1:
        return None
    return arranged


def of_latents(stream: list[Tensor], latents: list[Latent], batch: int) -> list[Tensor]:
    """Return the tensors that look like noise of the latents, or all of them if none does."""
    shapes = [latent.event_shape for latent in latents]
    sizes = {max(batch, 1) * shape.numel() for shape in shapes}

    def fits(tensor: Tensor) -> bool:
        return tensor.numel() in sizes or any(
            len(shape) and tensor.shape[-len(shape) :] == shape for shape in shapes
        )

    return [tensor for tensor in stream if fits(tensor)] or stream


def completed(
    draws: dict[str, list[Tensor]], latents: list[Latent], batch: int
) -> dict[str, Tensor] | None:
    """Return noise for a single latent if only its first dimension was drawn, else None.

    The other dimensions are drawn here, so that the result is noise as the guide draws it. An
    objective that shares one number among them differs from the truth at this noise; there are
    formulas for that.

    Args:
        draws: what a `Recorder` saw.
        latents: those of the guide.
        batch: the number of examples; 0 where they have no dimension of their own.
    """
    if len(latents) != 1 or not batch:
        return None
    (latent,) = latents
    stream = draws[latent.kind]
    if len(latent.event_shape) != 1 or latent.event_shape[0] == 1 or len(stream) != 1:
        return None
    given = stream[0]
    if given.numel() != 1 and (given.shape[-1] != 1 or given.numel() != batch):
        return None
    noise = fresh_noise(latents, 1, batch, given)[latent.name]
    noise[0, : given.numel(), 0] = given.flatten()
    return {latent.name: noise}


Transform = Callable[[Any, Tensor], Tensor]


class Inject(Messenger):
    """Draws the guide's latents from given noise instead of torch's stream.

    Args:
        noise: site to standard noise, (particles, *batch, *event_shape).
        transform: from a site's base distribution and its noise to the draw; None for the right
            one, any other is a mistake to try out.
    """

    def __init__(self, noise: dict[str, Tensor], transform: Transform | None = None) -> None:
        super().__init__()
        self._noise, self._transform = noise, transform or reparameterise

    def _pyro_sample(self, msg: dict[str, Any]) -> None:
        noise = self._noise.get(msg["name"])
        if noise is not None and msg["value"] is None:
            msg["value"] = self._transform(base(msg["fn"]), noise)
            msg["done"] = True


def has_score(fn: Any) -> bool:  # noqa: ANN401
    """Return whether the gradient goes through the log-density of a draw, not through the draw."""
    return not is_reparameterised(fn) or type(base(fn)).__name__ in INEXACT


class WithoutPathwise(Messenger):
    """Detaches the draws for which `has_score` is true."""

    def _pyro_sample(self, msg: dict[str, Any]) -> None:
        if msg["value"] is None and has_score(msg["fn"]):
            msg["value"], msg["done"] = msg["fn"].sample(), True


def reparameterise(fn: Any, noise: Tensor) -> Tensor:  # noqa: ANN401
    """Return the draw that standard noise stands for: loc + scale noise, or noise / rate."""
    return fn.loc + fn.scale * noise if type(fn).__name__ == "Normal" else noise / fn.rate


def fresh_noise(latents: list[Latent], count: int, batch: int, like: Data) -> dict[str, Tensor]:
    """Return noise of the guide's kinds: site to (count, batch, *event_shape)."""
    lead = (count, batch) if batch else (count,)
    noise = {}
    for latent in latents:
        blank = like.new_zeros(*lead, *latent.event_shape)
        noise[latent.name] = blank.normal_() if latent.kind == NORMAL else blank.exponential_()
    return noise
