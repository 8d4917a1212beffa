"""Fits and tests: with which weights the terms enter, and when a weight is off."""

from ppl_vae.diagnostics.check.statistics.decisions import (
    LOG_P_LIMIT,
    Z_LIMIT,
    data_constant,
    is_off,
)
from ppl_vae.diagnostics.check.statistics.fit import Fit
from ppl_vae.diagnostics.check.statistics.regression import (
    NOISE,
    ONE,
    TOLERANCE,
    Regression,
)
from ppl_vae.diagnostics.check.statistics.skewed_means import corrected, each_skewness, skewness

__all__ = [
    "LOG_P_LIMIT",
    "NOISE",
    "ONE",
    "TOLERANCE",
    "Z_LIMIT",
    "Fit",
    "Regression",
    "corrected",
    "data_constant",
    "each_skewness",
    "is_off",
    "skewness",
]
