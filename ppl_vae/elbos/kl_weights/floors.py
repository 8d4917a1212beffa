"""Free bits: dimensions of a latent whose KL divergence is too small to be pushed down."""

from __future__ import annotations

from typing import Any

import torch
from pyro.distributions import Delta, Independent, MaskedDistribution
from torch import Tensor

from ppl_vae import checks
from ppl_vae.elbos.sites.closed_kl import base, layers, obstacle, registered_kl
from ppl_vae.elbos.weights import PARTICLES


class _ScoredWhole(Independent):
    """Dimensions some of which may be hidden, but not from the score of how they were drawn."""

    def score_parts(self, x: Tensor) -> Any:  # noqa: ANN401
        parts = super().score_parts(x)
        if self.has_rsample:
            return parts
        whole = Independent(_unmasked(self.base_dist), self.reinterpreted_batch_ndims)
        return parts._replace(score_function=whole.log_prob(x))


def _unmasked(fn: Any) -> Any:  # noqa: ANN401
    if isinstance(fn, MaskedDistribution):
        return _unmasked(fn.base_dist)
    if isinstance(fn, torch.distributions.Independent):
        return Independent(_unmasked(fn.base_dist), fn.reinterpreted_batch_ndims)
    return fn


def maskable(fn: Any, name: str) -> Any:  # noqa: ANN401
    """Return `fn` with a mask over the dimensions of its value, which hides none as yet.

    Raises:
        NotImplementedError: the dimensions depend on each other, or `fn` is a Delta.
    """
    if isinstance(fn, torch.distributions.Independent):
        return _ScoredWhole(maskable(fn.base_dist, name), fn.reinterpreted_batch_ndims)
    if isinstance(fn, MaskedDistribution):
        return maskable(fn.base_dist, name).mask(fn._mask)
    if fn.event_shape or isinstance(fn, Delta):
        raise checks.not_implemented(
            f"a KL divergence that is a sum over the dimensions of site {name!r}",
            f"{type(fn).__name__}, which has no density of each dimension",
            "Leave free_bits at 0, or draw the dimensions independently (to_event).",
        )
    return MaskedDistribution(fn, True)  # noqa: FBT003


def floor(prior: dict[str, Any], posterior: dict[str, Any], free_bits: float) -> Tensor:
    """Hide the dimensions of a site whose KL is below `free_bits`; return what takes its place.

    The KL of a dimension is its mean over the data points of the plates, each particle by itself:
    in closed form where one may be used, else from the present draw. Both sides hide the same.

    Args:
        prior: the model's site, whose ``fn`` is `maskable`.
        posterior: the guide's.
        free_bits: nats per dimension.

    Returns:
        A scalar in nats: for every hidden entry `free_bits`, with the site's scale and mask.
    """
    with torch.no_grad():
        kl = _by_entry(prior, posterior)
        shape = torch.broadcast_shapes(prior["fn"].batch_shape, posterior["fn"].batch_shape)
        event = kl.dim() - len(shape)
        counted = torch.ones(shape, dtype=kl.dtype, device=kl.device)
        mask = prior["mask"]
        if mask is not None:
            counted = counted * torch.as_tensor(mask, device=kl.device)
        counted = counted.reshape(*shape, *[1] * event)
        plates = [
            frame.dim - event
            for frame in prior["cond_indep_stack"]
            if frame.vectorized and frame.name != PARTICLES
        ]
        excess = (kl - free_bits) * counted
        if plates:
            excess = excess.sum(plates, keepdim=True)
        active = (excess > 0).expand(kl.shape)
        hidden = (~active) * counted
        for site in (prior, posterior):
            _innermost(site)._mask = active
    return free_bits * (hidden.reshape(*shape, -1).sum(-1) * prior["scale"]).sum()


def _by_entry(prior: dict[str, Any], posterior: dict[str, Any]) -> Tensor:
    """Return KL(q || p) of every entry of a site's value."""
    q, p = base(posterior["fn"]), base(prior["fn"])
    if not obstacle(q, p):
        try:
            return registered_kl(q, p)
        except NotImplementedError:
            pass
    value = prior["value"].detach()
    return q.log_prob(value) - p.log_prob(value)


def _innermost(site: dict[str, Any]) -> Any:  # noqa: ANN401
    return [each for each in layers(site["fn"]) if isinstance(each, MaskedDistribution)][-1]
