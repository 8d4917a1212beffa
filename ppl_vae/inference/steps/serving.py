"""The estimator that a pair is trained with."""

from __future__ import annotations

import copy

from pyro.infer import ELBO

from ppl_vae import elbos
from ppl_vae.batch import Data
from ppl_vae.elbos.serving import choose, require_served
from ppl_vae.elbos.sites.draws import Program
from ppl_vae.pair import Pair, leaving_no_params


def serving(elbo: str | ELBO | None, pair: Pair, x: Data) -> str | ELBO:
    """Return the estimator, chosen if none is named; raise unless it can be right for the pair."""
    twin = copy.deepcopy(pair)  # a look may move running statistics on
    program = Program(twin.model, twin.guide, (x,), {})
    with leaving_no_params():
        if elbo is None:
            return choose(program)
        require_served(elbos.make(elbo), program)
    return elbo
