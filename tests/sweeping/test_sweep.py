"""Sweeps as a user runs them, in processes of their own."""

import os
import signal
import subprocess
import sys
import threading
import time

import pandas as pd
import pytest
import torch
from typer.testing import CliRunner

from ppl_vae.cli import app
from ppl_vae.cli.sweep import running
from ppl_vae.sweeping.engines import outcomes

TOY = """
pairs = ["exponential-normal"]
elbos = ["trace", "leave-one-out"]
seeds = [0, 1]
epochs = 2
particles = 1
evidence_samples = 10
"""
RESULTS = ["key", "elbo", "seed", "status", "log_evidence", "train_elbo", "epochs_run", "error"]


@pytest.fixture
def sweep(tmp_path):
    torch.set_default_dtype(torch.float32)  # as in the processes of the jobs

    def run(text, *words):
        (tmp_path / "a.toml").write_text(text)
        words = ["sweep", tmp_path / "a.toml", "--device", "cpu", "--workers", 1, *words]
        return CliRunner().invoke(app, list(map(str, words)))

    return run


@pytest.mark.parametrize("backend", ["loky", "ray", "dask"])
def test_every_backend_gives_the_same_rows(sweep, tmp_path, monkeypatch, backend):
    # By default Ray's processes come after all others of a busy machine.
    monkeypatch.setenv("RAY_worker_niceness", "0")
    pytest.importorskip({"loky": "joblib", "dask": "distributed"}.get(backend, backend))
    result = sweep(TOY, "--backend", backend)
    assert result.exit_code == 0, result.output
    table = pd.read_csv(tmp_path / "a" / "sweep.csv")[RESULTS].sort_values(["elbo", "seed"])
    done = table[table.elbo == "trace"]
    assert done.status.tolist() == ["done", "done"]
    assert done.epochs_run.tolist() == [2, 2]
    # What `ppl-vae train` comes to with the same options.
    words = "train exponential-normal --elbo trace --particles 1 --epochs 2 --seed 1 --device cpu"
    assert CliRunner().invoke(app, [*words.split(), "--out", str(tmp_path / "b")]).exit_code == 0
    alone = pd.read_csv(tmp_path / "b" / "metrics.csv").train_elbo.iloc[-1]
    assert done.train_elbo.iloc[1] == alone
    failed = table[table.elbo == "leave-one-out"]
    assert failed.status.tolist() == ["failed", "failed"]
    assert failed.error.str.startswith("ValueError: expected num_particles of at least 2").all()
    page = (tmp_path / "a" / "report.html").read_text()
    for text in (
        "trace has the greatest mean log p(x)",
        "2 of 4 jobs failed",
        "Sweep a",
        "--workers 1",
    ):
        assert text in page
        assert text in result.output or text.startswith(("Sweep", "--"))
    assert page.count("<h1>") == 1
    assert "Configuration of the training" not in page  # the runs are not shown one by one


def test_a_killed_sweep_does_only_what_is_missing(sweep, tmp_path):
    text = """
    pairs = [{name = "bernoulli-vae", latent_dim = 2, hidden = [8]}]
    seeds = [0, 1]
    epochs = 30
    evidence_samples = 0
    """
    (tmp_path / "a.toml").write_text(text)
    table, runs = tmp_path / "a" / "sweep.csv", tmp_path / "a" / "runs"
    command = [sys.executable, "-m", "ppl_vae", "sweep", str(tmp_path / "a.toml")]
    process = subprocess.Popen([*command, "--workers", "1", "--device", "cpu"])
    try:
        _wait(lambda: table.exists() and table.read_text().count("\n") == 2)
        (first,) = runs.iterdir()
        _wait(lambda: len([*runs.glob("*/metrics.csv")]) == 2)
    finally:
        process.kill()
        process.wait()
    row = table.read_text().splitlines()[1]
    (second,) = set(runs.iterdir()) - {first}
    _wait(lambda: not _is_locked(second))  # its process ends with its parent
    written = (first / "metrics.csv").stat().st_mtime_ns
    before = (second / "metrics.csv").read_text().splitlines()
    assert 2 <= len(before) < 31
    result = sweep(text)
    assert result.exit_code == 0, result.output
    assert table.read_text().splitlines()[1] == row
    assert (first / "metrics.csv").stat().st_mtime_ns == written
    after = (second / "metrics.csv").read_text().splitlines()
    assert len(after) == 31
    assert after[: len(before)] == before  # the seconds of each epoch too
    found = pd.read_csv(table).set_index("key")
    assert found.status.tolist() == ["done", "done"]
    took = pd.read_csv(second / "metrics.csv").seconds.sum()
    assert found.seconds[second.name] == pytest.approx(took, rel=1e-3)  # before it was killed too


def test_an_interrupted_sweep_says_what_is_kept(sweep, tmp_path):
    table = tmp_path / "a" / "sweep.csv"

    def interrupt():
        _wait(table.exists)
        os.kill(os.getpid(), signal.SIGINT)

    thread = threading.Thread(target=interrupt)
    thread.start()
    result = sweep('pairs = ["bernoulli-vae"]\nepochs = 10000\n')
    thread.join()
    assert result.exit_code == 130
    assert result.output.endswith(
        f"ppl-vae: stopped by SIGINT: 0 of 1 jobs are in {table}; the same command goes on with "
        "the others.\n"
    )


def test_failed_jobs_are_done_again_if_that_is_asked(sweep, tmp_path, monkeypatch):
    here = lambda backend, workers, work, jobs: ((key, work(job)) for key, job in jobs.items())  # noqa: E731
    monkeypatch.setattr(running, "outcomes", here)
    text = 'pairs = ["exponential-normal"]\nelbos = "leave-one-out"\nparticles = 1\n'
    table = tmp_path / "a" / "sweep.csv"
    result = sweep(text)
    assert result.exit_code == 1
    assert "every job failed, the first by ValueError: expected" in result.output
    for words, count in (([], 2), (["--retry-failed"], 3)):
        sweep(text, *words)
        assert len(table.read_text().splitlines()) == count


def test_a_process_that_dies_ends_its_own_job_only():
    jobs = {"dies": signal.SIGKILL, "lives": 0, "lives too": 0}
    found = dict(outcomes("loky", 2, signal.raise_signal, jobs))
    assert "SIGKILL" in str(found.pop("dies"))
    assert found == {"lives": None, "lives too": None}


def _wait(holds, seconds=200):
    end = time.monotonic() + seconds
    while not holds():
        assert time.monotonic() < end
        time.sleep(0.05)


def _is_locked(folder):
    from filelock import FileLock, Timeout

    try:
        with FileLock(folder / ".lock", timeout=0):
            return False
    except Timeout:
        return True
