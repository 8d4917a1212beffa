"""The right ELBO, term by term and draw by draw."""

from ppl_vae.diagnostics.check.truth.drawn_terms import Terms
from ppl_vae.diagnostics.check.truth.per_example import (
    closed_kl,
    event_dims,
    mask_of,
    scored,
    summed,
)
from ppl_vae.diagnostics.check.truth.terms import Truth, latent_sites_of

__all__ = [
    "Terms",
    "Truth",
    "closed_kl",
    "event_dims",
    "latent_sites_of",
    "mask_of",
    "scored",
    "summed",
]
