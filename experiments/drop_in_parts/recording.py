"""A plugin of pytest: Pyro's own tests, with what each of their ``SVI`` objects did.

The environment says by what ``SVI`` is replaced (``DROP_IN_BACKEND``: ``pyro``, ``eager`` or
``inductor``) and where the rows go (``DROP_IN_ROWS``), one JSON object a test.
"""

from __future__ import annotations

import json
import os
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pyro.infer
import pytest
import torch

from ppl_vae import CompiledSVI

BACKEND = os.environ["DROP_IN_BACKEND"]
ROWS = Path(os.environ["DROP_IN_ROWS"])
BASE: Any = pyro.infer.SVI if BACKEND == "pyro" else CompiledSVI
OPTIONS = {} if BACKEND == "pyro" else {"backend": BACKEND}

# What the test that runs has made, one entry an object.
made: list[dict[str, Any]] = []


class Recorded(BASE):
    """Pyro's ``SVI``, or ours, that notes its losses and how they came about."""

    def __init__(self, *args: Any, **kwargs: Any) -> None:  # noqa: ANN401
        super().__init__(*args, **{**OPTIONS, **kwargs})
        self._row: dict[str, Any] = {"losses": [], "compiled": 0, "why": "", "seconds": []}
        made.append(self._row)

    def step(self, *args: Any, **kwargs: Any) -> Any:  # noqa: ANN401
        """Take one step."""
        row, began = self._row, time.perf_counter()
        loss = super().step(*args, **kwargs)
        row["seconds"].append(time.perf_counter() - began)
        row["losses"].append(float(torch.as_tensor(loss).sum()))
        why = getattr(self, "why_eager", "")
        row["compiled"] += why is None
        row["why"] = "" if row["compiled"] else why
        return loss


def pytest_configure() -> None:
    """Put the class in Pyro's place before any test is imported."""
    pyro.infer.SVI = pyro.infer.svi.SVI = Recorded


@pytest.hookimpl(hookwrapper=True)
def pytest_runtest_makereport(item: Any) -> Iterator[None]:  # noqa: ANN401
    """Write a row when a test has run."""
    outcome: Any = yield
    report = outcome.get_result()
    if report.when == "setup":
        made.clear()
    if report.when != "call":
        return
    row = {
        "test": item.nodeid,
        "outcome": "xfailed" if hasattr(report, "wasxfail") else report.outcome,
        "objects": made,
    }
    with ROWS.open("a") as file:
        file.write(json.dumps(row) + "\n")
    made.clear()
