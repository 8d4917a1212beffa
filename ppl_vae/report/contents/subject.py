"""The results of one folder as sections in their order."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

from ppl_vae.report.blocks import Section, Sentences
from ppl_vae.report.captions import described
from ppl_vae.report.contents.comparison import comparison_sections
from ppl_vae.report.contents.making import making, texts
from ppl_vae.report.contents.run import Run, run_sections
from ppl_vae.report.contents.sweep import sweep_lead, sweep_sections
from ppl_vae.report.folders import SWEEP, Results
from ppl_vae.report.tables import short_or_summary

MOST_FURTHER = 30


@dataclass
class Subject:
    """One comparison, one run or one sweep.

    Attributes:
        name: of its folder.
        title: what it is of.
        lead: what was run on what, a sentence or two.
        conclusions: what its numbers say.
        problems: files that could not be shown.
        sections: in their order.
        is_comparison: of estimators.
        run: what is set beside other runs; None of a comparison or a sweep.
    """

    name: str
    title: str
    lead: str
    conclusions: Sequence[str]
    sections: list[Section]
    is_comparison: bool
    run: Run | None = None
    problems: list[str] = field(default_factory=list)


def subject(results: Results) -> Subject:
    """Return what a folder holds, in order."""
    if results.is_sweep:
        found = results.object(SWEEP)
        title = str(found.get("title") or results.name)
        lead = sweep_lead(found)
        sections, run = sweep_sections(results, found), None
        conclusions = texts(found, "conclusions")
    elif results.is_comparison:
        found = results.object("comparison.json")
        title = str(found.get("title") or results.name)
        lead = _comparison_lead(found)
        sections, run = comparison_sections(results, found), None
        conclusions = texts(found, "conclusions")
    else:
        run, sections = run_sections(results)
        title, lead, conclusions = run.title, run.lead, run.conclusions
    sections += [_further(results), making(results, {} if run is None else run.config)]
    return Subject(
        results.name,
        title,
        lead,
        conclusions,
        sections,
        results.is_comparison,
        run,
        results.problems,
    )


def _comparison_lead(found: dict[str, Any]) -> str:
    if "num_replicates" not in found:
        return "ELBO estimators side by side."
    marks = found.get("marks")
    count = f"{len(marks)} " if isinstance(marks, dict) else ""
    return (
        f"{count}ELBO estimators, with {found['num_replicates']} gradients of each, "
        f"in {found.get('dtype')} on {found.get('device')}."
    )


def _further(results: Results) -> Section:
    """Return what no other section has taken, at most some of it."""
    section = Section("Further results")
    tables = [*results.rest(".csv")]
    for path in tables[:MOST_FURTHER]:
        table = results.read(path)
        if table is not None:
            words = str(path.relative_to(results.folder).with_suffix("")).replace("_", " ")
            section.blocks += short_or_summary(table, words, results.link(path))
    pictures = [*results.rest(".png")]
    for path in pictures[:MOST_FURTHER]:
        section.blocks += results.picture(path, *described(path))
    left = len(tables[MOST_FURTHER:]) + len(pictures[MOST_FURTHER:])
    if left:
        section.blocks.append(Sentences([f"{left} more files are left out."], "text"))
    return section
