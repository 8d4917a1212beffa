"""What an objective may be made of: the right terms, and the wrong ones that people write."""

from ppl_vae.diagnostics.check.formulas.columns import CandidateColumns, terms
from ppl_vae.diagnostics.check.formulas.families import Family, families
from ppl_vae.diagnostics.check.formulas.wrong_draws import (
    NOISES,
    SCALES,
    SHARES,
    shared_noise,
    wrongly_drawn,
)
from ppl_vae.diagnostics.check.formulas.wrong_likelihoods import bounds

__all__ = [
    "NOISES",
    "SCALES",
    "SHARES",
    "Family",
    "CandidateColumns",
    "bounds",
    "families",
    "shared_noise",
    "terms",
    "wrongly_drawn",
]
