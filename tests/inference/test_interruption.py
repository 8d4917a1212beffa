"""Signals during a run with a folder: in this process, and in real ones that are killed."""

import functools
import os
import random
import signal
import subprocess
import sys
import threading
import time

import pytest
import torch
from parameters import equal, parameters

from ppl_vae import ExponentialNormal, fit, load_pair
from ppl_vae.inference.compilation.stepper import Stepper

NUMBERS = [signal.SIGINT, signal.SIGTERM]


@pytest.fixture(autouse=True)
def _no_pictures(monkeypatch):
    monkeypatch.setattr(sys.modules["ppl_vae.inference.fit"], "draw_run", lambda *_: None)


def train(folder, epochs, *, hook=None, resume=False, compile=False):
    """Return the parameters after epochs of three steps; `hook` is called within every step."""

    class Adam(torch.optim.Adam):
        steps = 0

        def step(self, closure=None):
            Adam.steps += 1
            if hook is not None:
                hook(Adam.steps)
            return super().step(closure)

    pair = ExponentialNormal()
    fit(
        pair,
        torch.tensor([1.2, 0.7, 1.1, 0.3, 0.9, 1.6]).reshape(3, 2),
        elbo="trace",
        optimizer=functools.partial(Adam, lr=0.1),
        num_epochs=epochs,
        batch_size=1,
        run_dir=folder,
        resume=resume,
        progress=False,
        device="cpu",
        compile=compile,
    )
    return parameters(pair)


def send(number, at):
    return lambda step: step in at and signal.raise_signal(number)


def stopped(number, call):
    """Return the message with which a signal ended a call."""
    kind = KeyboardInterrupt if number == signal.SIGINT else SystemExit
    with pytest.raises(kind) as error:
        call()
    if number == signal.SIGTERM:
        assert error.value.code == 143
    return str(error.value)


@pytest.mark.parametrize("number", NUMBERS)
@pytest.mark.parametrize("at", range(1, 10))
def test_the_step_ends_and_resuming_equals_never_stopping(number, at, tmp_path, capfd):
    """Epochs have three steps. With the last of them an epoch is finished, and is saved."""
    whole = train(tmp_path / "whole", 4)
    before = list(map(signal.getsignal, NUMBERS))
    taken = []

    def hook(step):
        taken.append(step)
        send(number, [at])(step)

    folder = tmp_path / "run"
    message = stopped(number, lambda: train(folder, 3, hook=hook))
    assert list(map(signal.getsignal, NUMBERS)) == before
    assert taken == list(range(1, at + 1))
    shown = capfd.readouterr().err
    assert "a second signal ends it at once" in shown
    message = message if number == signal.SIGINT else shown
    assert f"stopped by {number.name}: " in message
    epoch = at // 3
    kept = (
        f"{folder} holds the run after epoch {epoch}, from" if epoch else "No epoch was finished"
    )
    assert kept in message
    assert equal(train(folder, 4, resume=True), whole)


@pytest.mark.parametrize("number", NUMBERS)
def test_what_fails_after_a_signal_does_not_hide_it(number, tmp_path, capfd):
    """A signal to all processes of a job ends a loader's workers, and the loader raises."""

    def hook(step):
        if step == 5:
            signal.raise_signal(number)
            raise RuntimeError("a worker exited unexpectedly")

    message = stopped(number, lambda: train(tmp_path / "run", 2, hook=hook))
    assert "after epoch 1" in (message if number == signal.SIGINT else capfd.readouterr().err)


def test_a_second_signal_ends_at_once(tmp_path):
    def hook(step):
        if step == 4:
            signal.raise_signal(signal.SIGINT)
            signal.raise_signal(signal.SIGINT)
            raise AssertionError("not reached")

    assert stopped(signal.SIGINT, lambda: train(tmp_path / "run", 2, hook=hook)) == ""
    assert equal(train(tmp_path / "run", 2, resume=True), train(tmp_path / "whole", 2))


@pytest.mark.parametrize("number", NUMBERS)
@pytest.mark.parametrize("handler", [signal.SIG_IGN, lambda *_: None])
def test_what_the_program_does_with_a_signal_stays(number, handler, tmp_path):
    before = signal.signal(number, handler)
    try:
        train(tmp_path, 2, hook=send(number, [1, 2]))
        assert signal.getsignal(number) is handler
    finally:
        signal.signal(number, before)


def test_handlers_are_put_back_after_an_error(tmp_path):
    def fail(step):
        raise RuntimeError("no luck")

    before = list(map(signal.getsignal, NUMBERS))
    with pytest.raises(RuntimeError, match="no luck"):
        train(tmp_path, 1, hook=fail)
    assert list(map(signal.getsignal, NUMBERS)) == before


def test_without_a_folder_the_interrupt_comes_at_once():
    taken = []

    def hook(step):
        taken.append(step)
        signal.raise_signal(signal.SIGINT)
        taken.append("more")

    assert stopped(signal.SIGINT, lambda: train(None, 1, hook=hook)) == ""
    assert taken == [1]


