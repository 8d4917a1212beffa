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

from ppl_vae.elbos.traces import latent_sites

Parents = dict[str, set[str]]


class _TrackLatents(Messenger):
    """Marks the value of every latent with its name; operations carry the marks on."""

    def _pyro_post_sample(self, msg: dict[str, Any]) -> None:
        if torch.is_tensor(msg["value"]) and not msg["is_observed"]:
            value = detach_provenance(msg["value"])
            msg["value"] = ProvenanceTensor(value, frozenset({msg["name"]}))


def parents(
    model: Callable[..., Any],
    guide: Callable[..., Any],
    args: tuple[Any, ...],
    kwargs: dict[str, Any],
) -> tuple[Parents, Parents]:
    """Return, for every latent, the latents on whose values its distribution depends.

    Found by running model and guide once with marked values, not from the order of their sites.
    Where a program cannot be followed so, every earlier latent counts as a parent, which is never
    too few. The random state is left as it was.

    Args:
        model: a Pyro model.
        guide: its guide.
        args: what both are called with.
        kwargs: likewise.

    Returns:
        The model's parents and the guide's, by site.
    """
    with torch.random.fork_rng(), torch.no_grad(), pyro.validation_enabled(False):  # noqa: FBT003
        with poutine.block():
            plain = poutine.trace(guide).get_trace(*args, **kwargs)
            plain_model = poutine.trace(poutine.replay(model, plain)).get_trace(*args, **kwargs)
        try:
            with poutine.block(), _TrackLatents():
                marked = poutine.trace(guide).get_trace(*args, **kwargs)
                marked_model = poutine.trace(poutine.replay(model, marked)).get_trace(
                    *args, **kwargs
                )
            return _marked_parents(marked_model), _marked_parents(marked)
        except Exception:  # whatever a subclass of Tensor may break in a user's program
            return _earlier(plain_model), _earlier(plain)


def descendants(parents_of: Parents, site: str) -> set[str]:
    """Return the sites that depend on `site`, directly or through others, and `site` itself."""
    found = {site}
    while True:
        more = {name for name, above in parents_of.items() if above & found} - found
        if not more:
            return found
        found |= more


def _marked_parents(trace: Trace) -> Parents:
    names = set(latent_sites(trace))
    found = {}
    for name, site in latent_sites(trace).items():
        value = detach_provenance(site["value"])
        found[name] = set(get_provenance(site["fn"].log_prob(value))) & names - {name}
    return found


def _earlier(trace: Trace) -> Parents:
    names = list(latent_sites(trace))
    return {name: set(names[:place]) for place, name in enumerate(names)}
