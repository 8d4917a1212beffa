"""What is measured of an aggregate posterior: numbers to read, print and tabulate."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import TYPE_CHECKING

from torch import Tensor

from ppl_vae.diagnostics.estimate import Estimate, counted

if TYPE_CHECKING:
    import pandas as pd

_CEILING_SHARE = 0.95


@dataclass(frozen=True, eq=False)
class PerDimension:
    """The same quantities for each latent dimension alone, all of shape (latent_dim,).

    The mixtures here are the marginals of the aggregate posterior.

    Attributes:
        mean_kl: in nats, exact; their sum is the joint one.
        aggregate_kl: in nats; their sum is at most the joint one.
        moment_matched_kl: in nats, exact, of the Normal with the dimension's mean and variance.
        mutual_information: in nats.
        loc_variance: the variance of q's loc over the examples.
        active_units: where that exceeds the threshold.
    """

    mean_kl: Tensor
    aggregate_kl: Estimate[Tensor]
    moment_matched_kl: Tensor
    mutual_information: Estimate[Tensor]
    loc_variance: Tensor
    active_units: Tensor


@dataclass(frozen=True, eq=False)
class AggregatePosterior:
    """How the mixture q(z) of all q(z | x_i) differs from the prior p(z) and from its parts.

    With i uniform over the examples, ``mean_kl = mutual_information + aggregate_kl``, and
    ``moment_matched_kl <= aggregate_kl <= mean_kl``.

    Attributes:
        mean_kl: the mean of KL(q(z | x_i) || p) in nats, exact.
        aggregate_kl: KL(q || p) of the exact mixture in nats, by Monte Carlo.
        moment_matched_kl: KL(g || p) in nats, exact, of the Normal g with the mean and the full
            covariance of the mixture.
        mutual_information: of z and i, in nats, by Monte Carlo; never above log(num_examples).
        active_units: how many dimensions have Var_x(E_q[z | x]) above the threshold (Burda,
            Grosse and Salakhutdinov 2015).
        num_examples: components of the mixture.
        per_dimension: all of these for each latent dimension alone.
    """

    mean_kl: float
    aggregate_kl: Estimate[float]
    moment_matched_kl: float
    mutual_information: Estimate[float]
    active_units: int
    num_examples: int
    per_dimension: PerDimension

    @property
    def latent_dim(self) -> int:
        """The length of the code."""
        return len(self.per_dimension.mean_kl)

    @property
    def ceiling(self) -> float:
        """The largest mutual information that this many examples can have: log(num_examples)."""
        return math.log(self.num_examples)

    @property
    def at_ceiling(self) -> bool:
        """Whether the mutual information is within 5% of its ceiling.

        Then it tells how many examples there are, and not how much a code holds. One example is
        always at its ceiling, 0.
        """
        return self.mutual_information.mean >= _CEILING_SHARE * self.ceiling

    @property
    def ceiling_note(self) -> str:
        """What to know of the mutual information where it is at its ceiling; else empty."""
        if not self.at_ceiling:
            return ""
        return (
            f"The mutual information is at its ceiling, log {self.num_examples} = "
            f"{self.ceiling:.2f} nats: a code gives its example away. "
            "With more examples it could be larger."
        )

    def to_dataframe(self) -> pd.DataFrame:
        """Return the numbers of every latent dimension, one row each."""
        import pandas as pd

        each = self.per_dimension
        columns = {
            "mean_kl": each.mean_kl,
            "aggregate_kl": each.aggregate_kl.mean,
            "aggregate_kl_standard_error": each.aggregate_kl.standard_error,
            "moment_matched_kl": each.moment_matched_kl,
            "mutual_information": each.mutual_information.mean,
            "mutual_information_standard_error": each.mutual_information.standard_error,
            "loc_variance": each.loc_variance,
            "active": each.active_units,
        }
        table = pd.DataFrame({name: column.cpu().numpy() for name, column in columns.items()})
        return table.rename_axis("dimension")

    def __str__(self) -> str:
        examples = counted(self.num_examples, "example")
        lines = [
            f"Aggregate posterior of {examples}, {self.latent_dim}-dimensional (nats)",
            f"  mean KL             {self.mean_kl:.6g}",
            f"  aggregate KL        {self.aggregate_kl}",
            f"  moment-matched KL   {self.moment_matched_kl:.6g}",
            f"  mutual information  {self.mutual_information}  (ceiling {self.ceiling:.2f})",
            f"  active units        {self.active_units} of {self.latent_dim}",
        ]
        notes = [self.ceiling_note, self.mutual_information.warning]
        return "\n".join([*lines, *filter(None, notes)])
