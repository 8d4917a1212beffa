"""An objective's gradients beside the right ones."""

from ppl_vae.diagnostics.check.gradients.comparison import Gradients

__all__ = ["Gradients"]
