"""A sweep as sections: its picture, its means over seeds, its jobs."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

from ppl_vae.report.blocks import Section
from ppl_vae.report.contents.comparison import printed_tables
from ppl_vae.report.folders import Results
from ppl_vae.report.tables import short_or_summary


def sweep_sections(results: Results, found: dict[str, Any]) -> list[Section]:
    """Return picture, means and jobs of a sweep.

    Args:
        results: that hold it.
        found: what ``sweep.json`` holds.
    """
    tables = printed_tables(found, results)
    means = results.find("summary.csv")
    if tables and means is not None:
        tables[0] = replace(tables[0], link=results.link(means))
    jobs: list[object] = []
    path = results.find("sweep.csv")
    rows = None if path is None else results.read(path)
    if rows is not None and path is not None:
        jobs += short_or_summary(
            rows, "A row a job, in the order in which they ended", results.link(path)
        )
    return [
        Section("At a glance", [*results.drawn("sweep")]),
        Section("What was measured", [*tables]),
        Section("Jobs", jobs),
    ]


def sweep_lead(found: dict[str, Any]) -> str:
    """Return what was run on what."""
    if "lead" in found:
        return str(found["lead"])
    return "A sweep that has not ended; its command goes on with it."
