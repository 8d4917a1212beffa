"""Whether a program did the same with both classes, and how ours took its steps."""

from __future__ import annotations

from collections import Counter
from typing import Any

import numpy as np
import pandas as pd

# A loss in one run and the other may differ by rounding that the steps before have carried on.
SAME = 1e-6
# From the third step on a step is one of many: the first is Pyro's, the second is traced.
FIRST_STEPS = 2
MISSING: dict[str, Any] = {"outcome": "no result", "error": "", "objects": []}


def compared(expected: dict[str, Any], found: dict[str, Any]) -> dict[str, Any]:
    """Return whether two runs did the same, and how ours took its steps."""
    same = expected["outcome"] == found["outcome"] and expected["error"] == found["error"]
    same = same and expected is not MISSING
    for kind in ("losses", "evaluated"):
        theirs, ours = (
            [x for each in r["objects"] for x in each[kind]] for r in (expected, found)
        )
        same = same and len(theirs) == len(ours)
        same = same and bool(np.allclose(theirs, ours, rtol=SAME, atol=SAME, equal_nan=True))
    result = "same" if same else "different"
    steps = [len(each["losses"]) for each in found["objects"]]
    if same and expected["error"] and not any(steps):
        result = "not run"
    compiled = sum(each["compiled"] for each in found["objects"])
    if not any(steps):
        kind = "no step"
    elif max(steps) < FIRST_STEPS:
        kind = "one step"
    else:
        kind = "compiled" if compiled else "by Pyro"
    outcomes = dict.fromkeys((expected["outcome"], found["outcome"]))
    errors = dict.fromkeys(row["error"] for row in (expected, found) if row["error"])
    return {
        "outcome": " / ".join(outcomes),
        "error": " / ".join(errors),
        "result": result,
        "steps": sum(steps),
        "compiled": compiled,
        "kind": kind,
        "why": next((each["why"] for each in found["objects"] if each["why"]), ""),
        "pyro ms": milliseconds(expected),
        "ours ms": milliseconds(found),
    }


def milliseconds(row: dict[str, Any]) -> float:
    """Return the median time of a step, from the third one on."""
    times = [second for each in row["objects"] for second in each["seconds"][FIRST_STEPS:]]
    return 1e3 * float(np.median(times)) if times else np.nan


def summary(tests: pd.DataFrame) -> pd.DataFrame:
    """Return a row for each file."""
    rows = []
    for file, group in tests.groupby("file", sort=False):
        kinds = Counter(group.kind)
        several = kinds["compiled"] + kinds["by Pyro"]
        fast = group[group.kind == "compiled"]
        rows.append(
            {
                "file": file,
                "tests": len(group),
                "different": int((group["result"] == "different").sum()),
                "no step": kinds["no step"],
                "one step": kinds["one step"],
                "several": several,
                "compiled": kinds["compiled"],
                "times as fast": round(float((fast["pyro ms"] / fast["ours ms"]).median()), 2),
            }
        )
    return pd.DataFrame(rows)
