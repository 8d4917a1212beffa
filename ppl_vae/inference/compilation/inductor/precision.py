"""Matrix products in lower precision, where the processor has them."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import AbstractContextManager, nullcontext
from functools import partial

import torch

from ppl_vae import checks


def check_precision(precision: str | None) -> None:
    """Raise ValueError for another precision than ``bf16``, or where nothing here has bfloat16."""
    if precision is None:
        return
    checks.name("precision", precision, ["bf16"])
    if not any(map(_has_bf16, ("cpu", "cuda"))):
        raise ValueError(
            checks.message("a processor with bfloat16", "one without", "Leave precision at None.")
        )


def autocast(
    precision: str | None, device: torch.device
) -> Callable[[], AbstractContextManager[object]]:
    """Return what makes the context of a step on `device`: ``torch.autocast`` for ``bf16``.

    Raises:
        ValueError: the device has no bfloat16.
    """
    if precision is None:
        return nullcontext
    if not _has_bf16(device.type):
        raise ValueError(
            checks.message(
                "parameters on a device with bfloat16",
                f"parameters on {device}, which has none",
                "Leave precision at None, or move the model.",
            )
        )
    return partial(torch.autocast, device.type, dtype=torch.bfloat16, cache_enabled=False)


def _has_bf16(kind: str) -> bool:
    if kind == "cuda":
        return torch.cuda.is_available() and torch.cuda.is_bf16_supported()
    return kind == "cpu" and cpu_has_bf16()


def cpu_has_bf16() -> bool:
    """Return whether the processor multiplies bfloat16."""
    return bool(torch.cpu._is_avx512_bf16_supported() or torch.cpu._is_amx_tile_supported())
