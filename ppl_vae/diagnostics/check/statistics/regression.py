"""The coefficients of the right terms in an objective: a fit with errors on both sides."""

from __future__ import annotations

import numpy as np

from ppl_vae.diagnostics.check.settings import Sample
from ppl_vae.diagnostics.check.statistics.fit import Fit
from ppl_vae.diagnostics.check.statistics.skewed_means import skewness

# What rounding, and the epsilons inside of logarithms, may leave, relative to the terms.
TOLERANCE = 2e-5
ONE = "one"
NOISE = ("~P:", "~H:", "~W:")
TINY, LARGEST = 1e-24, 1e50
# The least share of a variance at which the skewness of noise counts.
MATERIAL = 1e-4
# The share of the objective's noise that a formula which follows it may leave.
SPANNED = 1e-3


class Regression:
    """Means over the replicates and their covariances, setting by setting.

    Args:
        samples: one for each setting.
        matched: whether the columns are at the objective's own noise.
        tolerance: what may be left without noise, relative to the terms.
    """

    def __init__(
        self, samples: list[Sample], *, matched: bool, tolerance: float = TOLERANCE
    ) -> None:
        self.tolerance = tolerance
        # Draws that are rounded onto the edge of a support have no finite terms.
        samples = [sample for sample in samples if sample.is_finite] or samples
        self.samples, self.matched = samples, matched
        self.scale = np.array([sample.scale for sample in samples])
        self.batch_size = np.array([float(sample.batch_size) for sample in samples])
        # Columns that every setting has, with numbers whose powers are finite.
        kept = [{n for n, c in s.columns.items() if np.abs(c).max() < LARGEST} for s in samples]
        for sample in samples:
            sample.columns = {n: sample.columns[n] for n in sorted(set.intersection(*kept))}
            sample.columns[ONE] = np.ones_like(sample.columns["L"])
        self._split: dict[str, tuple[np.ndarray, np.ndarray]] = {}
        self._values = _means_and_deviations([sample.values for sample in samples])

    def __len__(self) -> int:
        return len(self.samples)

    def add(self, name: str, parts: dict[str, float], factor: np.ndarray | None = None) -> str:
        """Add a column, a sum of others with weights, times one factor for each setting."""
        rows = []
        for number, sample in enumerate(self.samples):
            row = sum(weight * sample.columns[part] for part, weight in parts.items())
            rows.append(row if factor is None else row * factor[number])
        return self.put(name, rows)

    def put(self, name: str, rows: list[np.ndarray]) -> str:
        """Set a column to these rows, one for each setting."""
        for sample, row in zip(self.samples, rows, strict=True):
            sample.columns[name] = row
        self._split.pop(name, None)
        return name

    def where_zero(self, column: str, *, at_least: int) -> Regression | None:
        """Return the table of the settings at which a column is 0 at all draws, if not too few."""
        kept = [sample for sample in self.samples if not sample.columns[column].any()]
        if len(kept) < at_least:
            return None
        if len(kept) == len(self.samples):
            return self
        return Regression(kept, matched=self.matched, tolerance=self.tolerance)

    @property
    def noise(self) -> list[str]:
        """The columns with an expectation of zero at every setting."""
        return sorted(n for n in self.samples[0].columns if n.startswith(NOISE))

    def means(self, name: str) -> np.ndarray:
        """Return a column's means, (settings,)."""
        return self._column(name)[0]

    def deviations(self, name: str) -> np.ndarray:
        """Return a column's deviations from its means, (settings, draws)."""
        return self._column(name)[1]

    def _column(self, name: str) -> tuple[np.ndarray, np.ndarray]:
        if name not in self._split:
            rows = [sample.columns[name] for sample in self.samples]
            self._split[name] = _means_and_deviations(rows)
        return self._split[name]

    def is_of_data(self, name: str) -> bool:
        """Return whether a column depends on the batch alone, not on the parameters."""
        means, spread = self._column(name)
        batches = [sample.setting.index for sample in self.samples]
        gap = max(float(np.ptp(means[[b == batch for b in batches]])) for batch in set(batches))
        limit = self.tolerance * max(float(self.scale.mean()), TINY)
        noisy = float(np.abs(spread).max()) > limit
        return len(set(batches)) < len(self) and not noisy and gap < limit

    def fit(
        self,
        free: list[str],
        fixed: dict[str, float] | None = None,
        noise: list[str] | None = None,
    ) -> Fit:
        """Fit the objective by `free` columns, with `fixed` ones at given coefficients.

        Columns of `noise` have an expectation of zero at every setting. Their coefficients are
        estimated from replicate to replicate within the settings, then held fixed.

        The least squares are weighted. A residual's variance counts the noise of objective and
        columns and their covariance at the coefficients, so they are solved for until they settle.
        """
        fixed = {**(fixed or {})}
        if self.matched and noise:
            fixed |= self.noise_coefficients(noise, [n for n in [*free, *fixed] if n != ONE])
        names = [*free, *fixed]
        mean, covariance = self._moments(names)
        y, columns = mean[:, 0], mean[:, 1:]
        floor = (self.tolerance * self.scale) ** 2 + TINY

        def noise_at(beta: np.ndarray) -> np.ndarray:
            contrast = np.concatenate([[1.0], -beta])
            return np.einsum("i,tij,j->t", contrast, covariance, contrast).clip(0.0)

        fits = []
        # From the noise at weights of 1, then from none: the better of the two is kept.
        for starts_noisy in (True, False) if free else (True,):
            beta = np.array([*([1.0] * len(free)), *fixed.values()])
            known = beta[len(free) :]
            for step in range(8 if free else 0):
                variance = floor + (noise_at(beta) if step or starts_noisy else 0.0)
                root = 1 / np.sqrt(variance)
                target = (y - columns[:, len(free) :] @ known) * root
                solved, _ = _solved(columns[:, : len(free)] * root[:, None], target, rcond=1e-10)
                last, beta = beta, np.concatenate([solved, known])
                if np.allclose(beta, last, rtol=1e-9, atol=1e-12):
                    break
            residuals, left = y - columns @ beta, noise_at(beta)
            fits.append(self._fit(names, beta, residuals, left, floor, columns[:, : len(free)]))
        return min(fits, key=lambda fit: fit.chi_squared)

    def spans(self, names: list[str]) -> bool:
        """Return whether some columns can follow the objective from replicate to replicate."""
        if not self.matched:
            return True
        target = self._values[1] / self.scale[:, None]
        columns = [self._column(name)[1] / self.scale[:, None] for name in dict.fromkeys(names)]
        design = np.stack([column.ravel() for column in columns], 1)
        _, fitted = _solved(design, target.ravel(), smallest=TINY, rcond=1e-10)
        rms = np.sqrt(((target.ravel() - fitted) ** 2).mean())
        return bool(rms < max(3 * self.tolerance, SPANNED * np.sqrt((target**2).mean())))

    def noise_coefficients(self, noise: list[str], others: list[str]) -> dict[str, float]:
        """Return the coefficients of `noise` beside other columns, from deviations in settings."""
        columns = np.stack([self._column(name)[1] for name in [*noise, *others]], -1)
        design = (columns / self.scale[:, None, None]).reshape(-1, columns.shape[-1])
        target = (self._values[1] / self.scale[:, None]).flatten()
        solved, _ = _solved(design, target, smallest=1e-12, rcond=1e-8)
        return dict(zip(noise, solved.tolist(), strict=False))

    def _fit(
        self,
        names: list[str],
        beta: np.ndarray,
        residuals: np.ndarray,
        noise: np.ndarray,
        floor: np.ndarray,
        free: np.ndarray,
    ) -> Fit:
        """Return a fit with the covariance of its first coefficients, those of columns `free`."""
        variance, num_free = noise + floor, free.shape[1]
        design = free / np.sqrt(variance)[:, None]
        norm = np.linalg.norm(design, axis=0)
        norm[norm == 0] = np.inf
        information = (design / norm).T @ (design / norm)
        covariance = np.zeros((len(names), len(names)))
        rank = 0
        if num_free:
            rank = int(np.linalg.matrix_rank(information, hermitian=True))
            inverse = np.linalg.pinv(information, rcond=1e-12, hermitian=True)
            # A direction that the settings do not tell apart has no finite error.
            lost = np.abs(inverse @ information - np.eye(num_free)).max(1) > 1e-3
            inverse[lost, lost] = np.inf
            unit = np.where(np.isfinite(norm), norm, 1.0)
            covariance[:num_free, :num_free] = inverse / np.outer(unit, unit)
        fit = Fit(
            tuple(names),
            beta,
            covariance,
            residuals,
            errors=np.sqrt(variance),
            noise=np.sqrt(noise),
            freedom=max(len(residuals) - rank, 1),
            replicates=len(self.samples[0].values),
        )
        if bool((noise > MATERIAL * variance).any()):
            fit.skewness = skewness(self.left(fit))
        return fit

    def left(self, fit: Fit) -> np.ndarray:
        """Return what a fit leaves of the replicates' deviations, (settings, replicates)."""
        explained = sum(fit[n] * self._column(n)[1] for n in fit.names) if self.matched else 0.0
        return self._values[1] - explained

    def _moments(self, names: list[str]) -> tuple[np.ndarray, np.ndarray]:
        columns = [self._column(name) for name in names]
        means = np.stack([self._values[0], *(mean for mean, _ in columns)], 1)
        own, others = self._values[1], [rows for _, rows in columns]
        if self.matched:
            return means, _covariance(np.stack([own, *others], 1))
        covariance = np.zeros((len(self), 1 + len(names), 1 + len(names)))
        covariance[:, :1, :1] = _covariance(own[:, None])
        if names:
            covariance[:, 1:, 1:] = _covariance(np.stack(others, 1))
        return means, covariance


def _means_and_deviations(rows: list[np.ndarray]) -> tuple[np.ndarray, np.ndarray]:
    table = np.stack(rows)
    mean = table.mean(1)
    return mean, table - mean[:, None]


def _solved(
    design: np.ndarray, target: np.ndarray, *, rcond: float, smallest: float = 0.0
) -> tuple[np.ndarray, np.ndarray]:
    """Return the least-squares coefficients, 0 for a column no longer than `smallest`, and fit."""
    norm = np.linalg.norm(design, axis=0)
    norm[norm <= smallest] = np.inf
    solved, *_ = np.linalg.lstsq(design / norm, target, rcond=rcond)
    return solved / norm, design / norm @ solved


def _covariance(deviations: np.ndarray) -> np.ndarray:
    """Return the covariance of the rows' means, setting by setting."""
    count = deviations.shape[-1]
    return deviations @ deviations.transpose(0, 2, 1) / max(count - 1, 1) / count
