"""Whether an estimator can be right for a model and guide, decided before its first number."""

from __future__ import annotations

import copy
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from typing import Any

import pyro
import torch
from pyro.infer import ELBO, RenyiELBO, Trace_ELBO, TraceMeanField_ELBO
from pyro.poutine.messenger import Messenger
from pyro.poutine.trace_struct import Trace

from ppl_vae import checks
from ppl_vae.elbos.continuous.analytic_kl import TraceAnalyticKL_ELBO
from ppl_vae.elbos.discrete.enumerate import TraceEnumerate_ELBO
from ppl_vae.elbos.discrete.joint_states import with_joint_states
from ppl_vae.elbos.discrete.reweighted_wake_sleep import TraceReweightedWakeSleep_ELBO
from ppl_vae.elbos.discrete.score_function import TraceScoreFunction_ELBO
from ppl_vae.elbos.kl_weights.estimator import without_weights
from ppl_vae.elbos.registry import ESTIMATORS
from ppl_vae.elbos.sites.closed_kl import base
from ppl_vae.elbos.sites.draws import Program, draw_traces
from ppl_vae.elbos.sites.kl_plan import CLOSED_FORM, plan_sites, same_weights
from ppl_vae.elbos.sites.traces import (
    is_reparameterised,
    is_straight_through,
    is_subsample,
    latent_sites,
    not_reparameterised,
)
from ppl_vae.elbos.sites.wrong_kls import wrong_where

# Pyro's estimators that leave out the score term of a draw without rsample, or change it.
_PATHWISE = (TraceMeanField_ELBO, RenyiELBO)
# Those that hold every draw fixed.
_BY_VALUES = (TraceScoreFunction_ELBO, TraceReweightedWakeSleep_ELBO)


def why_not_served(elbo: ELBO, program: Program) -> str:
    """Return why `elbo` cannot be right for a program, or nothing.

    The estimate is made once, on a copy of the estimator, from the random stream as it stands. The
    depth of plates, which Pyro guesses by a draw, is kept, so that all steps draw alike.
    """
    twin: Any = copy.copy(elbo)
    try:
        with (
            checks.own_words(),
            enforced(elbo),
            torch.no_grad(),
            pyro.validation_enabled(False),  # noqa: FBT003
        ):
            twin.loss(program.model, program.guide, *program.args, **program.kwargs)
    except NotImplementedError as error:
        return _rephrased(error)
    inner = without_weights(elbo)
    if "max_plate_nesting" in vars(inner):
        inner.max_plate_nesting = without_weights(twin).max_plate_nesting
    return ""


def _rephrased(error: NotImplementedError) -> str:
    text = str(error).partition("Trace Shapes:")[0].strip()
    if "cartesian product" not in text:
        return text
    return checks.message(
        "sites whose states Pyro enumerates",
        "one of several numbers at once (to_event), of which it lists no states",
        "Draw the numbers in a plate of their own, or leave out infer={'enumerate': ...}.",
    )


def those_that_serve(
    program: Program, *, num_particles: int | None = None
) -> tuple[dict[str, ELBO], dict[str, str]]:
    """Return the registered estimators that serve a program, and why each other one does not.

    Each averages `num_particles` particles, or the fewest that it takes.
    """
    serving, reasons = {}, {}
    for name, entry in ESTIMATORS.items():
        try:
            elbo = entry.make(num_particles=num_particles)
        except ValueError as error:
            reasons[name] = str(error)
            continue
        why = why_not_served(elbo, program)
        if why:
            reasons[name] = why
        else:
            serving[name] = elbo
    return serving, reasons


def require_served(elbo: ELBO, program: Program) -> None:
    """Raise NotImplementedError unless `elbo` serves a program; it names those that do."""
    why = why_not_served(elbo, program)
    if why:
        names = ", ".join(map(repr, those_that_serve(program)[0])) or "none"
        raise NotImplementedError(f"{why} Estimators that serve this program: {names}.")


