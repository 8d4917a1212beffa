"""Discrete latents summed out, closed-form divergences for the continuous ones."""

from __future__ import annotations

import logging
from typing import Any

import torch
from pyro.infer import TraceEnum_ELBO
from pyro.ops import packed
from pyro.poutine.messenger import Messenger
from pyro.poutine.trace_struct import Trace
from torch import Tensor

from ppl_vae import checks
from ppl_vae.elbos.continuous.analytic_kl import TraceAnalyticKL_ELBO
from ppl_vae.elbos.discrete.joint_states import with_joint_states, without_masks
from ppl_vae.elbos.sites.closed_kl import registered_kl
from ppl_vae.elbos.sites.draws import CutAtLatents, Draw, Function, Program
from ppl_vae.elbos.sites.kl_plan import CLOSED_FORM, same_weights
from ppl_vae.elbos.sites.traces import Site, check_sites, is_subsample, latent_sites, weighed

_log = logging.getLogger("pyro.infer.elbo")


class TraceEnumerate_ELBO(TraceEnum_ELBO):  # noqa: N801  (Pyro's naming)
    """The ELBO with every discrete latent summed out, whatever the program's own ``infer=``.

        sum over y of q(y) (E_{q(z | y)}[log p(x, y, z) - log q(z | y)] - log q(y))

    Discrete sites of guide and model are enumerated in parallel by Pyro's ``TraceEnum_ELBO``; a
    site in the model alone is summed within the logarithm. The KL divergence of a continuous site
    is taken in closed form where ``analytic-kl`` would take it, given the discrete ones.

    Estimand: the ELBO.
    Gradient: its derivative along the reparameterised draws; discrete latents leave no noise.
    Bias: none.
    Needs: discrete latents with finitely many states, at most 4,096 of an event of several
        numbers (``to_event``); other draws are reparameterised.
    Cost: a pass for all states of the sites that depend on each other.
    Source: Kingma, Rezende, Mohamed and Welling 2014, equation 7; Obermeyer and others, Tensor
        variable elimination for plated factor graphs, 2019.

    Args:
        num_particles: draws of the continuous latents in each estimate, at least 1.
        **options: of ``pyro.infer.TraceEnum_ELBO``.

    Raises:
        TypeError: `num_particles` is not an int.
        ValueError: `num_particles` below 1; at a step, a site that model or guide lacks.
        NotImplementedError: at a step, a draw that is neither reparameterised nor enumerated, or
            more joint states than that.

    Example:
        >>> from ppl_vae import SemiSupervisedVAE
        >>> pair = SemiSupervisedVAE((1, 3, 3), num_classes=2, latent_dim=2, hidden=(4,), seed=0)
        >>> loss = TraceEnumerate_ELBO().loss(pair.model, pair.guide, pair.sample(3, seed=0))
    """

    def __init__(self, num_particles: int = 1, **options: Any) -> None:  # noqa: ANN401
        checks.count("num_particles", num_particles)
        options.setdefault("strict_enumeration_warning", False)
        super().__init__(num_particles=num_particles, **options)
        self._analytic = TraceAnalyticKL_ELBO()

    def _get_traces(
        self, model: Function, guide: Function, args: tuple[Any, ...], kwargs: dict[str, Any]
    ) -> Any:  # noqa: ANN401
        program = Program(model, guide, args, kwargs)
        # Within Pyro's own handler, which enumerates what is marked.
        marked = _Enumerated()(model), _Enumerated()(guide)
        for traces in super()._get_traces(*marked, args, kwargs):
            sites = (site for trace in traces for site in latent_sites(trace).values())
            check_sites(*traces, summed={site["name"] for site in sites if _is_enumerated(site)})
            _weigh_by_the_unmasked(*traces)
            self._take_divergences(program, *traces)
            yield traces

    def _guess_max_plate_nesting(self, *args: Any) -> None:  # noqa: ANN401
        # Pyro announces the number that it finds, at every step of a copied estimator.
        level = _log.level
        _log.setLevel(logging.WARNING)
        try:
            super()._guess_max_plate_nesting(*args)
        finally:
            _log.setLevel(level)

    def _take_divergences(self, program: Program, model: Trace, guide: Trace) -> None:
        """Put closed-form divergences in the place of differences of log-densities."""
        in_model, in_guide = latent_sites(model), latent_sites(guide)
        if all(_is_enumerated(site) or name not in in_model for name, site in in_guide.items()):
            return
        plan = self._analytic.plan(Draw(model, guide, CutAtLatents()), program)
        for name, posterior in in_guide.items():
            site = plan.get(name)
            if site is None or site.how != CLOSED_FORM or site.source != name:
                continue
            prior = in_model[name]
            if _is_enumerated(posterior) or not same_weights(prior, posterior):
                continue
            kl = weighed(registered_kl(posterior["fn"], prior["fn"]), posterior)
            symbols = prior["infer"]["_dim_to_symbol"]
            known = posterior["infer"]["_dim_to_symbol"]
            if any(-kl.dim() <= dim and dim not in known for dim in symbols):
                continue  # it depends on a state of the model alone, summed in the logarithm
            # Only what is subtracted is replaced; the scores, by which Pyro weighs, stay.
            posterior["packed"]["log_prob"] = packed.pack(kl, symbols)
            for part in ("log_prob", "unscaled_log_prob"):
                prior["packed"][part] = _zero_like(prior["packed"][part])


