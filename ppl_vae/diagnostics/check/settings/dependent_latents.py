"""Parameters at which latents depend on each other strongly, in model and guide alike.

A formula that takes them for independent is nearly right at random parameters, where the networks
between the layers hardly respond to their inputs. At these it is off by more than its noise.
"""

from __future__ import annotations

import torch
from torch import Tensor

from ppl_vae.batch import Data
from ppl_vae.diagnostics.check.truth import Truth, closed_kl
from ppl_vae.pair import Pair

STARTS, STOPS, STEP, PARTICLES = 4, (15, 30), 0.03, 32


def ascend(pair: Pair, truth: Truth, x: Data) -> list[tuple[Tensor, ...]]:
    """Climb from the pair's parameters as they stand, and leave them changed.

    The height is the error of the closed KL of a latent whose parents descend from it in the
    guide, over the standard deviation of that error.

    Returns:
        The values of all parameters after some steps, and after more.
    """
    learned = [p for p in pair.parameters() if p.requires_grad]
    states = []
    for step in range(1, STOPS[-1] + 1):
        with torch.enable_grad():
            terms = truth.run(x, num_particles=PARTICLES)
            height = torch.zeros((), dtype=x.dtype, device=x.device)
            for name in truth.invalid:
                right = terms.prior[name] + terms.entropy[name]
                error = right + closed_kl(terms, name, torch.zeros_like(right))
                height = height + error.mean() / error.std().clamp_min(1e-6)
            slopes = torch.autograd.grad(height, learned, allow_unused=True)
        for parameter, slope in zip(learned, slopes, strict=True):
            if slope is not None:
                parameter.data.add_(STEP * slope.sign())
        if step in STOPS:
            states.append(tuple(p.detach().clone() for p in pair.parameters()))
    return states
