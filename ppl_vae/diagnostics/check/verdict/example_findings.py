"""Whether each number per example is that of its own example."""

from __future__ import annotations

import math

import numpy as np
import torch
from scipy import stats

from ppl_vae.diagnostics.check.objective import Objective, start_streams
from ppl_vae.diagnostics.check.settings import Settings
from ppl_vae.diagnostics.check.statistics import TOLERANCE, corrected, skewness
from ppl_vae.diagnostics.check.truth import Truth
from ppl_vae.diagnostics.check.verdict.result import Finding
from ppl_vae.pair import Pair
from ppl_vae.seeding import derive

SMALLEST, NUM_SETTINGS, REPLICATES, PARTICLES = 3, 4, 40, 256
LEVEL = 1e-5


@torch.no_grad()
def example_findings(
    pair: Pair, objective: Objective, truth: Truth, settings: Settings, *, seed: int
) -> list[Finding]:
    """Return a finding if single examples' numbers are wrong where their mean is right.

    At a few settings each example's mean over replicates is compared with its right ELBO from
    draws of their own, by a t-test; over all of them the level is `LEVEL`.
    """
    visited = [s for s in settings.all if len(s.index) >= SMALLEST][:NUM_SETTINGS]
    tests = sum(len(setting.index) for setting in visited)
    for number, setting in enumerate(visited):
        start_streams(derive(seed, "examples", number), pair.device)
        with settings.at(setting) as x:
            own = torch.stack([objective.each(x) for _ in range(REPLICATES)]).double()
            terms = [t.double() for t in truth.run(x, num_particles=PARTICLES).three()]
        right, size = torch.stack(terms).sum(0), torch.stack(terms).abs().sum(0)
        # Draws may be rounded onto the edge of a support.
        if own.shape[1] != right.shape[1] or not bool((own.sum() + right.sum()).isfinite()):
            continue
        gap = (own.mean(0) - right.mean(0)).abs() - TOLERANCE * size.mean(0)
        error = (own.var(0) / len(own) + right.var(0) / len(right)).sqrt()
        t = float((gap / error.clamp_min(1e-12)).max().clamp_min(0.0))
        t = float(corrected(np.array(t), skewness(own.T.cpu().numpy()), REPLICATES))
        if stats.t.logsf(t, REPLICATES - 1) < math.log(LEVEL / (2 * tests)):
            message = (
                "the mean over the examples is right, and single numbers are not those of their "
                "own examples: in another order, or one number for all?"
            )
            return [Finding("reduction", "objective", "one number per example", "others", message)]
    return []