class _Enumerated(Messenger):
    """Marks every discrete latent that has finitely many states to be enumerated in parallel."""

    def _pyro_sample(self, msg: Any) -> None:  # noqa: ANN401
        infer = msg["infer"]
        if is_summed(msg):
            msg["fn"] = with_joint_states(msg["name"], msg["fn"])
            infer = {k: v for k, v in infer.items() if k not in ("num_samples", "tmc")}
            msg["infer"] = {**infer, "enumerate": "parallel", "expand": False}
        elif infer.get("enumerate") and not _has_states(msg) and infer.get("num_samples", 1) == 1:
            msg["infer"] = {**infer, "enumerate": None}  # drawn: there is nothing to sum


def _weigh_by_the_unmasked(model: Trace, guide: Trace) -> None:
    """Weigh each state by its probability, also where a distribution's own mask hides it.

    A mask leaves a term out of the ELBO; the number is drawn as without it. So Pyro takes
    ``poutine.mask``, but the density of a masked distribution is 1 for every state.
    """
    in_guide = latent_sites(guide)
    for name, site in {**latent_sites(model), **in_guide}.items():
        fn, infer = without_masks(site["fn"]), site["infer"]
        if fn is site["fn"] or not _is_enumerated(site) or infer.get("num_samples"):
            continue
        weight = packed.pack(fn.log_prob(site["value"]), infer["_dim_to_symbol"])
        if name in in_guide:
            parts = site["packed"]["score_parts"]
            site["packed"]["score_parts"] = parts._replace(score_function=weight)
        else:
            site["packed"]["unscaled_log_prob"] = weight


def is_summed(site: Any) -> bool:  # noqa: ANN401
    """Return whether `TraceEnumerate_ELBO` sums over a site's states."""
    if site["is_observed"] or is_subsample(site) or site["infer"].get("is_auxiliary"):
        return False
    return _has_states(site)


def _has_states(site: Any) -> bool:  # noqa: ANN401
    return getattr(with_joint_states(site["name"], site["fn"]), "has_enumerate_support", False)


def _is_enumerated(site: Site) -> bool:
    return bool(site["infer"].get("enumerate"))


def _zero_like(value: Tensor) -> Tensor:
    zero = torch.zeros_like(value)
    zero._pyro_dims = value._pyro_dims  # pyright: ignore[reportAttributeAccessIssue]
    return zero