@contextmanager
def enforced(
    elbo: ELBO | Any,  # noqa: ANN401
    *,
    tell: Callable[[str], None] | None = None,
) -> Iterator[None]:
    """Raise NotImplementedError in the block where `elbo` would leave out a part silently.

    `tell`, if given, is called with a sentence instead where RenyiELBO's gradient is that of its
    limit for many particles. With alpha 0 that limit does not depend on the guide, which gets no
    gradient at all.
    """
    elbo = without_weights(elbo)
    tell = tell if isinstance(elbo, RenyiELBO) and elbo.alpha else None
    with ExitStack() as stack:
        if not isinstance(elbo, _BY_VALUES):
            scored = not isinstance(elbo, _PATHWISE)
            stack.enter_context(_Reparameterised(scored=scored, tell=tell))
        if isinstance(elbo, TraceMeanField_ELBO):
            stack.enter_context(_RightDivergences())
        yield


class _Reparameterised(Messenger):
    """Refuses a draw of the guide, which runs first, whose gradient the estimator gets wrong.

    `scored` says whether the estimator adds the score term of draws without rsample; if not,
    `tell` may be content with a sentence.
    """

    def __init__(self, *, scored: bool, tell: Callable[[str], None] | None) -> None:
        super().__init__()
        self._scored, self._tell = scored, tell
        self._checked: set[str] = set()

    def _pyro_post_sample(self, msg: Any) -> None:  # noqa: ANN401
        name = msg["name"]
        if msg["is_observed"] or name in self._checked or is_subsample(msg):
            return
        self._checked.add(name)
        fn = msg["fn"]
        if is_straight_through(fn) or not (self._scored or is_reparameterised(fn)):
            if self._tell is None or is_straight_through(fn):
                raise NotImplementedError(not_reparameterised(name, fn))
            self._tell(
                f"{name!r} has no rsample, so that RenyiELBO's gradient is right only for very "
                "many particles"
            )


class _RightDivergences(Messenger):
    """Refuses a latent whose registered KL, which Pyro would take, is wrong."""

    def __init__(self) -> None:
        super().__init__()
        self._guide: dict[str, Any] = {}

    def _pyro_post_sample(self, msg: Any) -> None:  # noqa: ANN401
        name = msg["name"]
        if msg["is_observed"] or is_subsample(msg) or msg["infer"].get("is_auxiliary"):
            return
        # The guide runs before the model, with every particle.
        if name not in self._guide:
            self._guide[name] = msg["fn"]
            return
        why = wrong_where(base(self._guide.pop(name)), base(msg["fn"]))
        if why:
            raise checks.not_implemented(
                f"a right registered KL at site {name!r}",
                f"one that is not: {why}",
                "Choose 'analytic-kl', which samples such a site, or 'trace'.",
            )


def choose(program: Program) -> str:
    """Return the name of an estimator that serves a program, without bias and with little noise.

    It is ``trace-mean-field`` where every divergence is a closed form that holds, ``analytic-kl``
    where some are not, ``enumerate`` where a draw is not reparameterised but a number whose states
    can be summed, ``leave-one-out`` where they cannot, or are of several numbers in one event and
    may be thousands, and ``score-function`` where a gradient passes straight through.
    """
    if why_not_served(TraceAnalyticKL_ELBO(), program):
        if not why_not_served(TraceEnumerate_ELBO(), program) and not _has_joint_states(program):
            return "enumerate"
        return "score-function" if why_not_served(Trace_ELBO(), program) else "leave-one-out"
    model, guide = _traces(program)
    plan = plan_sites(program, model, guide)
    in_model, in_guide = latent_sites(model), latent_sites(guide)
    holds = all(
        site.how == CLOSED_FORM
        and site.source == name
        and same_weights(in_model[name], in_guide[name])
        for name, site in plan.items()
    )
    return "trace-mean-field" if holds else "analytic-kl"


def _traces(program: Program) -> tuple[Trace, Trace]:
    with torch.no_grad(), pyro.validation_enabled(False):  # noqa: FBT003
        return draw_traces(program)


def _has_joint_states(program: Program) -> bool:
    latents = (site for trace in _traces(program) for site in latent_sites(trace).values())
    return any(with_joint_states(s["name"], s["fn"]) is not s["fn"] for s in latents)
