"""Where latents live, and the way there from unconstrained numbers."""

from __future__ import annotations

from typing import Any

from torch.distributions import biject_to

from ppl_vae import checks
from ppl_vae.elbos.sites.closed_kl import base
from ppl_vae.elbos.sites.traces import Site


def bijection(fn: Any) -> Any:  # noqa: ANN401
    """Return the bijection from the real line onto a support; a mixture's is its components'."""
    return biject_to(unmixed(fn).support)


def unmixed(fn: Any) -> Any:  # noqa: ANN401
    """Return a mixture's components, and anything else as it is."""
    return getattr(fn, "component_distribution", fn)


def not_continuous(name: str, site: Site) -> NotImplementedError:
    """Return the error for a latent whose unconstrained numbers are not known."""
    fn: Any = base(site["fn"])
    try:
        _ = fn.support
    except NotImplementedError:
        return checks.not_implemented(
            f"a distribution with a support at site {name!r}",
            f"{type(fn).__name__}, which names none",
            "Use method='iwae', or for a flow of zuko's ppl_vae.FlowDistribution.",
        )
    return NotImplementedError(
        checks.message(
            "continuous latents",
            f"{type(fn).__name__} at site {name!r}",
            "Use method='iwae', or 'quadrature', which sums over finitely many values.",
        )
    )
