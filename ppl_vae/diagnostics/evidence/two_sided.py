"""The evidence of some examples between two sums, of which one is a lower bound."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

from torch import Tensor

from ppl_vae.diagnostics.estimate import Estimate
from ppl_vae.diagnostics.evidence.result import UNRELIABLE_K, Evidence, gap_between


@dataclass(frozen=True, eq=False, kw_only=True)
class TwoSidedEvidence(Evidence):
    """log p(x_i) of every example between two sums, in nats.

    Which numbers are bounds: ``mean`` (and with it ``lower``, ``average``, ``nll``) is a lower
    bound of log p(x) in expectation, however few the draws and whatever their weights. ``upper``
    is an upper bound only as the draws become many: with few it is too low, and where ``pareto_k``
    is above 0.7 it bounds nothing.

    Attributes:
        upper_mean: the right sum, (batch,).
        upper_standard_error: of it, (batch,).
    """

    columns: ClassVar[tuple[str, ...]] = (
        *Evidence.columns,
        "upper_mean",
        "upper_standard_error",
    )

    upper_mean: Tensor
    upper_standard_error: Tensor

    @property
    def lower(self) -> Estimate[Tensor]:
        """The left sum of every example, (batch,): the same as `per_example`."""
        return self.per_example()

    @property
    def upper(self) -> Estimate[Tensor]:
        """The right sum of every example, (batch,)."""
        return Estimate(self.upper_mean, self.upper_standard_error, self.num_samples, self.warning)

    @property
    def gap(self) -> Estimate[float]:
        """The mean over the examples of upper minus lower sum, in nats.

        For one example its standard error is too large, as both sums are of the same draws.
        """
        return gap_between(self.lower, self.upper)

    @property
    def bias(self) -> Tensor:
        """The leading term of the bias of ``mean``, (batch,), in nats: half of lower minus upper.

        That is the error of a left sum, whose mean with the right sum is the trapezoidal rule.
        """
        return (self.mean - self.upper_mean) / 2

    def describe(self) -> str:
        """Return what `Evidence.describe` does, and which numbers are bounds."""
        upper = Estimate(
            float(self.upper_mean.double().mean()),
            float(self.upper_standard_error.double().square().sum().sqrt()) / len(self),
            len(self),
        )
        lower = Estimate(float(self.mean.double().mean()), self.monte_carlo_error, len(self))
        return (
            f"{super().describe()}\n"
            f"  bounds: log p(x) on average above {lower} (left sum, in expectation)\n"
            f"  and below {upper} (right sum, for many draws with Pareto k below {UNRELIABLE_K})"
        )
