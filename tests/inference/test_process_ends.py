"""How several processes end: by an error, a signal or death of one; and how they go on."""

import functools
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
import torch
from processes import free_port, together
from small_vae import vae, values
from torch import nn

from ppl_vae import BernoulliVAE, fit, load, load_pair
from ppl_vae.cli import main
from ppl_vae.inference import NonFiniteLossError, ProcessFailedError
from ppl_vae.models import ExponentialNormal

DIGITS = load("digits")[:100]
STEPS = 3  # of an epoch
AT = 5  # in the second epoch


@pytest.fixture(autouse=True)
def _no_pictures(monkeypatch):
    monkeypatch.setattr(sys.modules["ppl_vae.inference.fit"], "draw_run", lambda *_: None)


def train(hook=lambda step: None, *, pair=None, data=DIGITS, **options):
    """Return the parameters after three epochs; `hook` is called within every step."""

    class Adam(torch.optim.Adam):
        steps = 0

        def step(self, closure=None):
            Adam.steps += 1
            hook(Adam.steps)
            return super().step(closure)

    pair = vae() if pair is None else pair
    given = {"elbo": "trace", "num_epochs": 3, "batch_size": 40, "compile": False, **options}
    make = functools.partial(Adam, lr=1e-2)
    fit(pair, data, optimizer=make, progress=False, device="cpu", **given)
    return values(pair)


def in_one(rank, act):
    """What calls `act` within a step of one process."""
    return lambda mine: lambda step: act() if (mine, step) == (rank, AT) else None


def by_slurm(rank, size, port):
    names = {"PROCID": rank, "LOCALID": rank, "NTASKS": size, "JOB_ID": port}
    found = {f"SLURM_{name}": str(value) for name, value in names.items()}
    return {**found, "SLURM_JOB_NODELIST": "localhost"}


def fail():
    raise ValueError("this process has no disk")


@pytest.mark.parametrize("rank", [0, 1])
def test_an_error_in_one_ends_all_and_names_its_cause(rank):
    hook = in_one(rank, fail)
    began = time.monotonic()
    found = together(3, lambda mine: train(hook(mine)))
    assert time.monotonic() - began < 30
    for mine, error in enumerate(found):
        kind = ValueError if mine == rank else ProcessFailedError
        assert type(error) is kind
        assert "this process has no disk" in str(error)
    assert str(found[2]) == (
        f"expected 3 processes until the end of training; got process {rank} ended by ValueError: "
        "this process has no disk. What was saved stays; mend the cause, then resume."
    )


def test_death_and_signals_in_one_lose_no_epoch_and_others_resume(tmp_path):
    """Two are killed, three go on and are told to stop, one goes on, four finish."""
    folder = tmp_path / "run"
    whole = train()
    die = in_one(1, lambda: os.kill(os.getpid(), signal.SIGKILL))
    began = time.monotonic()
    found = together(2, lambda mine: train(die(mine), run_dir=folder))
    assert time.monotonic() - began < 30
    assert isinstance(found[0], ProcessFailedError)
    assert "process 1 gone without a word (killed, or out of memory)" in str(found[0])
    assert found[1] == -signal.SIGKILL
    assert len((folder / "metrics.csv").read_text().splitlines()) == 2  # header, and one epoch

    def resumed(mine, *, hook=lambda step: None, **options):
        return train(hook, run_dir=folder, resume=True, **options)

    stop = in_one(2, lambda: signal.raise_signal(signal.SIGTERM))
    found = together(3, lambda mine: resumed(mine, hook=stop(mine)))
    assert found == [143, 143, 143]
    assert len((folder / "metrics.csv").read_text().splitlines()) == 3

    def interrupted(mine):
        try:
            return resumed(mine, hook=in_one(0, lambda: signal.raise_signal(signal.SIGINT))(mine))
        except KeyboardInterrupt as error:
            return str(error)

    # The third epoch has only three steps, so that no fifth one comes.
    found = together(4, interrupted)
    for each in found:
        torch.testing.assert_close(each, whole, rtol=1e-12, atol=1e-12)
    torch.testing.assert_close(values(load_pair(folder)), whole, rtol=1e-12, atol=1e-12)


class Normalised(BernoulliVAE):
    """Examples meet in their batch's mean."""

    def __init__(self):
        super().__init__((1, 8, 8), latent_dim=2, hidden=(4,), seed=0)
        self.norm = nn.BatchNorm2d(1)
        self.double()

    def encode(self, x):
        return super().encode(self.norm(x))


