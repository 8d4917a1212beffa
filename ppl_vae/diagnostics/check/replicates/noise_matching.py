"""Do the terms at some noise explain an objective's own, whatever it makes of it?"""

from __future__ import annotations

from typing import Any

import numpy as np
from torch import Tensor

from ppl_vae.diagnostics.check.formulas import bounds, shared_noise, wrongly_drawn
from ppl_vae.diagnostics.check.settings import Draws, Sample


def explaining(draws: Draws, *, shared: bool, faint: bool) -> dict[str, Tensor]:
    """Return the columns of which an objective is likely to be a sum, up to a little noise.

    Args:
        draws: at the noise in question.
        shared: whether one number of noise may serve several dimensions.
        faint: whether the terms are also taken at so little of the noise that they are linear.
    """
    terms = draws.terms
    found = {"L": terms.likelihood, "KL": terms.total - terms.likelihood}
    # Bounds of several particles follow the best of these, not their mean.
    for name, value in bounds(terms, draws.num_particles).items():
        if name.startswith("IWAE"):
            found[name] = value
    if shared:
        found |= shared_noise(draws)
    if faint:
        found |= wrongly_drawn(draws, "faint", _faint)
    return found


def variances(samples: list[Sample]) -> tuple[float, float]:
    """Return the objective's variance that the columns leave, and the whole, over all samples."""
    left = whole = 0.0
    for sample in samples:
        if not all(np.isfinite(c).all() for c in sample.columns.values()):
            continue
        y = sample.values - sample.values.mean()
        design = np.stack([c - c.mean() for c in sample.columns.values()], 1)
        fit = design @ np.linalg.lstsq(design, y, rcond=None)[0]
        unit = (1e-6 * sample.scale) ** 2
        left += ((y - fit) ** 2).sum() / max(len(y) - 1 - design.shape[1], 1) + unit
        whole += (y**2).sum() / (len(y) - 1) + unit
    return left, whole


def _faint(fn: Any, noise: Tensor) -> Tensor:  # noqa: ANN401
    return fn.loc + 0.01 * fn.scale * noise
