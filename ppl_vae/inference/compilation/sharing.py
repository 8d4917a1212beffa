"""Tensors that share memory, of which a graph sees each by itself."""

from __future__ import annotations

from collections.abc import Sequence

from torch import Tensor


def share_memory(changed: Sequence[Tensor], others: Sequence[Tensor]) -> bool:
    """Return whether a tensor that is changed overlaps another one of either list in memory.

    A tensor may be listed twice. Views overlap here if their first and last bytes do.
    """
    listed = {id(t): (*_span(t), False) for t in others}
    listed |= {id(t): (*_span(t), True) for t in changed}
    spans = sorted(listed.values())
    end, last_changed = -1, -1
    for first, last, is_changed in spans:
        if first < (end if is_changed else last_changed):
            return True
        end = max(end, last)
        if is_changed:
            last_changed = max(last_changed, last)
    return False


def _span(tensor: Tensor) -> tuple[int, int]:
    """Return the addresses of the first byte and of the one after the last."""
    if tensor.numel() == 0:
        return 0, 0
    start = tensor.data_ptr()
    reach = sum((n - 1) * step for n, step in zip(tensor.shape, tensor.stride(), strict=True))
    return start, start + (reach + 1) * tensor.element_size()
