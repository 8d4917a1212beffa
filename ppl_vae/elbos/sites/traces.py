"""Reading Pyro's traces: which sites there are, and whether model and guide fit together."""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterable
from typing import Any

import torch
from pyro.distributions.util import scale_and_mask
from pyro.poutine.trace_struct import Trace
from pyro.poutine.util import site_is_subsample
from torch import Tensor

from ppl_vae import checks
from ppl_vae.elbos.sites.closed_kl import base

Site = dict[str, Any]
# Whether a site is a plate's choice of data points.
is_subsample: Callable[[Any], bool] = site_is_subsample


def sample_sites(trace: Trace, wanted: Callable[[Site], bool]) -> dict[str, Site]:
    """Return the sample sites that are `wanted`, by name, in the order of the trace.

    A plate's choice of data points is not one of them.
    """
    nodes: Any = trace.nodes
    return {
        name: site
        for name, site in nodes.items()
        if site["type"] == "sample" and not is_subsample(site) and wanted(site)
    }


def observed_sites(trace: Trace) -> dict[str, Site]:
    """Return the sites whose value is given."""
    return sample_sites(trace, lambda site: site["is_observed"])


def latent_sites(trace: Trace) -> dict[str, Site]:
    """Return the sites whose value is drawn."""
    return sample_sites(trace, lambda site: not site["is_observed"])


def density_sites(trace: Trace) -> dict[str, Site]:
    """Return the sites that have a density: all but ``pyro.deterministic``.

    Of a guide these are its draws and its factors (``pyro.factor``).
    """
    return sample_sites(trace, lambda site: not site["infer"].get("_deterministic"))


def total(log_probs: Iterable[Tensor]) -> Tensor:
    """Return the sum of some scalars, of their dtype and on their device; 0 for none."""
    first, *rest = list(log_probs) or [torch.zeros(())]
    return sum(rest, first)


def log_density(trace: Trace) -> Tensor:
    """Return the sum of the log-densities of all sites, with their scales and masks, in nats."""
    return total(site["log_prob_sum"] for site in density_sites(trace).values())


def weighed(value: Tensor, site: Site) -> Tensor:
    """Return a site's numbers under its mask, times its scale."""
    return scale_and_mask(value, site["scale"], site["mask"])


def check_sites(
    model: Trace,
    guide: Trace,
    *,
    reparameterised: bool = True,
    summed: Collection[str] = (),
) -> None:
    """Raise unless model and guide draw the same latents, and reparameterised where asked.

    The guide may lack `summed` latents of the model, whose states are summed; those that it has
    need no derivative.
    """
    in_model, in_guide = latent_sites(model), density_sites(guide)
    for name in in_model:
        if name not in in_guide and name not in summed:
            raise checks.value_error(
                f"a site {name!r} in the guide, as the model has it",
                f"sites {_listed(in_guide)}",
                "Draw it in the guide too.",
            )
    for name, site in in_guide.items():
        if name not in in_model and not site["infer"].get("is_auxiliary"):
            raise checks.value_error(
                f"a site {name!r} in the model, as the guide has it",
                f"sites {_listed(in_model)}",
                'Draw it in the model too, or mark it infer={"is_auxiliary": True}.',
            )
        if reparameterised and name not in summed and not is_reparameterised(site["fn"]):
            raise NotImplementedError(not_reparameterised(name, site["fn"]))


def is_straight_through(fn: Any) -> bool:  # noqa: ANN401
    """Return whether draws of `fn` are discrete and pass the gradient of something else back."""
    return type(base(fn)).__name__.endswith("StraightThrough")


def is_reparameterised(fn: Any) -> bool:  # noqa: ANN401
    """Return whether gradients through draws of `fn` are those of expectations."""
    return getattr(fn, "has_rsample", False) and not is_straight_through(fn)


def not_reparameterised(name: str, fn: Any) -> str:  # noqa: ANN401
    """Return the message for a draw of the guide that an estimator cannot follow back."""
    family = type(base(fn)).__name__
    if is_straight_through(fn):
        why, what = "whose gradient is biased", "Draw from the family without StraightThrough"
    else:
        why, what = "which has no rsample", "Choose 'trace' or 'score-function'"
    return checks.message(
        f"a reparameterised distribution at the guide's site {name!r}",
        f"{family}, {why}",
        f"{what}, or another distribution.",
    )


def check_masks(model: Trace) -> None:
    """Raise ValueError if masks hide every entry of every site of the model."""
    sites = density_sites(model)
    if sites and all(_hidden(site["mask"]) for site in sites.values()):
        raise checks.value_error(
            "at least one entry that the masks leave in",
            f"masks that hide every entry of {_listed(sites)}",
            "Leave such a batch out.",
        )


def _hidden(mask: object) -> bool:
    if isinstance(mask, torch.Tensor):
        return not bool(mask.any())
    return mask is False


def _listed(names: Iterable[str]) -> str:
    return ", ".join(map(repr, names)) or "none"
