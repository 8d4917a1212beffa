"""Assignments to Pyro's param store that keep the tensors that it holds."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import pyro
import torch

from ppl_vae.inference.compilation.tracing.constants import UntraceableError


@contextmanager
def assigned_in_place() -> Iterator[None]:
    """Copy what a block assigns to the store's names into the tensors of before, at its end.

    So a graph follows ``store[name] = value``, with which Pyro keeps an average baseline.
    """
    store: Any = pyro.get_param_store()
    before = dict(store._params)
    yield
    for name, old in before.items():
        new = store._params.get(name)
        if new is old:
            continue
        if new is None or new.shape != old.shape or new.dtype != old.dtype:
            raise UntraceableError(f"it removes the parameter {name!r}, or changes its shape")
        with torch.no_grad():
            old.copy_(new)
        store._param_to_name.pop(new, None)
        store._params[name] = old
        store._param_to_name[old] = name
