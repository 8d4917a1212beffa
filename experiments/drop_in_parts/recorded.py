"""Pyro's ``SVI``, or ours in its place, with a note of what each object did.

The environment says which it is: ``DROP_IN_BACKEND`` is ``pyro``, ``eager`` or ``inductor``.
"""

from __future__ import annotations

import os
import time
from typing import Any

import pyro.infer
import torch

from ppl_vae import CompiledSVI

BACKEND = os.environ["DROP_IN_BACKEND"]
BASE: Any = pyro.infer.SVI if BACKEND == "pyro" else CompiledSVI
OPTIONS = {} if BACKEND == "pyro" else {"backend": BACKEND}
MOST_STEPS = int(os.environ.get("DROP_IN_STEPS", "0"))

# What the program that runs has made, one entry an object.
made: list[dict[str, Any]] = []


class EnoughError(Exception):
    """An object has taken as many steps as are compared."""


class Recorded(BASE):
    """One of the two classes, that notes its losses and how they came about."""

    def __init__(self, *args: Any, **kwargs: Any) -> None:  # noqa: ANN401
        super().__init__(*args, **{**OPTIONS, **kwargs})
        self._row: dict[str, Any] = {
            "losses": [],
            "evaluated": [],
            "compiled": 0,
            "why": "",
            "seconds": [],
        }
        made.append(self._row)

    def step(self, *args: Any, **kwargs: Any) -> Any:  # noqa: ANN401
        """Take one step."""
        row, began = self._row, time.perf_counter()
        loss = super().step(*args, **kwargs)
        row["seconds"].append(time.perf_counter() - began)
        row["losses"].append(_total(loss))
        why = getattr(self, "why_eager", "")
        row["compiled"] += why is None
        row["why"] = "" if row["compiled"] else why
        if len(row["losses"]) == MOST_STEPS:
            raise EnoughError
        return loss

    def evaluate_loss(self, *args: Any, **kwargs: Any) -> Any:  # noqa: ANN401
        """Evaluate the loss, without a step."""
        loss = super().evaluate_loss(*args, **kwargs)
        self._row["evaluated"].append(_total(loss))
        return loss


def install() -> None:
    """Put the class in Pyro's place, before any program imports it."""
    pyro.infer.SVI = pyro.infer.svi.SVI = Recorded
    if "DROP_IN_PLAIN" in os.environ:
        for name in ("Trace_ELBO", "TraceGraph_ELBO", "TraceEnum_ELBO", "TraceMeanField_ELBO"):
            setattr(pyro.infer, f"Jit{name}", _without_jit(getattr(pyro.infer, name)))


def _without_jit(cls: Any) -> Any:  # noqa: ANN401
    """Return an estimator that takes, and leaves out, what its twin under torch.jit takes."""

    def start(self: Any, *args: Any, **options: Any) -> None:  # noqa: ANN401
        for name in ("ignore_jit_warnings", "jit_options"):
            options.pop(name, None)
        cls.__init__(self, *args, **options)

    return type(f"Jit{cls.__name__}", (cls,), {"__init__": start})  # tests are named by it


def _total(loss: Any) -> float:  # noqa: ANN401
    return float(torch.as_tensor(loss).sum())
