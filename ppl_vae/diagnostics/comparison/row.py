"""One estimator's measurements."""

from __future__ import annotations

from dataclasses import dataclass, field

from ppl_vae.diagnostics.comparison.treatment import Treatment
from ppl_vae.diagnostics.estimate import Estimate

Z_LIMIT = 4.5


@dataclass
class Row:
    """One estimator's measurements; gradients are with respect to the pair's parameters.

    Attributes:
        name: the estimator.
        bound: what it estimates, the ELBO or an importance-weighted bound.
        claim: what it claims of value and gradient: unbiased, biased or exact.
        condition: what the claim depends on; empty where it holds for every pair.
        num_particles: that each estimate averages.
        value: the mean ELBO estimate, summed over the examples, in nats.
        value_variance: of one estimate.
        gradient_variance: of one gradient, summed over a group's parameters, by group.
        signal_to_noise: length of the mean gradient over its standard deviation, by group.
        closed_form_gradient_variance: the exact answer, by group; empty if there is none.
        milliseconds: per gradient, the median.
        quartiles: of the milliseconds, the lower and the upper.
        peak_bytes: that one gradient holds at most.
        analytic_sites: latents whose KL it takes in closed form.
        invalid_sites: sites that it treats in a way that has the wrong expectation, and why.
        reference: what value and gradient are compared with; empty if there is nothing.
        bias: of the value against the reference.
        bias_z_score: the bias in standard errors.
        gradient_bias_z_score: of the gradient against the reference's, never negative: the z-score
            with the p-value of Hotelling's test over one random direction per group.
        relative_work: gradient variance times time, relative to the least above zero.
        block_variances: the gradient variance within each block of replicates, by group; block k
            has the same noise in every row.
        sites: what it does with each site of model and guide.
    """

    name: str
    bound: str
    claim: str
    condition: str
    num_particles: int
    value: Estimate[float]
    value_variance: Estimate[float]
    gradient_variance: dict[str, Estimate[float]]
    signal_to_noise: dict[str, float]
    closed_form_gradient_variance: dict[str, float]
    milliseconds: float
    quartiles: tuple[float, float]
    peak_bytes: int
    analytic_sites: tuple[str, ...] = ()
    invalid_sites: dict[str, str] = field(default_factory=dict)
    reference: str = ""
    bias: Estimate[float] | None = None
    bias_z_score: float | None = None
    gradient_bias_z_score: float | None = None
    relative_work: float = field(default=float("nan"))
    block_variances: dict[str, list[float]] = field(default_factory=dict)
    sites: tuple[Treatment, ...] = ()

    @property
    def looks_biased(self) -> bool | None:
        """Whether value or gradient lies more than 4.5 standard errors off; None if unknown."""
        if self.bias_z_score is None or self.gradient_bias_z_score is None:
            return None
        return max(abs(self.bias_z_score), self.gradient_bias_z_score) > Z_LIMIT

    @property
    def mark(self) -> str:
        """Whether it looks biased, in a word or two."""
        words = {None: "not tested", False: "no bias seen", True: "biased"}
        return words[self.looks_biased]

    @property
    def verdict(self) -> str:
        """Say by how much the estimator is biased, why, and what its claim needs."""
        by = f" by {self.bias}" if abs(self.bias_z_score or 0) > Z_LIMIT else " in its gradient"
        reasons = [f"site {site}: {why}" for site, why in self.invalid_sites.items()]
        because = f" ({'; '.join(reasons)})" if reasons else ""
        if self.condition:
            met = f"It needs that {self.condition}."
        else:
            met = f"It claims to be {self.claim}." if self.claim else ""
        return f"{self.name} is biased here{by}, against {self.reference}{because}. {met}".strip()

    def to_record(self) -> dict[str, object]:
        """Return every number under its name."""
        record: dict[str, object] = {
            "estimator": self.name,
            "claim": self.claim,
            "num_particles": self.num_particles,
            "value": self.value.mean,
            "value_standard_error": self.value.standard_error,
            "value_variance": self.value_variance.mean,
            "reference": self.reference,
            "bias": self.bias.mean if self.bias else None,
            "bias_standard_error": self.bias.standard_error if self.bias else None,
            "bias_z_score": self.bias_z_score,
            "gradient_bias_z_score": self.gradient_bias_z_score,
        }
        for group, estimate in self.gradient_variance.items():
            record[f"gradient_variance[{group}]"] = estimate.mean
            record[f"gradient_variance_standard_error[{group}]"] = estimate.standard_error
            exact = self.closed_form_gradient_variance.get(group)
            record[f"closed_form_gradient_variance[{group}]"] = exact
            record[f"signal_to_noise[{group}]"] = self.signal_to_noise[group]
        return record | {
            "milliseconds": self.milliseconds,
            "milliseconds_lower_quartile": self.quartiles[0],
            "milliseconds_upper_quartile": self.quartiles[1],
            "peak_bytes": self.peak_bytes,
            "relative_work": self.relative_work,
        }
