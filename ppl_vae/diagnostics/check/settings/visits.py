"""What is drawn at one setting, and the numbers that come of it."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field

import numpy as np
import torch
from torch import Tensor

from ppl_vae.diagnostics.check.objective import Transform
from ppl_vae.diagnostics.check.settings.settings import Setting
from ppl_vae.diagnostics.check.truth import Terms

Columns = Callable[["Draws", Tensor], dict[str, Tensor]]


@dataclass
class Draws:
    """Some draws of the latents at one setting, and the right terms there.

    Attributes:
        terms: the right terms.
        num_particles: how many draws in turn belong to one value of the objective; 0 where they
            have nothing to do with it.
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
        noise: by layout, for every replicate the noise that it drew, or None where it is not
            that of the guide.
    """

    setting: Setting
    values: list[Tensor] = field(default_factory=list)
    noise: list[list[dict[str, Tensor] | None]] = field(default_factory=lambda: [[], []])

    @property
    def is_usable(self) -> bool:
        """Whether the noise of all replicates is known, alike in shape, and fresh each time."""
        found = self.noise[0]
        if len(found) < 2 or any(each is None for each in found):
            return False
        first, second = found[0], found[1]
        assert first is not None and second is not None  # noqa: PT018
        sizes = {tuple(len(v) for v in each.values()) for each in found if each is not None}
        return len(sizes) == 1 and not any(torch.equal(first[n], second[n]) for n in first)


@dataclass
class Sample:
    """Numbers per example at one setting, in nats.

    Attributes:
        values: of the objective, (replicates,).
        columns: of the right terms and of features, (replicates,) each if they were taken at the
            objective's own noise, else (particles,).
        scale: the sum of the absolute means of the right terms.
        batch_size: of the batch.
        setting: where.
    """

    values: np.ndarray
    columns: dict[str, np.ndarray]
    scale: float
    batch_size: int
    setting: Setting

    @property
    def is_finite(self) -> bool:
        """Whether the right terms are, at all draws."""
        return all(np.isfinite(self.columns[n]).all() for n in "LPH" if n in self.columns)
