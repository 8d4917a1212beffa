"""The folder of a sweep: a row of every job that has ended, appended as it ends."""

from __future__ import annotations

import csv
import io
import json
import os
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from ppl_vae import checks
from ppl_vae.inference.saving.files import (
    damaged_json,
    explained,
    read_json,
    write_json,
    write_text,
)
from ppl_vae.inference.saving.interruption import finishing_steps, hold, locked
from ppl_vae.inference.saving.run_folder import make_writable

TABLE, PLAN, RUNS = "sweep.csv", "sweep.json", "runs"


class SweepFolder:
    """Holds sweep.json, the jobs by key with their settings, and sweep.csv, a row a job.

    To be made within a `run_scope`, as a run's folder is.

    Args:
        path: the folder; it is made if it is not there.
        jobs: by key, the settings of each.
        columns: of the table, besides the first, ``key``.

    Raises:
        BlockingIOError: another sweep goes on in the folder.
        FileExistsError: the folder holds a sweep with jobs that are not among `jobs`.
        PermissionError: the folder cannot be written.
        ValueError: sweep.json or sweep.csv is damaged.
    """

    def __init__(
        self, path: Path, jobs: Mapping[str, Mapping[str, Any]], columns: Sequence[str]
    ) -> None:
        self.path = path
        plan = path / PLAN
        there = _planned(plan) if plan.exists() else {}
        others = [key for key in there if key not in jobs]
        if others:
            raise FileExistsError(
                checks.message(
                    f"a folder without a sweep, or with a part of this one, {path}",
                    f"one with {len(others)} jobs that this sweep has not, such as "
                    f"{_inline(there[others[0]])}",
                    "Choose another --out, or put their values back into the file.",
                )
            )
        make_writable(path)
        hold(locked(path))
        self._columns = ["key", *columns]
        self.rows = {key: row for key, row in _rows(path / TABLE).items() if key in jobs}
        with explained(path, "No job was run."):
            self.write_plan({"jobs": jobs})
            lines = [self._columns, *(self._cells(row) for row in self.rows.values())]
            write_text(path / TABLE, "".join(map(_line, lines)))
        hold(finishing_steps(lambda: self._kept(len(jobs))))

    def append(self, key: str, row: Mapping[str, Any]) -> None:
        """Add the row of a job, so that a power cut does not undo it; a later row replaces it."""
        self.rows[key] = {"key": key} | {name: _cell(value) for name, value in row.items()}
        with (
            explained(self.path, f"{TABLE} holds the jobs before it."),
            (self.path / TABLE).open("a", newline="", encoding="utf-8") as file,
        ):
            file.write(_line(self._cells(self.rows[key])))
            file.flush()
            os.fsync(file.fileno())

    def write_plan(self, content: Mapping[str, Any]) -> None:
        """Replace sweep.json by the jobs, and what they came to once that is known."""
        write_json(self.path / PLAN, content)

    def _kept(self, count: int) -> str:
        return (
            f"{len(self.rows)} of {count} jobs are in {self.path / TABLE}; the same command goes "
            "on with the others."
        )

    def _cells(self, row: Mapping[str, Any]) -> list[Any]:
        return [row.get(name) for name in self._columns]


def _planned(path: Path) -> dict[str, dict[str, Any]]:
    jobs = read_json(path).get("jobs", {})
    if not isinstance(jobs, dict) or not all(isinstance(job, dict) for job in jobs.values()):
        raise damaged_json(path, "jobs without settings by name")
    return jobs


def _rows(path: Path) -> dict[str, dict[str, str]]:
    """Return the last whole row of each key; a line that was cut off is none."""
    if not path.exists():
        return {}
    whole = path.read_text(encoding="utf-8", errors="replace").rpartition("\n")[0]
    found = csv.DictReader(io.StringIO(whole))
    if whole and not {"key", "status"} <= set(found.fieldnames or ()):
        raise checks.value_error(
            f"a table with the columns key and status in {path}",
            f"one that begins with {whole.partition(chr(10))[0][:60]!r}",
            "Restore the file as it was written, or move it away to do all jobs again.",
        )
    return {row["key"]: row for row in found if None not in row.values()}


def _line(cells: Sequence[Any]) -> str:
    written = io.StringIO()
    csv.writer(written, lineterminator="\n").writerow(map(_cell, cells))
    return written.getvalue()


def _cell(value: Any) -> Any:  # noqa: ANN401
    if isinstance(value, (dict, list)):
        return json.dumps(value)
    return " ".join(value.split()) if isinstance(value, str) else value


def _inline(settings: Mapping[str, Any]) -> str:
    return ", ".join(f"{name} {value}" for name, value in settings.items() if value is not None)
