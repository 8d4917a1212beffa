"""An objective's gradients beside the right ones."""

from ppl_vae.diagnostics.check.gradients.comparison import GradientComparison

__all__ = ["GradientComparison"]
