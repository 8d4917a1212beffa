"""Which results lie in a folder, and what has to be said of its files."""

from __future__ import annotations

import os
from collections.abc import Iterable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any
from urllib.parse import quote

import pandas as pd

from ppl_vae.report.blocks import Picture
from ppl_vae.report.captions import described
from ppl_vae.report.files import Unreadable, read_object, read_picture, read_table

COMPARISON = ("comparison.json", "comparison.csv")
SWEEP = "sweep.json"
RUN = ("config.json", "metrics.csv", "evaluation.json")
SHOWN = {".csv", ".png", ".json", ".toml"}
_MACHINERY = ("checkpoint", "pair.json", "report.")


@dataclass
class Results:
    """The files of one run, one comparison or one sweep; each is taken once.

    Attributes:
        folder: where they lie.
        page: the folder that the page will be in, from which links lead.
        files: relative paths that are left to show.
        problems: what has to be said of files that cannot be shown.
    """

    folder: Path
    page: Path
    files: list[Path]
    problems: list[str] = field(default_factory=list)
    name: str = ""

    def __post_init__(self) -> None:
        self.name = self.name or self.folder.resolve().name

    @property
    def is_comparison(self) -> bool:
        """Whether estimators were compared."""
        return any((self.folder / name).exists() for name in COMPARISON)

    @property
    def is_sweep(self) -> bool:
        """Whether many runs were made by one command."""
        return (self.folder / SWEEP).exists()

    def find(self, *names: str) -> Path | None:
        """Return the first file of such a name, nearest to the folder, and take it."""
        for name in names:
            found = [path for path in self.files if path.name == name]
            if found:
                path = min(found, key=lambda p: len(p.parts))
                self.files.remove(path)
                return self.folder / path
        return None

    def table(self, *names: str) -> pd.DataFrame | None:
        """Take a CSV; None if there is none that can be read."""
        path = self.find(*names)
        return None if path is None else self.read(path)

    def read(self, path: Path) -> pd.DataFrame | None:
        """Return the table in a file; None, and a problem, if it holds none."""
        try:
            table, remark = read_table(path)
        except Unreadable as error:
            self.problems.append(str(error))
            return None
        self.problems += [remark] if remark else []
        return None if table.empty else table

    def object(self, *names: str) -> dict[str, Any]:
        """Take a JSON file; empty if there is none that can be read."""
        path = self.find(*names)
        if path is None:
            return {}
        try:
            return read_object(path)
        except Unreadable as error:
            self.problems.append(str(error))
            return {}

    def picture(self, path: Path, caption: str, alt: str) -> list[Picture]:
        """Return the picture in a file, if it can be shown."""
        try:
            source, width, height = read_picture(path)
        except Unreadable as error:
            self.problems.append(str(error))
            return []
        return [Picture(source, alt, caption, width, height)]

    def link(self, path: Path) -> str:
        """Return a file's address as the page sees it."""
        relative = os.path.relpath(path.resolve(), self.page.resolve())
        return quote(Path(relative).as_posix())

    def drawn(self, *stems: str) -> list[Picture]:
        """Take the pictures of such names, an evaluation's rather than its run's."""
        found = []
        for stem in stems:
            paths = [p for p in self.files if p.suffix == ".png" and _is_of(stem, p)]
            deepest = {path.name: path for path in sorted(paths, key=lambda p: len(p.parts))}
            self.files = [path for path in self.files if path not in paths]
            for path in deepest.values():
                found += self.picture(self.folder / path, *described(path))
        return found

    def rest(self, suffix: str, part: str = "") -> Iterable[Path]:
        """Take all files of a kind that are left, whose path contains `part`."""
        found = [p for p in self.files if p.suffix == suffix and part in p.as_posix().lower()]
        self.files = [path for path in self.files if path not in found]
        return [self.folder / path for path in found]


def results_in(folder: Path, page: Path) -> list[Results]:
    """Return the comparisons, runs and sweeps in a folder, or all of its files as one.

    A run's evaluation belongs to the run. The runs of a sweep are shown as its rows only.

    Args:
        folder: that a command wrote.
        page: the folder that the page will be in.
    """
    files = sorted(path.relative_to(folder) for path in folder.rglob("*") if _is_shown(path))
    marked = {path.parent for path in files if path.name in (*COMPARISON, *RUN, SWEEP)}
    tops = sorted(p for p in marked if not any(q in p.parents for q in marked))
    found = []
    for top in tops or [Path()]:
        inside = [p.relative_to(top) for p in files if p.is_relative_to(top)]
        if top / SWEEP in files:
            inside = [p for p in inside if p.parts[0] != "runs"]
        if inside:
            found.append(Results(folder / top, page, inside))
    return found


def _is_shown(path: Path) -> bool:
    hidden = path.name.startswith((".", *_MACHINERY))
    return path.suffix in SHOWN and path.is_file() and not hidden


def _is_of(stem: str, path: Path) -> bool:
    """Return whether a picture has a name, or that of a latent after it."""
    return path.stem == stem or path.stem.startswith(f"{stem}_") and stem == "latent_scatter"
