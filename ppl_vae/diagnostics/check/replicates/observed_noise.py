"""What noise an objective was seen to draw, call by call."""

from __future__ import annotations

from torch import Tensor

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
    """Takes an objective's noise for draws of the latents, and keeps what else it saw.

    Args:
        truth: whose latents they are.

    Attributes:
        tolerance: what rounding may leave, relative to the terms.
        drops: whether Bernoulli noise was drawn.
        others: whether noise was drawn that is not that of the latents.
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

    def noise(self, recorder: Recorder, batch: int) -> list[dict[str, Tensor] | None]:
        """Return one call's noise by latent for every layout, None where it is not the guide's.

        Args:
            recorder: of the call.
            batch: the number of examples.
        """
        self.tolerance = max(self.tolerance, recorder.rounding)
        self.drops |= recorder.dropped > 0
        if self._truth.latents is None:
            return [None for _ in LAYOUTS]
        batch = batch if self._truth.has_plate else 0
        self.others |= self._draws_others(recorder, batch)
        found = [arrange(recorder.draws, self._truth.latents, batch, way) for way in LAYOUTS]
        if found[0] is None:
            found[0] = completed(recorder.draws, self._truth.latents, batch)
            self.shares |= found[0] is not None
        return found

    def _draws_others(self, recorder: Recorder, batch: int) -> bool:
        for kind, stream in recorder.draws.items():
            kinds = {kind}
            if kind == UNIFORM and not recorder.draws[EXPONENTIAL]:
                kinds |= {EXPONENTIAL}  # an Exponential by its inverse distribution function
            latents = [latent for latent in self._truth.latents or [] if latent.kind in kinds]
            if stream and len(latents and of_latents(stream, latents, batch)) < len(stream):
                return True
        return False
