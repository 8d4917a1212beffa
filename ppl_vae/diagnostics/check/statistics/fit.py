"""Coefficients of columns in an objective, and what they leave."""

from __future__ import annotations

import math
from dataclasses import dataclass
from functools import cached_property

import numpy as np
from scipy import stats

from ppl_vae.diagnostics.check.statistics.skewed_means import corrected


@dataclass
class Fit:
    """Coefficients of some columns in the objective.

    Attributes:
        names: of the columns.
        coefficients: (columns,).
        covariance: of the coefficients, (columns, columns).
        residuals: objective minus fit, by setting, in nats per example.
        errors: the standard error of each residual, with what rounding may leave.
        noise: the same without rounding.
        freedom: settings less free coefficients.
        replicates: behind each residual.
        skewness: of the replicates.
    """

    names: tuple[str, ...]
    coefficients: np.ndarray
    covariance: np.ndarray
    residuals: np.ndarray
    errors: np.ndarray
    noise: np.ndarray
    freedom: int
    replicates: int
    skewness: float = 0.0

    def __getitem__(self, name: str) -> float:
        return float(self.coefficients[self.names.index(name)])

    def error(self, name: str) -> float:
        """Return a coefficient's standard error; 0 for one that was not free.

        What rounding may leave is an upper bound. Where the residuals are smaller than that
        without any noise, so is the error.
        """
        place = self.names.index(name)
        shrink = 1.0
        if self.is_exact:
            shrink = min(1.0, 3 * math.sqrt(self.chi_squared / self.freedom) + 1e-3)
        return shrink * float(np.sqrt(max(self.covariance[place, place], 0.0)))

    @property
    def is_exact(self) -> bool:
        """Whether it leaves no noise, at any setting."""
        return bool((self.noise < self.errors / 3).all())

    @cached_property
    def chi_squared(self) -> float:
        """The sum of squared residuals in units of their errors.

        Each is first corrected for the skewness of the replicates, then brought from Student's t
        to a Normal of the same p-value, as its error is estimated from the replicates.
        """
        # Where noise is a small part of the error, the error is not estimated.
        share = np.clip((self.noise / self.errors) ** 2, 1e-9, 1.0)
        z = corrected(self.residuals / self.errors, self.skewness * share, self.replicates)
        freedom = (self.replicates - 1) / share**2
        log_p = stats.t.logsf(z, freedom)
        normal = np.where(log_p > -600, stats.norm.isf(np.exp(np.maximum(log_p, -600))), z)
        return float((normal**2).sum())

    @property
    def log_p(self) -> float:
        """The logarithm of the p-value of `chi_squared`."""
        return float(stats.chi2.logsf(self.chi_squared, max(self.freedom, 1)))

    @property
    def is_skewed(self) -> bool:
        """Whether draws are so skewed that one t in five is not what it seems."""
        return bool(corrected(np.array([5.0]), self.skewness, self.replicates)[0] < 4.0)

    @property
    def rms(self) -> float:
        """The root mean square of the residuals, in nats per example."""
        return float(np.sqrt((self.residuals**2).mean()))
