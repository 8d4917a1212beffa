"""What estimators by scores share: discrete draws by their scores, other draws along the path."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from pyro.distributions.util import is_identically_zero
from pyro.infer.util import MultiFrameTensor
from pyro.poutine.trace_struct import Trace
from torch import Tensor

from ppl_vae import checks
from ppl_vae.elbos.pathwise import PathwiseELBO
from ppl_vae.elbos.sites.traces import (
    Site,
    check_sites,
    density_sites,
    is_straight_through,
    log_density,
    not_reparameterised,
)


class ScoredELBO(PathwiseELBO):
    """An estimator that follows draws with an rsample, and weighs the scores of the others.

    All particles see the same data points of a plate that subsamples, as each is compared with the
    others.

    Args:
        num_particles: draws in each estimate, at least 2.
        **options: of ``pyro.infer.ELBO``, such as ``vectorize_particles``.

    Raises:
        TypeError: `num_particles` is not an int.
        ValueError: `num_particles` below 2; at a step, what `PathwiseELBO` refuses.
        NotImplementedError: at a step, a draw of the guide whose gradient passes straight through.
    """

    shares_subsamples = True
    fewest_particles = 2

    def __init__(self, num_particles: int = 2, **options: Any) -> None:  # noqa: ANN401
        if num_particles == 1:
            raise checks.value_error(
                f"num_particles of at least 2 for {type(self).__name__}",
                "1",
                "It compares particles with each other: choose 2, or 'score-function' for one.",
            )
        super().__init__(num_particles, **options)

    def check_traces(self, model: Trace, guide: Trace) -> None:
        """Raise unless every draw has a score, or a derivative that is right."""
        check_sites(model, guide, reparameterised=False)
        for name, site in density_sites(guide).items():
            if is_straight_through(site["fn"]):
                raise NotImplementedError(not_reparameterised(name, site["fn"]))


def log_ratio(model: Trace, guide: Trace) -> MultiFrameTensor:
    """Return log p(x, z) - log q(z) by plates, without a gradient."""
    ratio = MultiFrameTensor()
    for trace, sign in ((model, 1), (guide, -1)):
        for site in density_sites(trace).values():
            ratio.add((site["cond_indep_stack"], sign * site["log_prob"].detach()))
    return ratio


def scored_sites(guide: Trace) -> Iterator[tuple[Site, Tensor]]:
    """Yield the sites whose draws have no derivative, with their scores, unscaled and unmasked."""
    for site in density_sites(guide).values():
        score = site["score_parts"].score_function
        if not is_identically_zero(score):
            yield site, score


def along_the_path(model: Trace, guide: Trace) -> Tensor:
    """Return log p(x, z) less the log-density of the draws that have a derivative, a scalar.

    The log-density of the others has a derivative of mean 0 at draws held fixed.
    """
    total = log_density(model)
    for site in density_sites(guide).values():
        entropy = site["score_parts"].entropy_term
        if not is_identically_zero(entropy):
            total = total - entropy.sum()
    return total


def with_gradient_of(value: Tensor, surrogate: Tensor) -> Tensor:
    """Return the number `value` with the gradient of `surrogate`."""
    return value.detach() + surrogate - surrogate.detach()
