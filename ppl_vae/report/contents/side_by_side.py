"""Several runs beside each other: a table, curves in one picture, and which explains more."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

from ppl_vae.report.blocks import Cell, Section, Sentences, Table
from ppl_vae.report.charts import line_chart
from ppl_vae.report.contents.run import Run
from ppl_vae.report.contents.subject import Subject
from ppl_vae.report.tables import numbers

NORMAL_95 = 1.959964
_SAME = ("data", "split", "binarize", "num_examples", "estimator", "num_samples")


def side_by_side(subjects: Sequence[Subject]) -> list[Section]:
    """Return what sets several runs beside each other; nothing for fewer than two."""
    runs = [each.run for each in subjects if each.run is not None]
    if len(runs) < 2:
        return []
    curves = {}
    for run in runs:
        for which in ("test", "train"):
            elbo = run.elbo(which)
            if len(elbo):
                # The space keeps a run of the name "test" from being dashed.
                curves[f"{run.name} "] = elbo.index, elbo
                break
    chart = line_chart(
        curves,
        x_label="epoch",
        y_label="ELBO per example (nats)",
        caption="ELBO per example by epoch, of the test data where there are some",
    )
    return [
        Section("Which run explains more", [Sentences(verdicts(runs), "verdict")]),
        Section("Side by side", [_table(runs), *([chart] if chart else [])]),
    ]


def verdicts(runs: Sequence[Run]) -> list[str]:
    """Return which run has the largest mean evidence, as far as paired intervals say.

    Evidences are compared example by example, and only where data and protocol are the same.
    """
    known = [run for run in runs if _mean(run) is not None]
    if len(known) < 2:
        return ["Fewer than two of these runs were evaluated, so that none is ranked."]
    missing = [run.name for run in runs if run not in known]
    left = [f"Not evaluated, and not ranked: {', '.join(missing)}."] if missing else []
    differing = [key for key in _SAME if len({str(run.evaluation.get(key)) for run in known}) > 1]
    if differing:
        words = ", ".join(key.replace("_", " ") for key in differing)
        return [f"These evaluations differ in {words}, so that the runs are not ranked.", *left]
    best = max(known, key=lambda run: _mean(run) or -math.inf)
    others = [run for run in known if run is not best]
    compared = [(run, *_difference(best, run)) for run in others]
    apart = [(run, mean, half) for run, mean, half in compared if mean - half > 0]
    near = [run.name for run, mean, half in compared if not mean - half > 0]
    lines = []
    if near:
        lines.append(
            f"No difference in mean evidence beyond the intervals between {best.name} and "
            f"{', '.join(near)}."
        )
    for run, mean, half in apart:
        lines.append(
            f"{best.name} has more evidence than {run.name}, by {mean:.3g} nats an example "
            f"(95% interval {mean - half:.3g} to {mean + half:.3g}, paired)."
        )
    return lines + left


def _mean(run: Run) -> float | None:
    if run.examples is None or "log_evidence" not in run.examples:
        return None
    mean = float(numbers(run.examples, "log_evidence").mean(skipna=False))
    return mean if math.isfinite(mean) else None


def _difference(first: Run, second: Run) -> tuple[float, float]:
    """Return the mean paired difference and half of its interval; endless if it is unknown."""
    if first.examples is None or second.examples is None:
        return 0.0, math.inf
    if len(first.examples) != len(second.examples) or len(first.examples) < 2:
        return 0.0, math.inf
    gap: Any = numbers(first.examples, "log_evidence") - numbers(second.examples, "log_evidence")
    half = NORMAL_95 * float(gap.std()) / math.sqrt(len(gap))
    return float(gap.mean()), half if math.isfinite(half) else math.inf


def _table(runs: Sequence[Run]) -> Table:
    header = ["run", "pair", "data", "estimator", "epochs", "seed", "ELBO", "NLL"]
    header += ["95% interval", "active units"]
    rows = []
    for run in runs:
        elbo = run.elbo("test")
        elbo = elbo if len(elbo) else run.elbo("train")
        low_high = run.evaluation.get("nll_interval_95")
        units = run.evaluation.get("active_units")
        cells = [
            run.pair,
            run.data,
            run.config.get("elbo"),
            run.config.get("num_epochs"),
            run.config.get("seed"),
            f"{elbo.iloc[-1]:.6g}" if len(elbo) else None,
            _number(run.evaluation.get("nll")),
            _interval(low_high),
            sum(units.values()) if isinstance(units, dict) else None,
        ]
        rows.append(
            [Cell(run.name), *(Cell.of("-" if c in (None, "") else str(c)) for c in cells)]
        )
    return Table("Runs; ELBO and NLL in nats an example", header, rows)


def _number(value: object) -> str | None:
    return f"{value:.6g}" if isinstance(value, (int, float)) else None


def _interval(value: object) -> str | None:
    if isinstance(value, list) and len(value) == 2:
        return f"{_number(value[0])} to {_number(value[1])}"
    return None
