"""The noise that an objective draws, call by call."""

from __future__ import annotations

from torch import Tensor

from ppl_vae.batch import Data
from ppl_vae.diagnostics.check.objective import (
    EXPONENTIAL,
    LAYOUTS,
    UNIFORM,
    Recorder,
    arrange,
    completed,
    of_latents,
)
from ppl_vae.diagnostics.check.statistics import TOLERANCE
from ppl_vae.diagnostics.check.truth import Truth


class ObservedNoise:
    """Takes an objective's noise for draws of the latents, and notes what else was drawn.

    Args:
        truth: the right terms, whose latents they are.

    Attributes:
        tolerance: what rounding may leave, relative to the terms.
        drops: whether Bernoulli noise was drawn, as by dropout.
        others: whether noise other than that of the latents was drawn.
        shares: whether one number was drawn for several dimensions of a latent.
    """

    def __init__(self, truth: Truth) -> None:
        self._truth = truth
        self.tolerance = TOLERANCE
        self.drops = self.others = self.shares = False

    @property
    def is_half(self) -> bool:
        """Whether some of the objective was computed in half precision."""
        return self.tolerance > TOLERANCE

    def noise(self, recorder: Recorder, x: Data) -> list[dict[str, Tensor] | None]:
        """Return one call's noise by latent for every layout, None where it is not the guide's.

        Args:
            recorder: of the call.
            x: the batch.
        """
        self.tolerance = max(self.tolerance, recorder.rounding)
        self.drops |= recorder.dropped > 0
        if self._truth.latents is None:
            return [None for _ in LAYOUTS]
        batch, latents, draws = self._truth.batch_size(x), self._truth.latents, recorder.draws
        for kind, stream in draws.items():
            # An Exponential may be drawn by its inverse distribution function.
            kinds = {kind, EXPONENTIAL} if kind == UNIFORM and not draws[EXPONENTIAL] else {kind}
            its_own = [latent for latent in latents if latent.kind in kinds]
            noise = its_own and of_latents(stream, its_own, batch)
            self.others |= len(noise) < len(stream)
        arranged = [arrange(draws, latents, batch, layout) for layout in LAYOUTS]
        if arranged[0] is None:
            arranged[0] = completed(draws, latents, batch)
            self.shares |= arranged[0] is not None
        return arranged
