"""Measurements: estimators against each other and against exact answers."""

from ppl_vae.diagnostics.aggregate_posterior import aggregate_normals, aggregate_posterior
from ppl_vae.diagnostics.aggregate_result import AggregatePosterior
from ppl_vae.diagnostics.compare import compare_elbos
from ppl_vae.diagnostics.comparison import ElboComparison
from ppl_vae.diagnostics.estimate import Estimate
from ppl_vae.diagnostics.evidence_integral import integrate_evidence
from ppl_vae.diagnostics.expectation import expectation
from ppl_vae.diagnostics.explain import ElboLedger, explain_elbo
from ppl_vae.diagnostics.monte_carlo_kl import monte_carlo_kl

__all__ = [
    "AggregatePosterior",
    "ElboComparison",
    "ElboLedger",
    "Estimate",
    "aggregate_normals",
    "aggregate_posterior",
    "compare_elbos",
    "explain_elbo",
    "expectation",
    "integrate_evidence",
    "monte_carlo_kl",
]
