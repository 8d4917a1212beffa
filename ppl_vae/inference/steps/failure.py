"""A loss that is not a number: at which step, and from which site."""

from __future__ import annotations

from typing import Any

import pyro
import torch
from pyro import poutine
from pyro.poutine.util import site_is_subsample

from ppl_vae.batch import Data
from ppl_vae.elbos.sites.closed_kl import registered_kl
from ppl_vae.pair import Pair, leaving_no_params


class NonFiniteLossError(ArithmeticError):
    """The loss became NaN or infinite; the step was not taken.

    Attributes:
        epoch: in which epoch, counted from 1.
        step: at which step of that epoch, counted from 1.
        site: the first site with a number that is not finite, or None.
    """

    def __init__(self, loss: float, *, epoch: int, step: int, site: str | None, why: str) -> None:
        place = f"site {site!r}" if site else "no single site"
        super().__init__(
            f"the loss became {loss} at step {step} of epoch {epoch}: {place} ({why}). "
            "Lower the learning rate or bound the scale of that site; what was saved before this "
            "epoch is as it was."
        )
        self.epoch, self.step, self.site = epoch, step, site


@torch.no_grad()
def first_bad_site(pair: Pair, x: Data) -> tuple[str | None, str]:
    """Return the first site whose parameters, value, log-density or KL is not finite, and why.

    Call it with the random state as it was before the step, so that the draws are the same.
    """
    bad = [name for name, p in pair.named_parameters() if not p.isfinite().all()]
    cause = f"parameter {bad[0]} is not finite" if bad else "the parameters are finite"
    with pyro.validation_enabled(False), leaving_no_params():  # noqa: FBT003
        guide: Any = poutine.trace(pair.guide).get_trace(x)
        model: Any = poutine.trace(poutine.replay(pair.model, guide)).get_trace(x)
        for side, trace in (("guide", guide), ("model", model)):
            trace.compute_log_prob()
            for name, site in trace.nodes.items():
                if site["type"] != "sample":
                    continue
                for what in ("value", "log_prob"):
                    if not site[what].isfinite().all():
                        return name, f"its {what} in the {side} is not finite; {cause}"
    for name, site in guide.nodes.items():
        if site["type"] == "sample" and not site_is_subsample(site) and name in model.nodes:
            try:
                kl = registered_kl(site["fn"], model.nodes[name]["fn"])
            except NotImplementedError:
                continue
            if not kl.isfinite().all():
                return name, f"its KL divergence is not finite; {cause}"
    return None, f"every term is finite but their sum is not; {cause}"
