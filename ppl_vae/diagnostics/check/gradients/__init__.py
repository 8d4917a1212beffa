"""The comparison of an objective's gradients with the right ones."""

from ppl_vae.diagnostics.check.gradients.comparison import GradientComparison

__all__ = ["GradientComparison"]
