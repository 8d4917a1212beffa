"""The score-function estimator, for comparison."""

from __future__ import annotations

import copy
from collections.abc import Callable
from typing import Any

from pyro.infer import Trace_ELBO
from pyro.poutine.messenger import Messenger
from pyro.poutine.trace_struct import Trace


class TraceScoreFunction_ELBO(Trace_ELBO):  # noqa: N801  (Pyro's naming)
    """The ELBO with the score-function gradient, as if no draw could be reparameterised.

        d/dphi E[f(z)] = E[ f(z) d log q_phi(z) / d phi ],    f = log p(x, z) - log q(z)

    f is held fixed; no baseline. Within plates a draw is weighed by its own data point's terms
    only, which is Pyro's Rao-Blackwellisation.

    Estimand: the ELBO.
    Gradient: from the values of f alone; no derivative of f by z is used.
    Bias: none.
    Needs: a density of the guide; nothing else, discrete latents included.
    Cost: one pass through guide and model.
    Source: Williams, 1992; Ranganath, Gerrish and Blei, Black Box Variational Inference, 2014.

    Args:
        num_particles: draws in each estimate.
        **options: of ``pyro.infer.Trace_ELBO``.
    """

    def _get_trace(
        self,
        model: Callable[..., Any],
        guide: Callable[..., Any],
        args: tuple[Any, ...],
        kwargs: dict[str, Any],
    ) -> tuple[Trace, Trace]:
        with _WithoutReparameterisation():
            return super()._get_trace(model, guide, args, kwargs)


class _WithoutReparameterisation(Messenger):
    """Takes the rsample from every distribution that is drawn from."""

    def _pyro_sample(self, msg: dict[str, Any]) -> None:
        fn = msg["fn"]
        if getattr(fn, "has_rsample", False) and not msg["is_observed"]:
            msg["fn"] = _without_rsample(fn)


def _without_rsample(fn: Any) -> Any:  # noqa: ANN401
    """Return a copy, since a guide may keep its distributions from step to step."""
    twin = copy.copy(fn)
    if hasattr(fn, "base_dist"):
        twin.base_dist = _without_rsample(fn.base_dist)
        return twin
    return twin.has_rsample_(False)  # noqa: FBT003
