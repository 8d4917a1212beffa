"""Matrix products in lower precision, where the processor has them."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import AbstractContextManager, nullcontext
from functools import partial
from logging import getLogger

import torch

from ppl_vae import checks

log = getLogger("ppl_vae.inference")


def check_precision(precision: str | None) -> None:
    """Raise ValueError for another precision than ``bf16``."""
    if precision is not None:
        checks.name("precision", precision, ["bf16"])


def autocast(
    precision: str | None, device: torch.device
) -> Callable[[], AbstractContextManager[object]]:
    """Return what makes the context of a step on `device`: ``torch.autocast`` for ``bf16``.

    A CPU without bfloat16 gives the same numbers, slowly, and the log says so.

    Raises:
        ValueError: a GPU has no bfloat16.
    """
    if precision is None:
        return nullcontext
    if device.type == "cuda" and not torch.cuda.is_bf16_supported():
        raise checks.value_error(
            "parameters on a device with bfloat16",
            f"parameters on {device}, which has none",
            "Leave precision out, or move the model.",
        )
    if device.type == "cpu" and not cpu_has_bf16():
        log.warning("this processor has no bfloat16: products in it are slower than in float32")
    return partial(torch.autocast, device.type, dtype=torch.bfloat16, cache_enabled=False)


def cpu_has_bf16() -> bool:
    """Return whether the processor multiplies bfloat16."""
    return bool(torch.cpu._is_avx512_bf16_supported() or torch.cpu._is_amx_tile_supported())
