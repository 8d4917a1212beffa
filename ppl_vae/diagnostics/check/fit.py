"""With which coefficients the right terms enter an objective: a fit with errors on both sides."""

from __future__ import annotations

import math
from dataclasses import dataclass
from functools import cached_property

import numpy as np
from scipy import stats

from ppl_vae.diagnostics.check.samples import Sample

# What rounding, and the epsilons inside of logarithms, may leave, relative to the terms.
TOLERANCE = 2e-5
ONE = "one"
TINY = 1e-24


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
    """

    names: tuple[str, ...]
    coefficients: np.ndarray
    covariance: np.ndarray
    residuals: np.ndarray
    errors: np.ndarray
    noise: np.ndarray
    freedom: int
    replicates: int

    def __getitem__(self, name: str) -> float:
        return float(self.coefficients[self.names.index(name)])

    def error(self, name: str) -> float:
        """Return a coefficient's standard error; 0 for one that was not free.

        What rounding may leave is an upper bound. Where the residuals are smaller than that
        without any noise, so is the error.
        """
        place = self.names.index(name)
        shrink = 1.0
        if bool((self.noise < self.errors / 3).all()):
            shrink = min(1.0, 3 * math.sqrt(self.chi_squared / self.freedom) + 1e-3)
        return shrink * float(np.sqrt(max(self.covariance[place, place], 0.0)))

    @cached_property
    def chi_squared(self) -> float:
        """The sum of squared residuals in units of their errors.

        Each is first brought from Student's t to a Normal of the same p-value, as its error is
        estimated from the replicates.
        """
        z = self.residuals / self.errors
        # Where noise is a small part of the error, the error is not estimated.
        share = np.clip((self.noise / self.errors) ** 2, 1e-9, 1.0)
        freedom = (self.replicates - 1) / share**2
        log_p = stats.t.logsf(np.abs(z), freedom)
        normal = np.where(log_p > -600, stats.norm.isf(np.exp(np.maximum(log_p, -600))), np.abs(z))
        return float((normal**2).sum())

    @property
    def log_p(self) -> float:
        """The logarithm of the p-value of `chi_squared`."""
        return float(stats.chi2.logsf(self.chi_squared, max(self.freedom, 1)))

    @property
    def rms(self) -> float:
        """The root mean square of the residuals, in nats per example."""
        return float(np.sqrt((self.residuals**2).mean()))


class Table:
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
        self.samples, self.matched = samples, matched
        self.scale = np.array([sample.scale for sample in samples])
        self.batch_size = np.array([float(sample.batch_size) for sample in samples])
        # Columns that every setting has, with finite numbers.
        kept = [{n for n, c in s.columns.items() if np.isfinite(c).all()} for s in samples]
        for sample in samples:
            sample.columns = {n: sample.columns[n] for n in sorted(set.intersection(*kept))}
            sample.columns[ONE] = np.ones_like(sample.columns["L"])

    def __len__(self) -> int:
        return len(self.samples)

    def add(self, name: str, parts: dict[str, float], factor: np.ndarray | None = None) -> str:
        """Add a column, a sum of others with weights, times one factor for each setting."""
        for number, sample in enumerate(self.samples):
            column = np.zeros_like(sample.columns[ONE])
            for part, weight in parts.items():
                column = column + weight * sample.columns[part]
            sample.columns[name] = column if factor is None else column * factor[number]
        return name

    def means(self, name: str) -> np.ndarray:
        """Return a column's means, (settings,)."""
        return np.array([sample.columns[name].mean() for sample in self.samples])

    def fit(
        self,
        free: list[str],
        fixed: dict[str, float] | None = None,
        noise: list[str] | None = None,
    ) -> Fit:
        """Fit the objective by `free` columns, with `fixed` ones at given coefficients.

        Columns of `noise` have an expectation of zero at every setting. With which coefficients
        they enter is seen from replicate to replicate within the settings, and held fixed.

        Weighted least squares; a residual's variance counts the noise of objective and columns,
        and their covariance at the coefficients, so that it is solved again until they settle.
        """
        fixed = {**(fixed or {})}
        if self.matched and noise:
            fixed |= self._enter(noise, [n for n in [*free, *fixed] if n != ONE])
        names = [*free, *fixed]
        mean, covariance = self._moments(names)
        y, columns = mean[:, 0], mean[:, 1:]
        floor = (self.tolerance * self.scale) ** 2 + TINY
        best: Fit | None = None
        for start in (1.0, None):
            beta = np.array([*([1.0] * len(free)), *fixed.values()])
            for _ in range(8):
                contrast = np.concatenate([[1.0], -beta])
                spread = np.einsum("i,tij,j->t", contrast, covariance, contrast).clip(0.0)
                if start is None:
                    spread = np.zeros_like(spread)
                    start = 1.0
                variance = spread + floor
                if not free:
                    break
                root = 1 / np.sqrt(variance)
                target = (y - columns[:, len(free) :] @ beta[len(free) :]) * root
                design = columns[:, : len(free)] * root[:, None]
                norm = np.linalg.norm(design, axis=0)
                norm[norm == 0] = 1.0
                solved, *_ = np.linalg.lstsq(design / norm, target, rcond=1e-10)
                new = np.concatenate([solved / norm, beta[len(free) :]])
                done = np.allclose(new, beta, rtol=1e-9, atol=1e-12)
                beta = new
                if done:
                    break
            contrast = np.concatenate([[1.0], -beta])
            spread = np.einsum("i,tij,j->t", contrast, covariance, contrast).clip(0.0)
            variance = spread + floor
            found = self._fit(
                names, beta, len(free), y - columns @ beta, spread, variance, columns
            )
            if best is None or found.chi_squared < best.chi_squared:
                best = found
        assert best is not None
        return best

    def _enter(self, noise: list[str], others: list[str]) -> dict[str, float]:
        """Return with which coefficients columns enter, from their deviations within settings."""
        rows, targets = [], []
        for sample, scale in zip(self.samples, self.scale, strict=True):
            columns = np.stack([sample.columns[name] for name in [*noise, *others]], 1)
            rows.append((columns - columns.mean(0)) / scale)
            targets.append((sample.values - sample.values.mean()) / scale)
        design = np.concatenate(rows)
        norm = np.linalg.norm(design, axis=0)
        norm[norm < 1e-12] = np.inf
        solved, *_ = np.linalg.lstsq(design / norm, np.concatenate(targets), rcond=1e-8)
        return dict(zip(noise, (solved / norm).tolist(), strict=False))

    def _fit(
        self,
        names: list[str],
        beta: np.ndarray,
        num_free: int,
        residuals: np.ndarray,
        noise: np.ndarray,
        variance: np.ndarray,
        columns: np.ndarray,
    ) -> Fit:
        design = columns[:, :num_free] / np.sqrt(variance)[:, None]
        norm = np.linalg.norm(design, axis=0)
        norm[norm == 0] = np.inf
        information = (design / norm).T @ (design / norm)
        covariance = np.zeros((len(names), len(names)))
        if num_free:
            inverse = np.linalg.pinv(information, rcond=1e-12, hermitian=True)
            # A direction that the settings do not tell apart has no finite error.
            lost = np.abs(inverse @ information - np.eye(num_free)).max(1) > 1e-3
            inverse[lost, lost] = np.inf
            unit = np.where(np.isfinite(norm), norm, 1.0)
            covariance[:num_free, :num_free] = inverse / np.outer(unit, unit)
        rank = int(np.linalg.matrix_rank(information, hermitian=True)) if num_free else 0
        return Fit(
            tuple(names),
            beta,
            covariance,
            residuals,
            np.sqrt(variance),
            np.sqrt(noise),
            max(len(residuals) - rank, 1),
            len(self.samples[0].values),
        )

    def _moments(self, names: list[str]) -> tuple[np.ndarray, np.ndarray]:
        size = 1 + len(names)
        means, covariances = np.empty((len(self), size)), np.zeros((len(self), size, size))
        for number, sample in enumerate(self.samples):
            columns = np.stack([sample.columns[name] for name in names]) if names else None
            means[number, 0] = sample.values.mean()
            if columns is None:
                covariances[number, 0, 0] = _covariance(sample.values[None])[0, 0]
                continue
            means[number, 1:] = columns.mean(1)
            if self.matched:
                covariances[number] = _covariance(np.concatenate([sample.values[None], columns]))
            else:
                covariances[number, 0, 0] = _covariance(sample.values[None])[0, 0]
                covariances[number, 1:, 1:] = _covariance(columns)
        return means, covariances


def _covariance(rows: np.ndarray) -> np.ndarray:
    """Return the covariance of the rows' means."""
    count = rows.shape[1]
    if count < 2:
        return np.zeros((len(rows), len(rows)))
    centred = rows - rows.mean(1, keepdims=True)
    return centred @ centred.T / (count - 1) / count
