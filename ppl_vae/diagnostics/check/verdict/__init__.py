"""Findings in words, and the result that holds them."""

from ppl_vae.diagnostics.check.verdict.example_findings import example_findings
from ppl_vae.diagnostics.check.verdict.gradient_findings import gradient_findings
from ppl_vae.diagnostics.check.verdict.result import ElboCheck, Finding, GroupGradient
from ppl_vae.diagnostics.check.verdict.simple_ratios import Quantities
from ppl_vae.diagnostics.check.verdict.unexplained import leftover, localised
from ppl_vae.diagnostics.check.verdict.value_findings import findings

__all__ = [
    "ElboCheck",
    "Finding",
    "GroupGradient",
    "Quantities",
    "example_findings",
    "findings",
    "gradient_findings",
    "leftover",
    "localised",
]
