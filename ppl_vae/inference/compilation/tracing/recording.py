"""What of the whole process a tracing takes hold of."""

from __future__ import annotations

import linecache
import threading
from collections.abc import Iterator
from contextlib import contextmanager

from torch.fx import graph_module

# Pyro's handlers, its param store and the settings that tracing changes belong to the process.
TRACING = threading.RLock()


@contextmanager
def recording() -> Iterator[None]:
    """Let no other thread trace, and forget the sources of the graphs that are made within.

    For its tracebacks PyTorch keeps the text of every graph until the process ends: about
    220 kB for a compiled step of a small VAE.
    """
    with TRACING:
        texts: dict[str, str] = graph_module._loader.eval_cache  # noqa: SLF001
        before = set(texts)
        try:
            yield
        finally:
            for name in set(texts) - before:
                del texts[name]
                linecache.cache.pop(name, None)
