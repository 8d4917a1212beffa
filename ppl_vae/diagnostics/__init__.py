"""Measurements: estimators against each other and against exact answers."""

from ppl_vae.diagnostics.aggregate.active_units import ActiveUnits, active_units
from ppl_vae.diagnostics.aggregate.posterior import aggregate_normals, aggregate_posterior
from ppl_vae.diagnostics.aggregate.result import AggregatePosterior
from ppl_vae.diagnostics.calibration.calibration import calibration
from ppl_vae.diagnostics.calibration.power import calibration_power, simulations_needed
from ppl_vae.diagnostics.calibration.result import Calibration
from ppl_vae.diagnostics.check.elbo import assert_elbo, check_elbo
from ppl_vae.diagnostics.check.kl import check_kl
from ppl_vae.diagnostics.check.verdict import ElboCheck, Finding
from ppl_vae.diagnostics.comparison.compare import compare_elbos
from ppl_vae.diagnostics.comparison.explain import ElboLedger, explain_elbo
from ppl_vae.diagnostics.comparison.result import ElboComparison
from ppl_vae.diagnostics.estimate import Estimate
from ppl_vae.diagnostics.evaluate import evaluate
from ppl_vae.diagnostics.evaluation import Evaluation
from ppl_vae.diagnostics.evidence.annealing.bidirectional import (
    BidirectionalEvidence,
    bidirectional_evidence,
)
from ppl_vae.diagnostics.evidence.log_evidence import log_evidence
from ppl_vae.diagnostics.evidence.result import Evidence
from ppl_vae.diagnostics.evidence.two_sided import TwoSidedEvidence
from ppl_vae.diagnostics.gap.inference_gap import inference_gap
from ppl_vae.diagnostics.gap.result import InferenceGap
from ppl_vae.diagnostics.quadrature.evidence_integral import integrate_evidence
from ppl_vae.diagnostics.quadrature.expectation import expectation
from ppl_vae.diagnostics.sampling.monte_carlo_kl import monte_carlo_kl

__all__ = [
    "ActiveUnits",
    "AggregatePosterior",
    "BidirectionalEvidence",
    "Calibration",
    "ElboCheck",
    "ElboComparison",
    "ElboLedger",
    "Estimate",
    "Evaluation",
    "Evidence",
    "InferenceGap",
    "TwoSidedEvidence",
    "active_units",
    "Finding",
    "aggregate_normals",
    "aggregate_posterior",
    "bidirectional_evidence",
    "calibration",
    "calibration_power",
    "assert_elbo",
    "check_elbo",
    "check_kl",
    "compare_elbos",
    "evaluate",
    "explain_elbo",
    "expectation",
    "inference_gap",
    "integrate_evidence",
    "log_evidence",
    "monte_carlo_kl",
    "simulations_needed",
]
