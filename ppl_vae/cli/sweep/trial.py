"""One job of a sweep: a pair trained, and what it came to."""

from __future__ import annotations

from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import torch

from ppl_vae.cli import training
from ppl_vae.cli.jobs import TOY_OBSERVATIONS, takes_data
from ppl_vae.cli.sweep.grid import Trial
from ppl_vae.diagnostics import log_evidence
from ppl_vae.inference import History, load_pair
from ppl_vae.sweeping.folder import RUNS
from ppl_vae.sweeping.summary import DONE, FAILED

RESULTS = ("status", "log_evidence", "test_elbo", "train_elbo", "epochs_run", "seconds", "error")


@dataclass(frozen=True)
class Task:
    """A job and where it is run.

    Attributes:
        trial: what is done.
        folder: of the sweep.
        num_threads: of torch, or None for as many as it would take.
        anew: whether a run that is in its folder is replaced, not gone on with.
    """

    trial: Trial
    folder: Path
    num_threads: int | None
    anew: bool = False


def run(task: Task) -> dict[str, Any]:
    """Return the row of a job: its results, or the error with which it failed.

    A run that was stopped goes on from its checkpoint.
    """
    if task.num_threads is not None:
        torch.set_num_threads(task.num_threads)
    try:
        row = {"status": DONE, **_results(task)}
    except Exception as error:  # whatever it is, the other jobs go on
        row = failed(error)
    return task.trial.settings | row


def failed(error: BaseException) -> dict[str, Any]:
    """Return the part of a row that says with which error a job failed."""
    return {"status": FAILED, "error": f"{type(error).__name__}: {error}"}


def _results(task: Task) -> dict[str, Any]:
    folder = task.folder / RUNS / task.trial.key
    options = replace(task.trial.options, out=str(folder))
    is_there = (folder / "config.json").exists()
    history = training.run(
        options,
        resume=is_there and not task.anew,
        overwrite=is_there and task.anew,
        progress=False,
    )
    seconds = round(sum(history.seconds), 3)  # of those before a stop too
    found: dict[str, Any] = {"epochs_run": len(history), "seconds": seconds}
    for name in ("test_elbo", "train_elbo"):
        if getattr(history, name):
            found[name] = getattr(history, name)[_shown(history, options.keep)]
    if task.trial.evidence_samples:
        try:
            found["log_evidence"] = _log_evidence(task.trial, folder)
        except NotImplementedError as error:  # the training is no worse for it
            found["error"] = f"no evidence: {error}"
    return found


def _shown(history: History, keep: str) -> int:
    """Return the index of the epoch whose parameters the run's folder holds."""
    best = history.best_epoch
    return -1 if keep != "best" or best is None else best - 1


def _log_evidence(trial: Trial, folder: Path) -> float:
    """Return the mean over the test data, or over those that a toy made.

    Every job has the same test data, binarised alike.
    """
    pair = load_pair(folder)
    job = replace(training.job_of(trial.options), seed=0)
    examples: Any
    if takes_data(pair):
        examples = job.part("test", pair)
    else:
        examples = pair.sample(TOY_OBSERVATIONS, seed=trial.options.seed)
    found = log_evidence(
        pair, examples, num_samples=trial.evidence_samples, seed=job.seed, device=job.device
    )
    return found.average.mean
