"""Likelihoods of data given a decoder's raw outputs, by name.

A new one is one entry of `LIKELIHOODS`: its heads, the link that makes a distribution of them,
what data must satisfy, and the checker's formulas. VAEs, the command line and the checker read it
there. Distributions stand here where torch's own lose digits.
"""

from ppl_vae.likelihoods.distributions.categorical import Categorical
from ppl_vae.likelihoods.distributions.continuous_bernoulli import ContinuousBernoulli
from ppl_vae.likelihoods.distributions.negative_binomial import NegativeBinomial
from ppl_vae.likelihoods.distributions.student_t import StudentT
from ppl_vae.likelihoods.distributions.zero_inflated import ZeroInflatedNegativeBinomial
from ppl_vae.likelihoods.entry import Head, Likelihood
from ppl_vae.likelihoods.observation import Observation, Spec, entry
from ppl_vae.likelihoods.registry import LIKELIHOODS

__all__ = [
    "LIKELIHOODS",
    "Categorical",
    "ContinuousBernoulli",
    "Head",
    "Likelihood",
    "NegativeBinomial",
    "Observation",
    "Spec",
    "StudentT",
    "ZeroInflatedNegativeBinomial",
    "entry",
]
