"""How the values of a program's sites depend on each other."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pyro
import torch
from pyro import poutine
from pyro.ops.provenance import ProvenanceTensor, detach_provenance, get_provenance
from pyro.poutine.messenger import Messenger
from pyro.poutine.trace_struct import Trace
from torch import Tensor
from torch.overrides import TorchFunctionMode

from ppl_vae.elbos.sites.traces import is_subsample, latent_sites

Parents = dict[str, set[str]]

# Methods that make Python values of a tensor's entries.
TO_PYTHON = {
    *("item", "tolist", "numpy", "__array__", "__dlpack__", "equal", "allclose", "is_nonzero"),
    *("__bool__", "__float__", "__int__", "__index__", "__complex__", "__contains__"),
}
# What marks do not follow: the result is no tensor, or the tensor is written to.
_LOSES_MARKS = TO_PYTHON | {"__setitem__"}


class _LostTrackError(Exception):
    """A program used a marked value in a way that marks do not follow."""


class _TrackLatents(Messenger):
    """Marks the value of every latent with its name; operations carry the marks on.

    The value is also a leaf of autograd, which follows what marks do not: writing into a part of
    a tensor, ``torch.jit`` and ``torch.vmap``.
    """

    def __init__(self) -> None:
        super().__init__()
        self.leaves: dict[str, Tensor] = {}

    def _pyro_post_sample(self, msg: dict[str, Any]) -> None:
        name, value = msg["name"], msg["value"]
        if not torch.is_tensor(value) or msg["is_observed"] or is_subsample(msg):
            return
        value = detach_provenance(value).detach()
        if value.is_floating_point():
            value = self.leaves[name] = self.leaves.get(name, value).requires_grad_()
        msg["value"] = ProvenanceTensor(value, frozenset({name}))


class _RefuseToLeave(TorchFunctionMode):
    """Raises where a marked value turns into one that cannot be marked."""

    def __torch_function__(
        self,
        func: Callable[..., Any],
        types: Any,  # noqa: ANN401
        args: tuple[Any, ...] = (),
        kwargs: dict[str, Any] | None = None,
    ) -> Any:  # noqa: ANN401
        kwargs = kwargs or {}
        marks = get_provenance([args, kwargs])
        if marks:
            name = getattr(func, "__name__", "")
            in_place = name.endswith("_") and not name.endswith("__")
            loses_marks = in_place and get_provenance(args[:1]) != marks
            if name in _LOSES_MARKS or loses_marks or kwargs.get("out") is not None:
                raise _LostTrackError(name)
        return func(*args, **kwargs)


def parents(
    model: Callable[..., Any],
    guide: Callable[..., Any],
    args: tuple[Any, ...],
    kwargs: dict[str, Any],
    *,
    traces: tuple[Trace, Trace],
) -> tuple[Parents, Parents]:
    """Return, for every latent, the latents on whose values its distribution depends.

    They are found by running model and guide once with marked values, not from the order of their
    sites. Where a program cannot be followed this way (it branches on a latent, say), every
    latent before it in `traces` counts as a parent, which is never too few. The random state is
    left as it was.

    Returns:
        The model's parents and the guide's, by site.
    """
    values = [site["value"] for trace in traces for site in latent_sites(trace).values()]
    devices = {v.device for v in values if torch.is_tensor(v) and v.is_cuda}
    track = _TrackLatents()
    try:
        with (
            torch.random.fork_rng(devices),
            torch.enable_grad(),
            pyro.validation_enabled(False),  # noqa: FBT003
            poutine.block(),
            track,
            _RefuseToLeave(),
        ):
            marked = poutine.trace(guide).get_trace(*args, **kwargs)
            marked_model = poutine.trace(poutine.replay(model, marked)).get_trace(*args, **kwargs)
            return _marked_parents(marked_model, track), _marked_parents(marked, track)
    except Exception:  # marks may break anything in a user's program
        return _earlier(traces[0]), _earlier(traces[1])


def descendants(parents_of: Parents, site: str) -> set[str]:
    """Return the sites that depend on `site`, directly or through others, and `site` itself."""
    family = {site}
    while children := {name for name, above in parents_of.items() if above & family} - family:
        family |= children
    return family


def _marked_parents(trace: Trace, track: _TrackLatents) -> Parents:
    sites = latent_sites(trace)
    parents_of = {}
    for name, site in sites.items():
        value = detach_provenance(site["value"]).detach()
        log_prob = site["fn"].log_prob(value)
        marks = set(get_provenance([log_prob, site["scale"], site["mask"]]))
        marks |= _reached(detach_provenance(log_prob), track)
        parents_of[name] = marks & set(sites) - {name}
    return parents_of


def _reached(output: Tensor, track: _TrackLatents) -> set[str]:
    """Return the latents that autograd finds behind `output`."""
    if not output.requires_grad:
        return set()
    slopes = torch.autograd.grad(
        output.sum(), list(track.leaves.values()), retain_graph=True, allow_unused=True
    )
    return {name for name, s in zip(track.leaves, slopes, strict=True) if s is not None}


def _earlier(trace: Trace) -> Parents:
    names = list(latent_sites(trace))
    return {name: set(names[:place]) for place, name in enumerate(names)}
