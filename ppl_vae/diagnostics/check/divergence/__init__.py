"""Two distributions as a pair, so that their KL divergence is checked as an ELBO is."""

from ppl_vae.diagnostics.check.divergence.pair import Divergence

__all__ = ["Divergence"]
