"""What a run folder keeps, whatever happens to its files, its disk, or the process."""

import errno
import functools
import os
import random
import re
import shutil
import subprocess
import sys

import pytest
import torch
from parameters import equal, parameters
from saved import as_before_hashes, flip

from ppl_vae import ExponentialNormal, fit, load_pair
from ppl_vae.inference.saving.interruption import LOCK
from ppl_vae.inference.saving.sealed import read_sealed

CHECKPOINT = ["checkpoint.json", "checkpoint.safetensors"]
ALL = [*CHECKPOINT, *(name.replace(".", "-previous.") for name in CHECKPOINT)]
OURS = "^expected .*; got .*"


@pytest.fixture(autouse=True)
def _no_pictures(monkeypatch):
    monkeypatch.setattr(sys.modules["ppl_vae.inference.fit"], "draw_run", lambda *_: None)


def train(folder, epochs, *, resume=False, optimizer=None, seed=0, overwrite=False):
    """Return the pair after so many epochs; trained by Adam, whose state a checkpoint holds."""
    pair = ExponentialNormal()
    history = fit(
        pair,
        torch.tensor([1.2, 0.7, 1.1]),
        elbo="trace",
        optimizer=optimizer or functools.partial(torch.optim.Adam, lr=0.1),
        num_epochs=epochs,
        run_dir=folder,
        resume=resume,
        overwrite=overwrite,
        seed=seed,
        progress=False,
        device="cpu",
        compile=False,
    )
    assert len(history) == epochs
    return parameters(pair)


def hooked(hook, at):
    """An optimiser that calls `hook` within its step number `at`."""

    class Hooked(torch.optim.Adam):
        steps = 0

        def step(self, closure=None):
            super().step(closure)
            self.steps += 1
            if self.steps == at:
                hook()

    return functools.partial(Hooked, lr=0.1)


@pytest.fixture
def run(tmp_path):
    """A run of three epochs, and its parameters after four."""
    whole = train(tmp_path / "whole", 4)
    train(tmp_path / "run", 3)
    return tmp_path / "run", whole


@pytest.mark.parametrize("name", ALL)
def test_every_flipped_bit_is_found(name, run):
    path = run[0] / name
    for bit in random.Random(0).sample(range(8 * path.stat().st_size), 300):
        flip(path, bit)
        with pytest.raises(ValueError, match=OURS):
            read_sealed(path.parent, path.stem)
        flip(path, bit)
    assert read_sealed(path.parent, path.stem)


@pytest.mark.parametrize("name", CHECKPOINT)
def test_it_leads_to_the_checkpoint_before(name, run, tmp_path):
    folder, whole = run
    for bit in random.Random(1).sample(range(8 * (folder / name).stat().st_size), 10):
        twin = tmp_path / str(bit)
        shutil.copytree(folder, twin)
        flip(twin / name, bit)
        with pytest.warns(UserWarning, match="from the checkpoint before it, of epoch 2"):
            assert equal(train(twin, 4, resume=True), whole)


