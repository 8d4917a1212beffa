"""Do the terms at some noise explain the noise of an objective, whatever it makes of it?"""

from __future__ import annotations

import numpy as np
from torch import Tensor

from ppl_vae.diagnostics.check.formulas import bounds, shared_noise, wrongly_drawn
from ppl_vae.diagnostics.check.settings import Draws, Sample


def explaining(draws: Draws, *, shared: bool, faint: bool) -> dict[str, Tensor]:
    """Return columns whose weighted sum an objective is likely to be, up to a little noise.

    Args:
        draws: at the noise in question.
        shared: whether one number of noise may serve several dimensions.
        faint: whether to take the terms also at so little of the noise that they are linear in it.
    """
    terms = draws.terms
    columns = {"L": terms.likelihood, "KL": terms.total - terms.likelihood}
    # Bounds of several particles follow the best of them, not their mean.
    for name, value in bounds(terms, draws.num_particles).items():
        if name.startswith("IWAE"):
            columns[name] = value
    if shared:
        columns |= shared_noise(draws)
    if faint:
        columns |= wrongly_drawn(
            draws, "faint", lambda fn, noise: fn.loc + 0.01 * fn.scale * noise
        )
    return columns


def variances(samples: list[Sample]) -> tuple[float, float]:
    """Return the variance of the objective that the columns leave, and all of it."""
    left = total = 0.0
    for sample in samples:
        if not all(np.isfinite(c).all() for c in sample.columns.values()):
            continue
        y = sample.values - sample.values.mean()
        design = np.stack([c - c.mean() for c in sample.columns.values()], 1)
        fit = design @ np.linalg.lstsq(design, y, rcond=None)[0]
        unit = (1e-6 * sample.scale) ** 2
        left += ((y - fit) ** 2).sum() / max(len(y) - 1 - design.shape[1], 1) + unit
        total += (y**2).sum() / (len(y) - 1) + unit
    return left, total
