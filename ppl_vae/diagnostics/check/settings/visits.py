"""What is drawn at one setting, and the numbers that result."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field

import numpy as np
import torch
from torch import Tensor

from ppl_vae.batch import Data
from ppl_vae.diagnostics.check.objective import Transform
from ppl_vae.diagnostics.check.settings.settings import Setting
from ppl_vae.diagnostics.check.truth import Terms

Columns = Callable[["Draws", Data], dict[str, Tensor]]


@dataclass
class Draws:
    """Some draws of the latents at one setting, and the right terms there.

    Attributes:
        terms: the right terms.
        num_particles: the number of successive draws that belong to one value of the objective;
            0 where they have nothing to do with it.
        again: the terms with another way from noise to draw; None where the noise is not known.
    """

    terms: Terms
    num_particles: int
    again: Callable[[Transform], Terms] | None


@dataclass
class Visit:
    """What was drawn at one setting.

    Attributes:
        setting: where.
        values: of the objective per example, one for each replicate.
        noise: by layout, the noise that every replicate drew, or None where it is not that of
            the guide.
    """

    setting: Setting
    values: list[Tensor] = field(default_factory=list)
    noise: list[list[dict[str, Tensor] | None]] = field(default_factory=lambda: [[], []])

    @property
    def is_usable(self) -> bool:
        """Whether the noise of all replicates is known, alike in shape, and fresh each time."""
        known = [noise for noise in self.noise[0] if noise is not None]
        if len(known) < max(len(self.noise[0]), 2):
            return False
        first, second, *_ = known
        sizes = {tuple(len(v) for v in noise.values()) for noise in known}
        return len(sizes) == 1 and not any(torch.equal(first[n], second[n]) for n in first)


@dataclass
class Sample:
    """Numbers per example at one setting, in nats.

    Attributes:
        values: of the objective, (replicates,).
        columns: of the right terms and of features; (replicates,) each if they were taken at the
            objective's own noise, else (particles,).
        scale: the mean of the sum of the right terms' absolute values.
        batch_size: the number of examples.
        setting: where.
    """

    values: np.ndarray
    columns: dict[str, np.ndarray]
    scale: float
    batch_size: int
    setting: Setting

    @property
    def is_finite(self) -> bool:
        """Whether the right terms are finite at all draws."""
        return all(np.isfinite(self.columns[n]).all() for n in "LPH" if n in self.columns)