def test_in_another_thread_no_handler_is_set(tmp_path):
    seen = []
    hook = lambda step: seen.append(signal.getsignal(signal.SIGTERM))  # noqa: E731
    thread = threading.Thread(target=train, args=(tmp_path, 1), kwargs={"hook": hook})
    thread.start()
    thread.join()
    assert seen == [signal.SIG_DFL] * 3
    assert load_pair(tmp_path)


def test_compiled_steps_end_too(tmp_path, monkeypatch):
    monkeypatch.setattr(
        "ppl_vae.inference.compilation.chunk.lower",
        lambda body, given, name: lambda given: body(*given),
    )
    taken, at, step = [], [], Stepper.step

    def counted(self, *arguments, **options):
        taken.append(len(taken) + 1)
        send(signal.SIGINT, at)(taken[-1])
        return step(self, *arguments, **options)

    monkeypatch.setattr(Stepper, "step", counted)
    monkeypatch.setattr(Stepper, "unrolled", lambda self: 1)
    whole = train(tmp_path / "whole", 3, compile=True)
    taken.clear()
    at.append(5)
    message = stopped(signal.SIGINT, lambda: train(tmp_path / "run", 3, compile=True))
    at.clear()
    assert taken == [1, 2, 3, 4, 5]
    assert "after epoch 1" in message
    assert equal(train(tmp_path / "run", 3, resume=True, compile=True), whole)


SCRIPT = """
import functools, sys, time
import torch
from ppl_vae import ExponentialNormal, fit

torch.set_default_dtype(torch.float64)


class Adam(torch.optim.Adam):
    steps = 0

    def step(self, closure=None):
        print("begun", flush=True)
        Adam.steps += 1
        time.sleep(float(sys.argv[2]) if Adam.steps == 4 else 0)
        super().step(closure)
        print("ended", flush=True)


x = torch.tensor([1.2, 0.7, 1.1, 0.3, 0.9, 1.6]).reshape(3, 2)
fit(
    ExponentialNormal(), x, elbo="trace", optimizer=functools.partial(Adam, lr=0.1), batch_size=1,
    num_epochs=10**6, run_dir=sys.argv[1], resume=len(sys.argv) > 3, progress=False, device="cpu",
    compile=False,
)
"""


def started(folder, *, pause, resume=False):
    """Return a process that trains as `train` does, within its fourth step."""
    words = [sys.executable, "-c", SCRIPT, folder, str(pause), *(["resume"] if resume else [])]
    pipe = subprocess.PIPE
    process = subprocess.Popen(list(map(str, words)), stdout=pipe, stderr=pipe, text=True)
    assert process.stdout is not None
    for _ in range(7):
        assert process.stdout.readline()
    return process


def test_a_killed_process_leaves_whole_files_and_no_lock(tmp_path):
    folder, draw = tmp_path / "run", random.Random(os.getpid())
    for number in range(2):
        process = started(folder, pause=0, resume=number > 0)
        with pytest.raises(BlockingIOError, match="no other run goes on"):
            train(folder, 5, resume=True)
        time.sleep(draw.uniform(0, 0.3))
        process.kill()
        process.communicate()
        load_pair(folder)
    epochs = len((folder / "metrics.csv").read_text().splitlines()) + 1  # one or two more
    assert epochs >= 3
    assert equal(train(folder, epochs, resume=True), train(tmp_path / "whole", epochs))


@pytest.mark.parametrize(("number", "code"), [(signal.SIGINT, -2), (signal.SIGTERM, 143)])
def test_a_script_ends_its_step_and_tells_its_shell(number, code, tmp_path):
    """Python ends by SIGINT itself where nobody catches it, which shells show as 130."""
    process = started(tmp_path / "run", pause=0.5)
    process.send_signal(number)
    out, shown = process.communicate(timeout=60)
    assert out.split() == ["ended"]
    assert process.returncode == code
    assert f"stopped by {number.name}: {tmp_path / 'run'} holds the run after epoch 1" in shown
    expected = train(tmp_path / "whole", 2)
    assert equal(train(tmp_path / "run", 2, resume=True), expected)


def test_a_second_signal_ends_a_script_at_once(tmp_path):
    process = started(tmp_path / "run", pause=60)
    process.send_signal(signal.SIGTERM)
    assert process.stderr.readline().startswith("The run stops after this step")
    process.send_signal(signal.SIGTERM)
    out, _ = process.communicate(timeout=30)
    assert not out
    assert process.returncode == -signal.SIGTERM
    load_pair(tmp_path / "run")


def test_the_command_line_exits_with_130_and_143(tmp_path):
    folder = tmp_path / "run"
    words = ["train", "exponential-normal", "--elbo", "exact", "--epochs", 10**6, "--out", folder]
    for number, code, more in [(signal.SIGINT, 130, []), (signal.SIGTERM, 143, ["--resume"])]:
        command = map(str, [sys.executable, "-m", "ppl_vae", *words, *more])
        process = subprocess.Popen(list(command), stderr=subprocess.PIPE, text=True)
        assert process.stderr.readline().startswith("epoch ")
        process.send_signal(number)
        _, shown = process.communicate(timeout=60)
        assert process.returncode == code
        last = shown.splitlines()[-1]
        assert f"stopped by {number.name}: {folder} holds the run after epoch" in last
        assert "Traceback" not in shown
