"""Two distributions as a pair, for a divergence without a model."""

from ppl_vae.diagnostics.check.divergence.pair import Divergence

__all__ = ["Divergence"]
