"""The importance-weighted estimate of the evidence, block by block within a memory budget."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace

import pyro
import torch
from torch import Tensor

from ppl_vae import checks
from ppl_vae.diagnostics.evidence.fused import compiled_kernel
from ppl_vae.diagnostics.evidence.importance import summarise
from ppl_vae.diagnostics.evidence.particles import Particles
from ppl_vae.diagnostics.evidence.result import Evidence, joined
from ppl_vae.diagnostics.memory import peak_bytes
from ppl_vae.seeding import derive, reseed

# A block that large keeps the overhead of a run of model and guide small; a larger one gains
# nothing and leaves the caches.
BLOCK_BYTES = 32 * 2**20
# Below it compiling takes longer than it saves.
WORTH_COMPILING = 2 * 10**9
_FEW, _MORE = 4, 12


def importance_evidence(
    particles: Particles, x: Tensor, *, num_samples: int, max_bytes: int, seed: int
) -> Evidence:
    """Return log (1/S) sum_s p(x_i, z_s) / q(z_s | x_i), z_s ~ q, with its errors, per example.

    Every block of examples and samples, of at most `max_bytes`, has a stream of its own that is
    derived from `seed`; it is torch's global stream.
    """
    if num_samples * x.numel() >= WORTH_COMPILING and particles.vectorised:
        particles = replace(particles, kernel=compiled_kernel(x.device.type))
    blocks = log_weights(particles, x, num_samples=num_samples, max_bytes=max_bytes, seed=seed)
    return joined(list(map(summarise, blocks)))


@torch.no_grad()
def log_weights(
    particles: Particles, x: Tensor, *, num_samples: int, max_bytes: int, seed: int
) -> Iterator[Tensor]:
    """Yield the log-weights of the examples in order, (num_samples, some examples) at a time."""
    budget = min(BLOCK_BYTES, max_bytes)
    # Without the kernel, so that the blocks, and with them the numbers, do not hang on it.
    with pyro.validation_enabled(False):  # noqa: FBT003
        room = budget // bytes_per_sample(replace(particles, kernel=None), x, seed)
    if room < 1:
        raise ValueError(
            checks.message(
                "max_bytes for one sample of one example at least",
                f"{max_bytes}",
                "Raise max_bytes.",
            )
        )
    size = max(1, room // num_samples) if particles.splits else max(len(x), 1)
    rounds = -(-num_samples // room)
    step = -(-num_samples // rounds)
    for first in range(0, len(x) if particles.splits else 1, size):
        part = x[first : first + size] if particles.splits else x
        found = []
        with pyro.validation_enabled(False):  # noqa: FBT003
            for start in range(0, num_samples, step):
                reseed(derive(seed, first, start), x.device)
                found.append(particles.log_weights(part, min(step, num_samples - start)))
        yield found[0] if len(found) == 1 else torch.cat(found)


def bytes_per_sample(particles: Particles, x: Tensor, seed: int) -> int:
    """Return how many bytes one more sample of one example takes (of all, if they go together)."""
    part = x[:1] if particles.splits else x

    def peak(count: int) -> int:
        reseed(derive(seed, "memory"), x.device)
        return peak_bytes(lambda: particles.log_weights(part, count))

    return max((peak(_MORE) - peak(_FEW)) // (_MORE - _FEW), 8)
