"""Matrix products in lower precision, where the processor has them."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import AbstractContextManager, nullcontext
from functools import partial

import torch

from ppl_vae import checks


def autocast(precision: str | None) -> Callable[[], AbstractContextManager[object]]:
    """Return what makes the context of a step: nothing, or ``torch.autocast`` for ``bf16``.

    Raises:
        ValueError: another precision, or a processor without bfloat16.
    """
    if precision is None:
        return nullcontext
    checks.name("precision", precision, ["bf16"])
    kind = "cuda" if torch.cuda.is_available() else "cpu"
    has_bf16 = torch.cuda.is_bf16_supported() if kind == "cuda" else cpu_has_bf16()
    if not has_bf16:
        raise ValueError(
            checks.message("a processor with bfloat16", "one without", "Leave precision at None.")
        )
    return partial(torch.autocast, kind, dtype=torch.bfloat16, cache_enabled=False)


def cpu_has_bf16() -> bool:
    """Return whether the processor multiplies bfloat16."""
    return bool(torch.cpu._is_avx512_bf16_supported() or torch.cpu._is_amx_tile_supported())
