"""The noise that a function drew from torch, as draws of the latents, and given to a guide."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import torch
from pyro.poutine.messenger import Messenger
from torch import Tensor

from ppl_vae.diagnostics.check.objective.noise_recorder import EXPONENTIAL, NORMAL, UNIFORM
from ppl_vae.elbos.closed_kl import base
from ppl_vae.elbos.traces import is_reparameterised

LAYOUTS = ("particles first", "examples first")
# Families whose draws torch differentiates with an error: near a probability of 1/2 the inverse of
# this one's distribution function cancels, in float32 by a sixth of the gradient.
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
    found: dict[str, Tensor] = {}
    for kind in {latent.kind for latent in latents}:
        wanted = [latent for latent in latents if latent.kind == kind]
        stream = draws[kind] or _from_uniform(kind, draws[UNIFORM])
        stream = of_latents(stream, wanted, batch)
        if not stream or len(stream) % len(wanted):
            return None
        for place, latent in enumerate(wanted):
            parts = []
            for tensor in stream[place :: len(wanted)]:
                part = _particles(tensor, latent, max(batch, 1), layout)
                if part is None:
                    return None
                parts.append(part)
            noise = torch.cat(parts)
            found[latent.name] = noise if batch else noise[:, 0]
    if len({len(noise) for noise in found.values()}) != 1:
        return None
    return found


def of_latents(stream: list[Tensor], latents: list[Latent], batch: int) -> list[Tensor]:
    """Return those tensors that look like noise of the latents, or all if none does."""
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
    """Return noise for one latent of which only the first of all dimensions was drawn, or None.

    The others are drawn here, so that the whole is noise as the guide draws it. What shared the
    one number among them differs from the truth at this noise, and is a formula of its own.

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


def _particles(tensor: Tensor, latent: Latent, batch: int, layout: str) -> Tensor | None:
    size = batch * latent.event_shape.numel()
    if tensor.numel() == 0 or tensor.numel() % size:
        return None
    if layout == LAYOUTS[0]:
        return tensor.reshape(-1, batch, *latent.event_shape)
    return tensor.reshape(batch, -1, *latent.event_shape).transpose(0, 1)


def _from_uniform(kind: str, stream: list[Tensor]) -> list[Tensor]:
    if kind != EXPONENTIAL:
        return []
    return [-(-tensor).log1p() for tensor in stream]


Transform = Callable[[Any, Tensor], Tensor]


class Inject(Messenger):
    """Draws the guide's latents from given noise instead of torch's stream.

    Args:
        noise: site to standard noise, (particles, *batch, *event_shape).
        transform: from a site's base distribution and its noise to the draw; None is the right
            one, any other a mistake to try out.
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
    """Return whether a draw's gradient is taken by its log-density, not through the draw."""
    return not is_reparameterised(fn) or type(base(fn)).__name__ in INEXACT


class WithoutPathwise(Messenger):
    """Draws what `has_score` without the gradient that it would pass back."""

    def _pyro_sample(self, msg: dict[str, Any]) -> None:
        if msg["value"] is None and has_score(msg["fn"]):
            msg["value"], msg["done"] = msg["fn"].sample(), True


def reparameterise(fn: Any, noise: Tensor) -> Tensor:  # noqa: ANN401
    """Return the draw that standard noise stands for: loc + scale noise, or noise / rate."""
    return fn.loc + fn.scale * noise if type(fn).__name__ == "Normal" else noise / fn.rate


def fresh_noise(latents: list[Latent], count: int, batch: int, like: Tensor) -> dict[str, Tensor]:
    """Return noise of the guide's kinds: site to (count, batch, *event_shape)."""
    lead = (count, batch) if batch else (count,)
    noise = {}
    for latent in latents:
        blank = like.new_empty(*lead, *latent.event_shape)
        noise[latent.name] = blank.normal_() if latent.kind == NORMAL else blank.exponential_()
    return noise
