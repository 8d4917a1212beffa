"""How large a misfit refuses a formula, and how large an error a weight."""

from __future__ import annotations

import math

import numpy as np

from ppl_vae.diagnostics.check.statistics.fit import Fit
from ppl_vae.diagnostics.check.statistics.regression import ONE, Regression
from ppl_vae.diagnostics.estimate import Estimate

LOG_P_LIMIT = math.log(1e-6)
Z_LIMIT, WEIGHT_TOLERANCE = 5.0, 2e-3


def is_off(weight: Estimate[float], right: float = 1.0) -> bool:
    """Return whether a weight is not what it should be."""
    error = weight.standard_error
    return math.isfinite(error) and abs(weight.mean - right) > max(
        Z_LIMIT * error, WEIGHT_TOLERANCE
    )


def data_constant(table: Regression) -> Fit:
    """Fit a constant for every batch: what depends on the data and not on the parameters."""
    batches = [sample.setting.index for sample in table.samples]
    names = []
    for number, batch in enumerate(dict.fromkeys(batches)):
        where = np.array([float(b == batch) for b in batches])
        names.append(table.add(f"batch {number}", {ONE: 1.0}, where))
    return table.fit(names, {"L": 1.0, "P": 1.0, "H": 1.0}, table.noise)