@pytest.mark.parametrize("name", CHECKPOINT)
@pytest.mark.parametrize("content", [lambda b: b[: len(b) // 2], lambda b: b"", None])
def test_so_does_a_short_or_missing_file(name, content, run):
    folder, whole = run
    if content is None:
        (folder / name).unlink()
    else:
        (folder / name).write_bytes(content((folder / name).read_bytes()))
    with pytest.warns(UserWarning, match="of epoch 2"):
        assert equal(train(folder, 4, resume=True), whole)
    assert equal(train(folder, 4, resume=True), whole)  # all is well again, without a warning


def test_the_next_save_does_not_replace_the_whole_checkpoint_by_the_damaged(run, monkeypatch):
    folder, _ = run
    flip(folder / CHECKPOINT[1], 900)
    kept = (folder / "checkpoint-previous.json").read_bytes()
    with pytest.warns(UserWarning, match="of epoch 2"):
        train(folder, 3, resume=True)
    assert (folder / "checkpoint-previous.json").read_bytes() == kept
    train(folder, 4, resume=True)
    assert (folder / "checkpoint-previous.json").read_bytes() != kept


def test_two_damaged_checkpoints_are_refused(run):
    folder, _ = run
    flip(folder / CHECKPOINT[0], 900)
    flip(folder / "checkpoint-previous.safetensors", 900)
    with pytest.raises(ValueError, match=OURS):
        train(folder, 4, resume=True)


@pytest.mark.parametrize("name", CHECKPOINT)
def test_so_is_the_only_one(name, tmp_path):
    train(tmp_path, 1)
    flip(tmp_path / name, 900)
    with pytest.raises(ValueError, match=f"{name}; got a? ?damaged"):
        train(tmp_path, 2, resume=True)


@pytest.mark.parametrize("seed", [0, 1])  # with 0 the two runs are the same but for their names
@pytest.mark.parametrize("names", [CHECKPOINT[:1], CHECKPOINT[1:], CHECKPOINT])
def test_a_checkpoint_of_another_run_is_not_taken(seed, names, run, tmp_path):
    folder, whole = run
    train(tmp_path / "other", 3, seed=seed)
    for name in names:
        shutil.copy(tmp_path / "other" / name, folder / name)
    if seed == 0 and names == CHECKPOINT[1:]:  # the very same numbers
        assert equal(train(folder, 4, resume=True), whole)
        return
    with pytest.warns(UserWarning, match="of epoch 2"):
        assert equal(train(folder, 4, resume=True), whole)


@pytest.mark.parametrize("seed", [0, 1])
def test_both_checkpoints_of_another_run_are_refused(seed, run, tmp_path):
    folder, _ = run
    train(tmp_path / "other", 3, seed=seed)
    for name in ALL:
        shutil.copy(tmp_path / "other" / name, folder / name)
    with pytest.raises(ValueError, match="one of another run"):
        train(folder, 4, resume=True)


def test_the_files_of_a_pair_are_no_checkpoint(run):
    folder, _ = run
    for ending in (".json", ".safetensors"):
        for stem in ("checkpoint", "checkpoint-previous"):
            shutil.copy(folder / f"pair{ending}", folder / f"{stem}{ending}")
    with pytest.raises(ValueError, match="one of another run"):
        train(folder, 4, resume=True)


def test_a_run_from_before_hashes_resumes_with_a_warning(run):
    folder, whole = run
    as_before_hashes(folder)
    with pytest.warns(UserWarning, match="checkpoint.safetensors is from before"):
        assert equal(train(folder, 4, resume=True), whole)
    assert equal(train(folder, 4, resume=True), whole)


def test_damage_to_it_is_refused_where_it_shows(run):
    folder, _ = run
    as_before_hashes(folder)
    path = folder / CHECKPOINT[1]
    whole = path.read_bytes()
    for size in range(0, len(whole), 7):
        path.write_bytes(whole[:size])
        with pytest.raises(ValueError, match=OURS):
            train(folder, 4, resume=True)


@pytest.mark.parametrize("content", ["[]", "3", "{", "\xff"])
def test_a_damaged_config_is_refused(content, run):
    folder, _ = run
    (folder / "config.json").write_bytes(content.encode("latin-1"))
    with pytest.raises(ValueError, match="JSON in .*config.json; got damaged text"):
        train(folder, 4, resume=True)


def test_a_run_that_was_stopped_in_its_first_epoch_begins_anew(tmp_path):
    whole = train(tmp_path / "whole", 2)

    def stop():
        raise RuntimeError("stop")

    with pytest.raises(RuntimeError, match="stop"):
        train(tmp_path / "run", 2, optimizer=hooked(stop, 1))
    config = tmp_path / "run" / "config.json"
    config.write_text(config.read_text().replace("Hooked", "Adam"))
    assert equal(train(tmp_path / "run", 2, resume=True), whole)


def test_checkpoints_that_are_gone_are_not_taken_for_no_run(run):
    folder, _ = run
    for path in folder.glob("checkpoint*"):
        path.unlink()
    with pytest.raises(FileNotFoundError, match=r"checkpoint.json; got none"):
        train(folder, 4, resume=True)


def failure(call):
    """Return the error of the system that a call raises, or None."""
    try:
        call()
    except OSError as error:
        return error
    return None


@pytest.mark.parametrize("code", [errno.ENOSPC, errno.EROFS, errno.EIO])
@pytest.mark.parametrize("call", ["fsync", "replace"])
def test_a_disk_that_takes_no_more_keeps_the_last_checkpoint(code, call, tmp_path, monkeypatch):
    """At every call of the third save."""
    whole = train(tmp_path / "whole", 4)
    real = getattr(os, call)
    failures = 0
    for after in range(20):
        left = [10**6]

        def failing(*arguments, left=left):
            if left[0] == 0:
                raise OSError(code, os.strerror(code))
            left[0] -= 1
            return real(*arguments)

        monkeypatch.setattr(os, call, failing)
        folder = tmp_path / str(after)
        fill = functools.partial(left.__setitem__, 0, after)
        error = failure(
            lambda folder=folder, fill=fill: train(folder, 3, optimizer=hooked(fill, 3))
        )
        if error is None:
            break
        failures += 1
        text = f"expected a folder {folder} that takes files; got one that does not"
        assert str(error).startswith(f"{text} ({os.strerror(code)})")
        assert re.search("holds the run after epoch [23], from where it resumes", str(error))
        assert error.errno == code
        monkeypatch.setattr(os, call, real)
        load_pair(folder)
        config = folder / "config.json"
        config.write_text(config.read_text().replace("Hooked", "Adam"))
        assert equal(train(folder, 4, resume=True), whole)
    assert failures >= 4
    assert after < 19


def test_a_full_disk(tmp_path):
    """A real one, where a file system can be mounted."""
    disk = tmp_path / "disk"
    disk.mkdir()
    mount = ["mount", "-t", "tmpfs", "-o", "size=128k", "tmpfs", disk]
    if not shutil.which("mount") or subprocess.run(mount, capture_output=True).returncode:
        pytest.skip("no file system can be mounted here")
    try:

        def fill():
            error = failure(lambda: (disk / "big").write_bytes(bytes(10**6)))
            assert error.errno == errno.ENOSPC

        with pytest.raises(OSError, match="No space left.*holds the run after epoch 2"):
            train(disk / "run", 3, optimizer=hooked(fill, 3))
        assert not list((disk / "run").glob("*.json.part"))
        load_pair(disk / "run")
        (disk / "big").unlink()
        train(disk / "run", 3, optimizer=hooked(lambda: None, 1), resume=True)
    finally:
        subprocess.run(["umount", disk], check=True)


@pytest.mark.parametrize("path", ["replace", "flock"])
def test_a_disk_that_is_full_from_the_start(path, tmp_path, monkeypatch):
    def full(*_):
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    monkeypatch.setattr(os if path == "replace" else sys.modules["fcntl"], path, full)
    with pytest.raises(OSError, match="No space left on device.*No epoch was run"):
        train(tmp_path, 1)


def test_a_folder_that_is_removed_during_the_run(tmp_path):
    folder = tmp_path / "run"
    with pytest.raises(FileNotFoundError, match="takes files; got none: it was removed"):
        train(folder, 3, optimizer=hooked(functools.partial(shutil.rmtree, folder), 3))
    assert not folder.exists()


def test_a_second_run_in_the_same_folder_is_refused(tmp_path):
    folder, refused = tmp_path / "run", []

    def second():
        before = {p: p.read_bytes() for p in folder.iterdir()}
        for how in ({"resume": True}, {"overwrite": True}, {}):
            with pytest.raises(BlockingIOError, match="no other run goes on; got .*run") as error:
                train(folder, 3, **how)
            refused.append(error)
        assert {p: p.read_bytes() for p in folder.iterdir()} == before

    found = train(folder, 3, optimizer=hooked(second, 2))
    assert len(refused) == 3
    assert equal(found, train(tmp_path / "alone", 3))
    train(folder, 3, overwrite=True)  # it is free again
    assert (folder / LOCK).exists()


def test_a_run_that_fails_frees_its_folder(tmp_path):
    def fail():
        raise RuntimeError("no luck")

    with pytest.raises(RuntimeError, match="no luck") as error:
        train(tmp_path, 3, optimizer=hooked(fail, 2))
    train(tmp_path, 3, overwrite=True)
    assert error.tb is not None  # its frames are still alive
