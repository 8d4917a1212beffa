"""Which plate of a program is the one over the examples."""

from __future__ import annotations

from typing import Any

from pyro import poutine

from ppl_vae import checks
from ppl_vae.batch import Data
from ppl_vae.elbos.sites.traces import Site, density_sites
from ppl_vae.pair import Pair

NAME = "data"


class Plates:
    """The plates of a pair's guide and model.

    The plate over the examples is the one named `data`, or else one whose size is the number of
    examples, also when there is one example less.

    Args:
        pair: the pair.
        x: the data.
        guide: a trace of its guide on them.
        model: a trace of its model.

    Attributes:
        nesting: the number of dimensions that they take.
        of_examples: the name of the plate over the examples, or None.

    Raises:
        NotImplementedError: that plate subsamples the examples, or is not the innermost.
    """

    def __init__(self, pair: Pair, x: Data, guide: Any, model: Any) -> None:  # noqa: ANN401
        frames = [*_frames(guide), *_frames(model)]
        self.nesting = max((-frame.dim for frame in frames), default=0)
        count = pair.num_examples(x)
        plate = next((frame for frame in frames if frame.name == NAME), None)
        self._fewer: Any = None
        if plate is None and count > 1:
            self._fewer = poutine.trace(pair.guide).get_trace(x[:-1])
            trace: Any = poutine.trace(poutine.replay(pair.model, self._fewer)).get_trace(x[:-1])
            less = {frame.name for frame in _frames(trace) if frame.size == count - 1}
            plate = next((f for f in frames if f.size == count and f.name in less), None)
        self.of_examples = None if plate is None else plate.name
        if plate is not None and (plate.size != count or plate.dim != -1):
            raise NotImplementedError(
                checks.message(
                    f"the plate {plate.name!r} over all {count} examples, innermost (dim=-1)",
                    f"one over {plate.size} at dim={plate.dim}",
                    "Leave subsample_size out, and open other plates before it, or use to_event.",
                )
            )

    def is_by_example(self, site: Site) -> bool:
        """Return whether each example has its own part of a latent, of the same shape for all."""
        if self.of_examples is not None:
            return [frame.name for frame in site["cond_indep_stack"]] == [self.of_examples]
        if self._fewer is None:
            return True
        return self._fewer.nodes[site["name"]]["value"].shape == site["value"].shape


def _frames(trace: Any) -> list[Any]:  # noqa: ANN401
    sites = density_sites(trace).values()
    return [f for site in sites for f in site["cond_indep_stack"] if f.dim is not None]
