"""A plugin of pytest: Pyro's own tests, with what each of their ``SVI`` objects did.

The environment says where the rows go (``DROP_IN_ROWS``), one JSON object a test.
"""

from __future__ import annotations

import json
import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from drop_in_parts.recorded import EnoughError, install, made

ROWS = Path(os.environ["DROP_IN_ROWS"])


def pytest_configure() -> None:
    """Put the class in Pyro's place before any test is imported."""
    install()


@pytest.hookimpl(hookwrapper=True)
def pytest_runtest_makereport(item: Any, call: Any) -> Iterator[None]:  # noqa: ANN401
    """Write a row when a test has run."""
    outcome: Any = yield
    report = outcome.get_result()
    if report.when == "setup":
        made.clear()
    if report.when != "call":
        return
    ended = "xfailed" if hasattr(report, "wasxfail") else report.outcome
    error = call.excinfo.typename if call.excinfo else ""
    if error == EnoughError.__name__:
        ended, error = "enough steps", ""
    row = {"test": item.nodeid, "outcome": ended, "error": error, "objects": made}
    with ROWS.open("a") as file:
        file.write(json.dumps(row) + "\n")
    made.clear()
