"""What an objective may be made of: the right terms, and the wrong ones that people write."""

from ppl_vae.diagnostics.check.formulas.columns import CandidateColumns, terms
from ppl_vae.diagnostics.check.formulas.families import Family, families
from ppl_vae.diagnostics.check.formulas.wrong_draws import (
    DRAWN,
    SCALES,
    shared_noise,
    wrongly_drawn,
)
from ppl_vae.diagnostics.check.formulas.wrong_likelihoods import bounds

__all__ = [
    "DRAWN",
    "SCALES",
    "CandidateColumns",
    "Family",
    "bounds",
    "families",
    "shared_noise",
    "terms",
    "wrongly_drawn",
]
