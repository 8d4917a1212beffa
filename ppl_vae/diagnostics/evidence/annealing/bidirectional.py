"""The evidence between two bounds, on data that the model itself has made."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

import torch

from ppl_vae import checks
from ppl_vae.batch import Data
from ppl_vae.diagnostics.estimate import Estimate
from ppl_vae.diagnostics.evidence.annealing.annealed import (
    DEFAULT_CHAINS,
    Annealing,
    Path,
    check_supports,
    split,
)
from ppl_vae.diagnostics.evidence.density.log_joint import LogJoint
from ppl_vae.diagnostics.evidence.importance_weights import summarise
from ppl_vae.diagnostics.evidence.log_evidence import DEFAULT_BYTES
from ppl_vae.diagnostics.evidence.result import Evidence, Source, cast, gap_between, joined
from ppl_vae.diagnostics.evidence.subject import prepared
from ppl_vae.diagnostics.simulation import Simulator
from ppl_vae.functions import Functions
from ppl_vae.pair import Pair
from ppl_vae.seeding import Seed, as_int, derive, reseed

if TYPE_CHECKING:
    from rich.console import Console

_SOURCE = Source("simulated from the model", "none", "none")


@dataclass(frozen=True, eq=False)
class BidirectionalEvidence:
    """A lower and an upper bound of log p(x_i), both in expectation, on simulated data.

    Attributes:
        x: the simulated data.
        lower: by annealed importance sampling from the guide to the posterior.
        upper: by the same way back from the latents that made the data.
    """

    x: Data
    lower: Evidence
    upper: Evidence

    @property
    def gap(self) -> Estimate[float]:
        """The mean over the examples of upper minus lower bound, in nats."""
        return gap_between(self.lower.per_example(), self.upper.per_example())

    def __str__(self) -> str:
        return f"{self.lower}\n{self.upper}\ngap between the two {self.gap} nats"

    def print(self, console: Console | None = None) -> None:
        """Print both bounds and the gap between them."""
        from rich.console import Console

        (console or Console()).print(str(self), highlight=False)


@checks.own_words()
def bidirectional_evidence(
    pair: Pair | Functions,
    like: Data,
    *,
    num_samples: int = DEFAULT_CHAINS,
    num_temperatures: int = 200,
    num_leapfrog: int = 5,
    seed: Seed = 0,
    device: str | torch.device = "auto",
    max_bytes: int = DEFAULT_BYTES,
    plate: str = "data",
) -> BidirectionalEvidence:
    """Bound the evidence from both sides, on data drawn from the model.

    The latents that made an example are an exact draw from its posterior. From there the annealed
    way is gone back to the guide; 1/w is then unbiased for 1 / p(x), so that the negative log of
    its mean is an upper bound in expectation. If the bounds meet on simulated data, the lower one
    can be trusted on data that are like them.

    Args:
        pair: as for `log_evidence`.
        like: data of the shape to simulate; their values do not matter.
        num_samples: chains per example in each direction, at least 2.
        num_temperatures: steps between guide and posterior.
        num_leapfrog: leapfrog steps of each transition.
        seed: of everything random.
        device: ``auto`` is the GPU where there is one; for functions, where `like` is.
        max_bytes: that the chains of some examples may take, approximately.
        plate: name of the plate over the examples.

    Returns:
        The data and both bounds, per example, (batch,), in nats.

    Raises:
        TypeError: as `log_evidence`.
        ValueError: as `log_evidence`.
        NotImplementedError: as `log_evidence` by ``ais``; or the model observes nothing, or what
            is no tensor of the batch as it is.

    Source:
        Grosse, Ghahramani and Adams, Sandwiching the marginal likelihood using bidirectional
        Monte Carlo, 2015.

    Example:
        >>> from ppl_vae import GaussianChain
        >>> pair = GaussianChain()
        >>> found = bidirectional_evidence(pair, torch.zeros(4, 1), num_temperatures=20)
        >>> exact = pair.exact.log_evidence(found.x)
        >>> bool((found.lower.mean - exact).abs().max() < 0.1)
        True
    """
    annealing = Annealing(num_samples, num_temperatures, num_leapfrog)
    checks.count("max_bytes", max_bytes)
    number = as_int(seed)
    with prepared(pair, like, seed=derive(number, "data"), device=device) as subject:
        (blank,) = subject.chunks()
        particles = subject.particles(plate)
        check_supports(particles, blank)
        with torch.no_grad():
            simulator = Simulator.of(particles.model, blank)
            reseed(derive(number, "simulate"), subject.device)
            # As one particle, so that the latents have the dimension that the densities expect.
            with particles.batched(1):
                x, draw = simulator.draw(blank)
        joint = LogJoint(particles, x)
        u = joint.unconstrained(draw)
        lower, upper, first = [], [], 0
        for index, part in enumerate(
            split(joint, x, num_samples, max_bytes, derive(number, "size"))
        ):
            reseed(derive(number, "tune", index), subject.device)
            path = Path.tuned(part, annealing)
            lower.append(summarise(path.forward(), "ais"))
            start = u[:, first : first + path.num_examples]
            first += path.num_examples
            weights = summarise(-path.backward(start), "reverse-ais")
            upper.append(replace(weights, mean=-weights.mean))
    bounds = (cast(joined(parts), subject.dtype, x.device, _SOURCE) for parts in (lower, upper))
    return BidirectionalEvidence(x, *bounds)
