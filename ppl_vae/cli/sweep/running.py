"""A sweep from its file to its table."""

from __future__ import annotations

import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from joblib import cpu_count

from ppl_vae import checks, devices
from ppl_vae.cli.sweep import trial
from ppl_vae.cli.sweep.grid import Trial, read_trials
from ppl_vae.inference.monitoring.progress import counter
from ppl_vae.inference.saving.files import write_text
from ppl_vae.inference.saving.interruption import run_scope
from ppl_vae.sweeping.engines import outcomes, require_installed
from ppl_vae.sweeping.folder import SweepFolder
from ppl_vae.sweeping.summary import DONE, FAILED, MEASURES, Summary


@run_scope()
def run_sweep(
    file: Path,
    out: Path,
    backend: str,
    *,
    num_workers: int | None,
    device: str | None,
    retry_failed: bool,
) -> tuple[Summary, str]:
    """Do the jobs of a sweep's file that are missing in a folder, and write what all come to.

    Args:
        file: the sweep's.
        out: folder of its rows and runs.
        backend: where jobs run.
        num_workers: jobs at a time; None for one a core, or one for a GPU.
        device: in place of the file's.
        retry_failed: whether jobs that failed are done again, from their beginning.

    Returns:
        What the jobs come to, and the device they ran on.
    """
    require_installed(backend)
    trials = read_trials(file, device)
    num_workers = _num_workers(num_workers, trials, backend)
    columns = list(dict.fromkeys(name for each in trials.values() for name in each.settings))
    settings = {key: each.settings for key, each in trials.items()}
    folder = SweepFolder(out, settings, [*columns, *trial.RESULTS])
    write_text(out / "sweep.toml", file.read_text(encoding="utf-8"))
    again = [key for key, row in folder.rows.items() if row["status"] == FAILED]
    again = again if retry_failed else []
    num_threads = None if "OMP_NUM_THREADS" in os.environ else max(1, cpu_count() // num_workers)
    tasks = {
        key: trial.Task(each, out.resolve(), num_threads, anew=key in again)
        for key, each in trials.items()
        if key not in folder.rows or key in again
    }
    done = len(trials) - len(tasks)
    with counter("sweep", len(trials), "jobs") as show:
        show(done)
        for key, outcome in outcomes(backend, num_workers, trial.run, tasks):
            died = isinstance(outcome, BaseException)
            row = trials[key].settings | trial.failed(outcome) if died else outcome
            folder.append(key, row)
            done += 1
            show(done, _told(row))
    summary = Summary(
        [{n: v for n, v in each.items() if n != "seed"} for each in settings.values()],
        [folder.rows[key] for key in trials],
    )
    told = {"title": f"Sweep {file.stem}", "lead": _lead(trials), **summary.save(out)}
    folder.write_plan({"jobs": settings, **told})
    return summary, str(devices.resolve(next(iter(trials.values())).options.device))


def _num_workers(given: int | None, trials: Mapping[str, Trial], backend: str) -> int:
    if given is not None:
        return checks.count("--workers", given)
    found = {devices.resolve(each.options.device).type for each in trials.values()}
    # Ray gives each job a GPU of its own; others would share the first one.
    most = 1 if "cuda" in found and backend != "ray" else cpu_count()
    return max(1, min(most, len(trials)))


def _told(row: Mapping[str, Any]) -> str:
    words = ", ".join(str(row[name]) for name in ("pair", "elbo") if row[name])
    words = f"{words}, seed {row['seed']}"
    if row["status"] != DONE:
        return f"{words}: {' '.join(row['error'].split())[:100]}"
    first = next(name for name in MEASURES if name in row)
    return f"{words}: {MEASURES[first]} {row[first]:.2f} ({row['seconds']:.1f} s)"


def _lead(trials: Mapping[str, Trial]) -> str:
    """Return what was run on what, a sentence or two."""
    all_trials = list(trials.values())
    pairs = ", ".join(dict.fromkeys(each.options.pair for each in all_trials))
    data = ", ".join(dict.fromkeys(each.settings["data"] for each in all_trials))
    seeds = len({each.options.seed for each in all_trials})
    samples = all_trials[0].evidence_samples
    lead = f"{len(trials)} jobs with {seeds} seeds: {pairs} on {data}."
    if samples:
        lead += f" Evidence of the test data by {samples} importance weights an example."
    return lead