def test_bad_input_is_refused_in_all_with_one_text(tmp_path):
    (tmp_path / "there").mkdir()
    (tmp_path / "there" / "config.json").write_text("{}")

    def text(**options):
        try:
            return train(**options)
        except Exception as error:
            return f"{type(error).__name__}: {error}"

    def work(mine):
        nan = vae()
        if mine == 1:  # parameters are those of the first process
            nn.init.constant_(next(nan.parameters()), torch.nan)
        return {
            "seed": text(seed=mine),
            "data": text(data=load("digits")[mine : 100 + mine]),
            "size": text(pair=vae() if mine == 0 else BernoulliVAE((1, 8, 8), latent_dim=2)),
            "batch": text(batch_size=1),
            "toy": text(pair=ExponentialNormal().double(), data=torch.full((5,), 0.5)),
            "coupled": text(pair=Normalised()),
            "folder": text(run_dir=tmp_path / "there"),
            "first": text(pair=nan),
        }

    first, second = together(2, work)
    torch.testing.assert_close(first.pop("first"), train(), rtol=1e-12, atol=1e-12)
    torch.testing.assert_close(second.pop("first"), train(), rtol=1e-12, atol=1e-12)
    assert first == second
    same = "ValueError: expected the same code, data and settings in every process; got other "
    start = "Start all of them by one command, in one environment."
    assert first["seed"] == f"{same}settings (seed): 0 in process 0, 1 in 1. {start}"
    assert first["data"].startswith(f"{same}training data: ")
    assert first["size"].startswith(f"{same}parameters (encoder.net.0.weight): ")
    examples = (
        "ValueError: expected at least one example of a batch for each of 2 processes; got a "
        "batch of 1. Start fewer processes, or raise batch_size."
    )
    assert first["batch"] == first["toy"] == examples
    assert first["coupled"] == (
        "NotImplementedError: expected a pair and an estimator whose gradient is a sum over the "
        "examples of a batch, to divide it among 2 processes; got those of which the buffer "
        "norm.running_mean changes with every batch. Train in one process; or take what couples "
        "examples (BatchNorm, latents outside of the plate 'data') out of them."
    )
    assert first["folder"].startswith("FileExistsError: expected a run folder without a run")


def test_a_loss_that_is_no_number_names_its_site_in_all():
    def poison(step):
        if step == 4:  # of the second epoch, and only in one process
            with torch.no_grad():
                next(pair.parameters()).fill_(torch.nan)

    pair = vae()

    def work(mine):
        try:
            train(poison if mine == 1 else lambda step: None, pair=pair)
        except NonFiniteLossError as error:
            return str(error)

    first, second = together(2, work)
    assert first == second
    assert first.startswith("the loss became nan at step 2 of epoch 2: site 'z'")


def test_fit_runs_under_slurms_variables():
    first, second = together(2, lambda mine: train(), told=by_slurm)
    torch.testing.assert_close(first, train(), rtol=1e-12, atol=1e-12)
    assert torch.equal(first, second)


SCRIPT = """
import os, signal, sys
import torch
from ppl_vae.inference.fit import fit
from ppl_vae.inference.training import TrainingRun
from ppl_vae.models.exponential_normal import ExponentialNormal
take = TrainingRun._take
def dying(self, epoch, history):
    if epoch == 2 and os.environ["TORCHELASTIC_RESTART_COUNT"] == "0" == os.environ["RANK"]:
        os.kill(os.getpid(), signal.SIGKILL)
    take(self, epoch, history)
TrainingRun._take = dying
x = torch.rand(6, 2, generator=torch.Generator().manual_seed(0))
fit(ExponentialNormal(), x, batch_size=3, num_epochs=3, run_dir=sys.argv[1], device="cpu")
"""


def test_the_command_trains_and_one_process_reports(tmp_path, capfd):
    def work(mine):
        options = ["--epochs", "1", "--out", str(tmp_path / "run")]
        sys.argv = ["ppl-vae", "train", "linear-gaussian", "--data", "digits", *options]
        main()

    assert together(2, work) == [0, 0]
    assert (tmp_path / "run" / "report.html").exists()
    told = capfd.readouterr()
    assert told.out.count("ELBO per example") == 1
    assert told.err.count("epoch 1/1") == 1


def test_torchrun_starts_a_run_again_where_it_was(tmp_path):
    (tmp_path / "train.py").write_text(SCRIPT)
    command = [sys.executable, "-m", "torch.distributed.run", "--nproc-per-node=2"]
    command += ["--max-restarts=1", f"--master-port={free_port()}"]
    done = subprocess.run(
        [*command, tmp_path / "train.py", tmp_path / "run"],
        capture_output=True,
        text=True,
        timeout=250,
        check=False,
        env={**os.environ, "PYTHONPATH": str(Path(__file__).parents[2])},
    )
    assert done.returncode == 0, done.stderr
    lines = [line for line in done.stderr.splitlines() if line.startswith("epoch ")]
    assert [line.split()[1] for line in lines] == ["1/3", "2/3", "3/3"]
