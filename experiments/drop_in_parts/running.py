"""Pyro's tests and example scripts in processes of their own, with either class."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from drop_in_parts import stand_ins
from drop_in_parts.comparing import MISSING, compared
from drop_in_parts.examples import NOT_RUN, WITH_SVI

HERE = Path(__file__).parent.parent
# Of one example, in seconds.
LONGEST = 900


def of_tests(
    folder: Path, file: str, backend: str, select: str, jobs: int, steps: int
) -> list[dict[str, Any]]:
    """Return a row for each test of a file, run with Pyro's class and with ours.

    What differs is run with either class once more, with Pyro's estimators in the place of those
    under torch.jit, which may draw two noises of one step in another order. A test ends when one
    of its objects has taken so many steps, unless that is 0.
    """

    def both(*wanted: str, **options: bool) -> dict[str, dict[str, Any]]:
        theirs, ours = (
            run(folder, each, select, jobs, steps, *wanted, **options)
            for each in ("pyro", backend)
        )
        return {
            name: compared(theirs.get(name, MISSING), ours.get(name, MISSING))
            for name in {**theirs, **ours}
        }

    rows = both(file)
    different = [name for name, row in rows.items() if row["result"] == "different"]
    if different:
        plain = both(*different, plain=True)
        for name in different:
            if plain.get(name, rows[name])["result"] == "same":
                rows[name]["result"] = "same without jit"
    return [
        {"file": Path(file).name, "test": name.partition("::")[2], **row}
        for name, row in rows.items()
    ]


def run(
    folder: Path,
    backend: str,
    select: str,
    jobs: int,
    steps: int,
    *wanted: str,
    plain: bool = False,
) -> dict[str, Any]:
    """Run tests, or a file of them, in a process; return what they did, by their names."""
    rows = folder / f"{Path(wanted[0].partition('::')[0]).stem}-{backend}{'-plain' * plain}.jsonl"
    command = [sys.executable, "-m", "pytest", "-q", "-W", "ignore", "-n", str(jobs)]
    command += ["-p", "drop_in_parts.recording", "-p", "no:cacheprovider", "-k", select, *wanted]
    environment = {**surroundings(backend, rows), "DROP_IN_STEPS": str(steps)}
    if plain:
        environment["DROP_IN_PLAIN"] = "1"
    subprocess.run(command, cwd=folder, env=environment, check=False, stdout=subprocess.DEVNULL)
    lines = rows.read_text().splitlines() if rows.exists() else []
    return {row["test"]: row for row in map(json.loads, lines)}


def of_examples(folder: Path, backend: str, only: str) -> Iterator[dict[str, Any]]:
    """Yield a row for each of Pyro's example scripts whose name contains `only`."""
    # Scripts keep what they download in the home folder where they see that nobody looks on.
    stand_ins.write(folder / ".data")
    for place in ("data", "vae/data"):
        (folder / "examples" / place).symlink_to(folder / ".data")
    listed = {each.split()[0] for each in WITH_SVI} | NOT_RUN.keys()
    others = {
        str(path.relative_to(folder / "examples")): "unknown to this study"
        for path in (folder / "examples").rglob("*.py")
        if "__main__" in path.read_text()
    }
    reasons = {**{name: why for name, why in others.items() if name not in listed}, **NOT_RUN}
    for command in (each for each in WITH_SVI if only in each):
        expected, found = (run_example(folder, command, each) for each in ("pyro", backend))
        row = {"example": command, **compared(expected, found)}
        print(row["example"], row["result"], row["kind"], row["why"], flush=True)
        yield row
    for name in sorted(name for name in reasons if only in name):
        row = compared(MISSING, MISSING)
        yield {"example": name, **row, "outcome": "", "result": "not run", "why": reasons[name]}


def run_example(folder: Path, command: str, backend: str) -> dict[str, Any]:
    """Run a script in a process; return what it did."""
    rows = folder / "example.json"
    rows.unlink(missing_ok=True)
    script, *arguments = command.split()
    environment = {**surroundings(backend, rows), "HOME": str(folder), "CI": "1"}
    environment["MPLBACKEND"] = "agg"
    with (folder / f"{backend}.log").open("a") as log:
        try:
            subprocess.run(
                [sys.executable, "-W", "ignore", "-m", "drop_in_parts.example"]
                + [str(folder / "examples" / script), *arguments],
                env=environment,
                check=False,
                stdout=log,
                stderr=log,
                timeout=LONGEST,
            )
        except subprocess.TimeoutExpired:
            return {**MISSING, "error": f"more than {LONGEST} s"}
    return json.loads(rows.read_text()) if rows.exists() else MISSING


def surroundings(backend: str, rows: Path) -> dict[str, str]:
    """Return the environment of a process that records what a class does."""
    paths = [str(HERE), os.environ.get("PYTHONPATH", "")]
    return {
        **os.environ,
        "DROP_IN_BACKEND": backend,
        "DROP_IN_ROWS": str(rows),
        "PYTHONPATH": os.pathsep.join(path for path in paths if path),
        "OMP_NUM_THREADS": "1",
    }
