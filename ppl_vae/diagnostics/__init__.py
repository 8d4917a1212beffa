"""Measurements: estimators against each other and against exact answers."""

from ppl_vae.diagnostics.compare import compare_elbos
from ppl_vae.diagnostics.comparison import ElboComparison
from ppl_vae.diagnostics.estimate import Estimate

__all__ = ["ElboComparison", "Estimate", "compare_elbos"]
