"""Registered divergences, also where gradients are switched off."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from ppl_vae.elbos.closed_kl import registered_kl


def formula_kl(q: Any, p: Any) -> Tensor:  # noqa: ANN401
    """Return KL(q || p) as registered; torch's of two exponential families differentiates.

    Raises:
        NotImplementedError: none is registered.
    """
    with torch.enable_grad():
        kl = registered_kl(q, p)
    return kl if torch.is_grad_enabled() else kl.detach()
