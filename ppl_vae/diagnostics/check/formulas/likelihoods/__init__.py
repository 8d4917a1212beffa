"""Log-likelihoods by family: what they are made of, and what is met in their place.

Every function takes a distribution and data and returns numbers of the data's shape by name; the
names are words that a finding says.
"""

from ppl_vae.diagnostics.check.formulas.likelihoods.other_data import other_data
from ppl_vae.diagnostics.check.formulas.likelihoods.registry import parts, wrong_formulas

__all__ = ["other_data", "parts", "wrong_formulas"]
