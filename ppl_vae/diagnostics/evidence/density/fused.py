"""The log-density of Bernoulli pixels in one pass over their logits, compiled."""

from __future__ import annotations

import functools
import warnings
from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor
from torch.distributions import Bernoulli, Independent

from ppl_vae.elbos.sites.traces import observed_sites, weighed

Kernel = Callable[[Tensor, Tensor], Tensor]


def bernoulli_log_prob(logits: Tensor, value: Tensor) -> Tensor:
    """Return ``sum x l - log(1 + exp(l))`` over the last dimension, in nats.

    Args:
        logits: (*batch, size).
        value: zeros and ones that broadcast to it.

    Example:
        >>> bernoulli_log_prob(torch.zeros(1, 3), torch.ones(3)).exp()
        tensor([0.1250])
    """
    # Of each pixel before the sum, so that large terms of either sign do not meet in it.
    return (value * logits - logits.clamp(min=0) - (-logits.abs()).exp().log1p()).sum(-1)


@functools.cache
def compiled_kernel(device: str) -> Kernel | None:
    """Return `bernoulli_log_prob` compiled, or None where that fails or gives other numbers.

    It is for, and tried on, a kind of device such as ``cpu``. The first call in a process takes
    some seconds; torch keeps the result on disk.
    """
    kernel = torch.compile(bernoulli_log_prob, dynamic=True)
    logits = torch.linspace(-30, 30, 7 * 3 * 11, device=device).reshape(7, 3, 11)
    value = (torch.arange(33, device=device).reshape(3, 11) % 2).to(logits.dtype)
    try:
        with warnings.catch_warnings(), torch.no_grad():
            warnings.simplefilter("ignore")
            found = kernel(logits, value)
    except Exception:  # no compiler, or one that does not work: there is another way
        return None
    expected = bernoulli_log_prob(logits, value)
    return kernel if torch.allclose(found, expected, rtol=1e-5, atol=1e-5) else None


def fill_in(trace: Any, kernel: Kernel) -> None:  # noqa: ANN401
    """Fill in the log-density of a trace's observed Bernoulli pixels that are given by logits."""
    for site in observed_sites(trace).values():
        fn = site["fn"]
        if not (isinstance(fn, Independent) and isinstance(fn.base_dist, Bernoulli)):
            continue
        logits, depth = vars(fn.base_dist).get("logits"), fn.reinterpreted_batch_ndims
        if logits is None or logits.shape[-depth:] != site["value"].shape[-depth:]:
            continue
        value = site["value"].to(logits.dtype)
        found = kernel(logits.flatten(-depth), value.flatten(-depth))
        found = weighed(found, site)
        site["log_prob"], site["log_prob_sum"] = found, found.sum()
        site["unscaled_log_prob"] = found
