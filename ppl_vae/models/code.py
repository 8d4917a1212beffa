"""A pair's prior and posterior of its code."""

from __future__ import annotations

from typing import Any

from ppl_vae.models.posteriors import DiagonalNormal, Posterior, make_posterior
from ppl_vae.models.priors import Prior, StandardNormal, make_prior
from ppl_vae.seeding import derive, weights_from

_DEFAULTS = (StandardNormal.name, DiagonalNormal.name)


def prior_and_posterior(
    pair: Any,  # noqa: ANN401
    prior: Any,  # noqa: ANN401
    posterior: Any,  # noqa: ANN401
    *,
    data_shape: tuple[int, ...] | None,
    seed: int | None,
) -> tuple[Prior, Posterior]:
    """Return a pair's prior and posterior, with parameters; add to its config what is no default.

    Args:
        pair: its `latent_dim` is set.
        prior: of `ppl_vae.models.priors`, its name, or a mapping of name and options.
        posterior: of `ppl_vae.models.posteriors`, likewise.
        data_shape: of an example, if it is all that the encoder takes.
        seed: of their parameters; None continues torch's stream.
    """
    with weights_from(None if seed is None else derive(seed, "prior and posterior")):
        made = make_prior(prior, pair.latent_dim, data_shape)
        drawn = make_posterior(posterior, pair.latent_dim)
    chosen = {"prior": made.config, "posterior": drawn.config}
    pair.config |= {role: c for role, c in chosen.items() if c["name"] not in _DEFAULTS}
    return made, drawn
