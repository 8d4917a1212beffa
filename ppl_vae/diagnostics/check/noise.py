"""The noise that a function draws from torch, seen from outside, and given to a guide."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import torch
from pyro.poutine.messenger import Messenger
from torch import Tensor
from torch.utils._python_dispatch import TorchDispatchMode

from ppl_vae.diagnostics.check.dropout import DROPS
from ppl_vae.elbos.closed_kl import base

NORMAL, EXPONENTIAL, UNIFORM = "normal", "exponential", "uniform"
LAYOUTS = ("particles first", "examples first")
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


class Recorder(TorchDispatchMode):
    """Keeps a copy of all standard noise that is drawn while it is active, by kind.

    Attributes:
        draws: the kind of noise to the tensors, in the order in which they were drawn.
        dropped: how many numbers of Bernoulli noise were drawn, as dropout draws them.
    """

    def __init__(self) -> None:
        super().__init__()
        self.draws: dict[str, list[Tensor]] = {NORMAL: [], EXPONENTIAL: [], UNIFORM: []}
        self.dropped = 0

    def __torch_dispatch__(
        self,
        func: Any,  # noqa: ANN401
        types: Any,  # noqa: ANN401
        args: tuple[Any, ...] = (),
        kwargs: dict[str, Any] | None = None,
    ) -> Any:  # noqa: ANN401
        """Run the operation; note what it drew."""
        kwargs = kwargs or {}
        out = func(*args, **kwargs)
        if func._schema.name in DROPS:
            self.dropped += args[0].numel()
        read = _READ.get(func._schema.name)
        if read is not None:
            kind, standard = read(func, out, args, kwargs)
            self.draws[kind].append(standard.detach().clone())
        return out


def _normal(func: Any, out: Tensor, args: tuple, kwargs: dict) -> tuple[str, Tensor]:  # noqa: ANN401
    names = [argument.name for argument in func._schema.arguments]
    given = {**dict(zip(names, args, strict=False)), **kwargs}
    mean, std = given.get("mean", 0.0), given.get("std", 1.0)
    return NORMAL, (out.detach() - mean) / std


def _exponential(func: Any, out: Tensor, args: tuple, kwargs: dict) -> tuple[str, Tensor]:  # noqa: ANN401
    rate = args[1] if len(args) > 1 else kwargs.get("lambd", 1.0)
    return EXPONENTIAL, out.detach() * rate


def _uniform(func: Any, out: Tensor, args: tuple, kwargs: dict) -> tuple[str, Tensor]:  # noqa: ANN401
    return UNIFORM, out


_READ = {
    "aten::randn": lambda func, out, args, kwargs: (NORMAL, out),
    "aten::randn_like": lambda func, out, args, kwargs: (NORMAL, out),
    "aten::normal": _normal,
    "aten::normal_": _normal,
    "aten::exponential": _exponential,
    "aten::exponential_": _exponential,
    "aten::rand": _uniform,
    "aten::rand_like": _uniform,
    "aten::uniform": _uniform,
    "aten::uniform_": _uniform,
}


def arrange(
    draws: dict[str, list[Tensor]], latents: list[Latent], batch: int, layout: str
) -> dict[str, Tensor] | None:
    """Return the noise of each latent, (particles, batch, *event_shape), or None if none fits.

    A function that draws several particles draws them in one tensor, particles or examples first,
    or in one tensor after the other.

    Args:
        draws: what `Recorder` saw.
        latents: those of the guide, in its order.
        batch: the number of examples; 0 where they have no dimension of their own.
        layout: which of particles and examples comes first in a tensor of several particles.
    """
    found: dict[str, Tensor] = {}
    for kind in {latent.kind for latent in latents}:
        wanted = [latent for latent in latents if latent.kind == kind]
        stream = draws[kind] or _from_uniform(kind, draws[UNIFORM])
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


def completed(
    draws: dict[str, list[Tensor]], latents: list[Latent], batch: int
) -> dict[str, Tensor] | None:
    """Return noise for one latent of which only the first of all dimensions was drawn, or None.

    The others are drawn here, so that the whole is noise as the guide draws it. What shared the
    one number among them differs from the truth at this noise, and is a formula of its own.

    Args:
        draws: what `Recorder` saw.
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
    if given.numel() == 1 and (batch > 1 or given.dim() < 2):
        given = given.reshape(1, 1)
    elif given.shape[-1:] != (1,) or given.numel() != batch:
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
