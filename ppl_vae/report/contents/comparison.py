"""A comparison of estimators as sections."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import pandas as pd

from ppl_vae.report.blocks import Cell, Section, Sentences, Table
from ppl_vae.report.charts import ratio_chart, score_chart
from ppl_vae.report.contents.making import texts
from ppl_vae.report.folders import Results
from ppl_vae.report.tables import short_or_summary, whole

_MARKS = {"no bias seen": ("✓", "good"), "biased": ("✗", "bad"), "not tested": ("–", "open")}  # noqa: RUF001
_Z_LIMIT = 4.5
_SCORES = ["bias_z_score", "gradient_bias_z_score"]


def comparison_sections(results: Results, found: dict[str, Any]) -> list[Section]:
    """Return pictures, tables, variances and sites of a comparison.

    Args:
        results: that hold it.
        found: what ``comparison.json`` holds.
    """
    path = results.find("comparison.csv")
    numbers = None if path is None else results.read(path)
    work = results.table("work.csv")
    key: list[object] = [*_work_charts(work), *_score_chart(numbers)]
    tables: list[object] = list(printed_tables(found, results))
    if not tables and numbers is not None and path is not None:
        tables += short_or_summary(numbers, "What was measured", results.link(path))
    tables += [Sentences(notes)] if (notes := texts(found, "notes")) else []
    sites = results.table("sites.csv")
    ledger = [] if sites is None else [whole(sites, "How each estimator treats each site")]
    return [
        Section("At a glance", key),
        Section("What was measured", tables),
        Section("Gradient variances", [*results.drawn("comparison")]),
        Section("Sites", [*ledger]),
    ]


def printed_tables(found: Mapping[str, Any], results: Results) -> list[Table]:
    """Return the tables that a result saved as it prints them, the first with its marks."""
    marks = found.get("marks")
    shown: list[Table] = []
    entries: Any = found.get("tables") or []
    for entry in entries if isinstance(entries, list) else [entries]:
        try:
            header = [str(name) for name in entry["header"]]
            rows = [[Cell.of(str(text)) for text in line] for line in entry["rows"]]
            caption = str(entry["caption"])
        except (TypeError, KeyError):
            results.problems.append("A table of the results is damaged, and left out.")
            continue
        if any(len(line) != len(header) for line in rows):
            results.problems.append(f"The table {caption!r} is damaged, and left out.")
            continue
        if isinstance(marks, dict) and not shown:
            header.append("verdict")
            for line in rows:
                word = str(marks.get(line[0].text, "not tested"))
                sign, mark = _MARKS.get(word, ("", ""))
                line.append(Cell(f"{sign} {word}".strip(), mark=mark))
        shown.append(Table(caption, header, rows))
    return shown


def _work_charts(work: pd.DataFrame | None) -> list[object]:
    columns = ["estimator", "ratio", "low", "high"]
    if work is None or not {*columns, "group"} <= {*work.columns}:
        return []
    charts: list[object] = []
    for group, part in work.groupby("group", sort=False):
        rows = list(part[columns].itertuples(index=False, name=None))
        try:
            rows = [(str(n), float(r), float(a), float(b)) for n, r, a, b in rows]
        except ValueError:
            continue
        rows = [row for row in rows if all(value > 0 for value in row[1:])]
        if not rows:
            continue
        where = "" if group == "overall" else f", {group}"
        told = "; ".join(f"{name} {ratio:.3g}" for name, ratio, _, _ in rows)
        charts.append(
            ratio_chart(
                rows,
                caption=f"Gradient variance x time over the least{where}; 95% intervals",
                alt=f"Dots with intervals, times the least{where}: {told}.",
                x_label="times the least",
            )
        )
    return charts


def _score_chart(numbers: pd.DataFrame | None) -> list[object]:
    if numbers is None or not {"estimator", *_SCORES} <= {*numbers.columns}:
        return []
    scores = numbers[_SCORES].apply(pd.to_numeric, errors="coerce")
    names = numbers["estimator"].astype(str)
    rows = [(name, list(map(float, s))) for name, s in zip(names, scores.to_numpy(), strict=True)]
    beyond = [name for name, s in rows if any(abs(each) > _Z_LIMIT for each in s)]
    told = f"beyond it lie {', '.join(beyond)}" if beyond else "none lies beyond it"
    return [
        score_chart(
            rows,
            limit=_Z_LIMIT,
            legend=("value", "gradient"),
            caption="Bias of value and gradient; beyond a dashed line it is called one",
            alt=f"Dots of each estimator's bias around 0, with a limit at {_Z_LIMIT}: {told}.",
            x_label="standard errors",
        )
    ]
