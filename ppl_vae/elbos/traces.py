"""Reading Pyro's traces: which sites there are, and whether model and guide fit together."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from pyro.poutine.trace_struct import Trace

from ppl_vae import checks

Site = dict[str, Any]


def sample_sites(trace: Trace, wanted: Callable[[Site], bool]) -> dict[str, Site]:
    """Return the sample sites that are `wanted`, by name, in the order of the trace."""
    nodes = trace.nodes.items()
    return {n: site for n, site in nodes if site["type"] == "sample" and wanted(site)}


def observed_sites(trace: Trace) -> dict[str, Site]:
    """Return the sites whose value is given."""
    return sample_sites(trace, lambda site: site["is_observed"])


def latent_sites(trace: Trace) -> dict[str, Site]:
    """Return the sites whose value is drawn."""
    return sample_sites(trace, lambda site: not site["is_observed"])


def check_traces(model: Trace, guide: Trace) -> None:
    """Raise unless a reparameterised estimator can serve the model and the guide.

    Raises:
        ValueError: a latent of one side that the other lacks, or masks that hide every site.
        NotImplementedError: a draw of the guide that is not reparameterised.
    """
    in_model, in_guide = latent_sites(model), latent_sites(guide)
    for name in in_model:
        if name not in in_guide:
            raise ValueError(
                checks.message(
                    f"a site {name!r} in the guide, as the model has it",
                    f"sites {_listed(in_guide)}",
                    "Draw it in the guide too.",
                )
            )
    for name, site in in_guide.items():
        if name not in in_model and not site["infer"].get("is_auxiliary"):
            raise ValueError(
                checks.message(
                    f"a site {name!r} in the model, as the guide has it",
                    f"sites {_listed(in_model)}",
                    'Draw it in the model too, or mark it infer={"is_auxiliary": True}.',
                )
            )
        if not getattr(site["fn"], "has_rsample", False):
            raise NotImplementedError(
                checks.message(
                    f"a reparameterised distribution at the guide's site {name!r}",
                    f"{type(site['fn']).__name__}, which has no rsample",
                    "Choose 'trace' or 'score-function', or another distribution.",
                )
            )
    sites = [*observed_sites(model).values(), *in_model.values()]
    if sites and all(_hidden(site["mask"]) for site in sites):
        raise ValueError(
            checks.message(
                "at least one entry that the masks leave in",
                f"masks that hide every entry of {_listed(site['name'] for site in sites)}",
                "Leave such a batch out.",
            )
        )


def _hidden(mask: object) -> bool:
    if isinstance(mask, torch.Tensor):
        return not bool(mask.any())
    return mask is False


def _listed(names: Any) -> str:  # noqa: ANN401
    return ", ".join(map(repr, names)) or "none"
