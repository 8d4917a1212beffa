"""Two gradients of one parameter group, compared along a few directions."""

from __future__ import annotations

import math

import torch
from scipy import stats
from torch import Tensor

from ppl_vae.diagnostics.check.statistics import corrected, skewness

NUM_RANDOM = 2
# The number of blocks that show where the two seem to differ; the other blocks test it.
LEARNED_FROM = 8
# What is too small to matter, and the noise of a direction that is known; both relative.
MATERIAL, CLEAR = 3e-3, 0.02


class Directions:
    """Compares an objective's gradient with the right one along directions, block by block.

    Along the gradients of the three terms, as a wrong weight of one of them is the common case;
    along random signs, for what is wrong elsewhere; and along the coordinates that are most off
    in the first blocks, which only the later ones test.

    Args:
        terms: gradients of the three terms, flat, (3, size), from a block of their own.
        weights: of the terms in the right gradient, (3,).
        rounding: what rounding may leave of the whole gradient, relative to it.
    """

    def __init__(self, terms: Tensor, weights: Tensor, rounding: float) -> None:
        size = terms.shape[1]
        random = torch.randint(0, 2, (NUM_RANDOM, size), device=terms.device) * 2.0 - 1
        aims = torch.cat([random.to(terms) / math.sqrt(size), terms])
        length = aims.norm(dim=1, keepdim=True)
        self._directions = torch.where(length > 0, aims / length, torch.zeros_like(aims))
        right = (weights @ terms).norm()
        self._sizes = torch.cat([right.expand(NUM_RANDOM), length[NUM_RANDOM:, 0]])
        self._rounding = rounding * self._sizes.max()
        self._first: list[Tensor] = []
        self._learned: Tensor | None = None
        self._along: list[Tensor] = []
        self._along_learned: list[Tensor] = []

    def add(self, difference: Tensor) -> None:
        """Take one block's difference between the two gradients, flat."""
        self._along.append(self._directions @ difference)
        if self._learned is not None:
            self._along_learned.append((self._learned @ difference)[None])
        else:
            self._first.append(difference)
            if len(self._first) == LEARNED_FROM:
                self._learned = self._most_off(torch.stack(self._first))
                self._first = []

    def is_clear(self) -> bool:
        """Return whether a few percent in a term's gradient would be seen."""
        noise = torch.stack(self._along).std(0) / math.sqrt(len(self._along))
        return not bool((noise > CLEAR * self._sizes + 1e-12)[NUM_RANDOM:].any())

    @property
    def z_score(self) -> float:
        """The largest over the directions; 0 where no difference is of a size that matters."""
        fixed = self._z_score(self._along, self._sizes)
        if len(self._along_learned) < LEARNED_FROM:
            return fixed
        return max(fixed, self._z_score(self._along_learned, self._sizes[:1]))

    def _most_off(self, differences: Tensor) -> Tensor:
        """Return the direction that best tells the two apart, among the coordinates most off."""
        mean, size = differences.mean(0), differences.shape[1]
        variance = differences.var(0) + self._rounding**2 / size + 1e-300
        score = mean.abs() / variance.sqrt()
        chosen = score.topk(math.isqrt(size - 1) + 1).indices
        direction = torch.zeros_like(mean)
        direction[chosen] = (mean / variance)[chosen]
        length = direction.norm()
        return direction / length if length > 0 else direction

    def _z_score(self, rows: list[Tensor], sizes: Tensor) -> float:
        components, sizes = torch.stack(rows).cpu(), sizes.cpu()
        rounding, count = self._rounding.cpu(), len(components)
        mean = components.mean(0)
        error = components.std(0) / math.sqrt(count)
        noisy = components[:, error > rounding]
        skew = skewness(noisy.T.numpy()) if noisy.shape[1] else 0.0
        beyond = (mean.abs() - MATERIAL * sizes - rounding).clamp_min(0.0)
        t = torch.where(beyond > 0, beyond / error, torch.zeros_like(beyond)).max()
        t = corrected(t.numpy(), skew, count)
        log_p = float(stats.t.logsf(float(t), count - 1))
        return float(stats.norm.isf(math.exp(log_p))) if log_p > -600 else math.inf
