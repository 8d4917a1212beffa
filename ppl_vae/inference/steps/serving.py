"""The estimator that a pair is trained with."""

from __future__ import annotations

from pyro.infer import ELBO

from ppl_vae import elbos
from ppl_vae.batch import Data
from ppl_vae.elbos.serving import choose, require_served
from ppl_vae.elbos.sites.draws import Program
from ppl_vae.elbos.vectorising import vectorised
from ppl_vae.functions import copied
from ppl_vae.pair import Pair, leaving_no_params


def serving(
    elbo: str | ELBO | None, pair: Pair, x: Data, *, num_particles: int | None = None
) -> ELBO:
    """Return the estimator, chosen if none is named.

    The particles of one that is named are drawn together where the pair allows it.

    Raises:
        NotImplementedError: it cannot be right for the pair.
    """
    twin = copied(pair)  # a look may move running statistics on
    program = Program(twin.model, twin.guide, (x,), {})
    with leaving_no_params():
        if elbo is None:
            made = elbos.make(choose(program))
            if isinstance(made, elbos.TraceEnumerate_ELBO):
                require_served(made, program)  # which keeps the depth of the plates
            return made
        made = elbos.make(elbo, num_particles=num_particles)
        require_served(made, program)
        return vectorised(made, program) if isinstance(elbo, str) else made
