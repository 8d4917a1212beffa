"""The page: sections in order, laid out by a template, in one file."""

from __future__ import annotations

from importlib import resources
from pathlib import Path

from jinja2 import Environment, FunctionLoader, StrictUndefined

from ppl_vae import checks
from ppl_vae.report.blocks import numbered
from ppl_vae.report.contents.side_by_side import side_by_side
from ppl_vae.report.contents.subject import Subject, subject
from ppl_vae.report.folders import Results, results_in

NAME = "report.html"


def write_report(*folders: str | Path, out: str | Path | None = None) -> Path:
    """Write one self-contained page from the results in a folder, or in several side by side.

    At the top stand what was run on what, the conclusions that the results hold, two pictures and
    the main table; then training, evidence, sites, latents, pictures, configuration, and the
    command that repeats it. Long tables are summarised and linked as CSV. What cannot be read is
    said in a sentence.

    Args:
        *folders: run folders of `fit` or ``ppl-vae train``, those of ``ppl-vae sweep``, what
            `Evaluation.save` or `ElboComparison.save` filled, or folders of such.
        out: the page; ``report.html`` in the folder if None, or here if there are several.

    Returns:
        The page's path.

    Raises:
        FileNotFoundError: there is no such folder, or nothing in one that a page could show.
        TypeError: no folder is named.
        PermissionError: the page cannot be written.
    """
    if not folders:
        raise checks.type_error("a folder of results", "none", "Name one or more folders.")
    paths = [Path(folder) for folder in folders]
    page = Path(out) if out is not None else (paths[0] if len(paths) == 1 else Path()) / NAME
    found: list[Results] = []
    for path in paths:
        inside = results_in(path, page.parent) if path.is_dir() else []
        if not inside:
            raise FileNotFoundError(
                checks.message(
                    f"a folder with tables or pictures, {path}",
                    "one without" if path.is_dir() else "no folder",
                    "Name the folder that `ppl-vae train --out`, `evaluate`, `sweep` or "
                    "`compare --out` wrote.",
                )
            )
        found += inside
    _tell_apart(found)
    subjects = [subject(results) for results in found]
    try:
        page.parent.mkdir(parents=True, exist_ok=True)
        page.write_text(_rendered(subjects), encoding="utf-8")
    except OSError as error:
        raise PermissionError(
            checks.message(
                f"a page that can be written, {page}",
                f"one that cannot ({error.strerror})",
                "Choose another file.",
            )
        ) from None
    return page


def _tell_apart(found: list[Results]) -> None:
    """Name results of one name by the folders above them too."""
    names = [results.name for results in found]
    for results in found:
        if names.count(results.name) > 1:
            path = results.folder.resolve()
            results.name = f"{path.parent.name}/{path.name}"
    names = [results.name for results in found]
    for number, results in enumerate(found, 1):
        if names.count(results.name) > 1:
            results.name = f"{results.name} ({number})"


def _rendered(subjects: list[Subject]) -> str:
    together = numbered(side_by_side(subjects), "together")
    for number, each in enumerate(subjects, 1):
        each.sections = numbered(each.sections, f"part-{number}")
    title = subjects[0].title if len(subjects) == 1 else _title_of(subjects)
    environment = Environment(
        autoescape=True,
        loader=FunctionLoader(_own_text),
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    template = environment.get_template("page.html.j2")
    return template.render(
        title=title, together=together, subjects=subjects, alone=len(subjects) == 1
    )


def _title_of(subjects: list[Subject]) -> str:
    if all(each.is_comparison for each in subjects):
        return f"ELBO estimators on {len(subjects)} pairs"
    return f"{len(subjects)} results side by side"


def _own_text(name: str) -> str:
    return resources.files("ppl_vae.report").joinpath(name).read_text(encoding="utf-8")
