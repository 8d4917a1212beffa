"""A training run that is killed, spoilt, starved of disk, misled about time, and fed NaN."""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
import time
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np

from soak_parts.training import EPOCHS, data, ended, forked, in_words, loaded, same, trained

Row = dict[str, Any]
PAGE = 4096


def kills(count: int, folder: Path, *, seed: int) -> Row:
    """Kill a run at random moments until it has ended, and again from the beginning.

    Lost is a run that a resumed one does not go on with, wrong one whose parameters at the end
    are not those of a run that was never stopped.
    """
    began = time.perf_counter()
    whole = trained(folder / "whole")
    longest = time.perf_counter() - began
    rng, found = np.random.default_rng(seed), Counter[str]()
    runs = 0
    while found["tried"] < count:
        run = folder / f"run-{runs}"
        while found["tried"] < count:
            child = forked(lambda run=run: trained(run))
            time.sleep(float(rng.uniform(0, 0.7 * longest)))
            os.kill(child, signal.SIGKILL)
            code = ended(child)
            if code == 0:
                break
            found["tried"] += code == -signal.SIGKILL
            found["raw"] += code == 4
            found["lost"] += code == 3
        code = ended(forked(lambda run=run: trained(run)))
        found["raw"] += code == 4
        found["lost"] += code == 3
        found["wrong"] += code == 0 and not same(whole, loaded(run))
        runs += 1
        shutil.rmtree(run)
    return {"fault": "SIGKILL", **found, "note": f"{runs} runs of {EPOCHS} epochs, each ended"}


def flips(count: int, folder: Path, *, seed: int) -> Row:
    """Flip single bits of a run's files; each is refused, or the older checkpoint is used."""
    run = folder / "run"
    whole = trained(run, epochs=6)
    files = sorted(
        path
        for path in run.iterdir()
        if path.suffix in (".safetensors", ".json") and path.name != "provenance.json"
    )
    rng, found = np.random.default_rng(seed), Counter[str]()
    for _ in range(count):
        path = files[rng.integers(len(files))]
        content = bytearray(path.read_bytes())
        content[rng.integers(len(content))] ^= 1 << int(rng.integers(8))
        spoilt = folder / "spoilt"
        shutil.copytree(run, spoilt)
        (spoilt / path.name).write_bytes(content)
        of_pair = path.name.startswith("pair")
        found["tried"] += 1
        try:
            pair = loaded(spoilt) if of_pair else trained(spoilt, epochs=6)
            # An older checkpoint trains on to the same end; a spoilt one that was read does not.
            found["right" if same(whole, pair) else "wrong"] += 1
        except Exception as error:  # noqa: BLE001
            found["refused" if in_words(error) else "raw"] += 1
        shutil.rmtree(spoilt)
    note = f"in {len(files)} files; right: by the older checkpoint, or beside what is read"
    return {"fault": "a flipped bit", **found, "note": note}


def full_disks(folder: Path, *, steps: int) -> Row:
    """Train on disks that are full after ever more pages; what was saved before stays whole."""
    whole = folder / "whole"
    trained(whole, epochs=2, keep="last")
    pages = sum(-(-p.stat().st_size // PAGE) for p in whole.rglob("*") if p.is_file())
    found = Counter[str]()
    disk = folder / "disk"
    disk.mkdir()
    for size in np.unique(np.linspace(1, 3 * pages, steps).astype(int)):
        command = ["mount", "-t", "tmpfs", "-o", f"size={size * PAGE}", "tmpfs", str(disk)]
        if subprocess.run(command, check=False, capture_output=True).returncode:
            return {"fault": "a full disk", "tried": 0, "note": "only root may mount a tmpfs"}
        try:
            found["tried"] += 1
            code = ended(forked(lambda: trained(disk / "run", epochs=4)))
            found["raw"] += code == 4
            found["refused"] += code == 3
            found["right"] += code == 0
            if (disk / "run" / "pair.json").exists():
                try:
                    loaded(disk / "run")
                except Exception:  # noqa: BLE001
                    found["lost"] += 1
        finally:
            subprocess.run(["umount", str(disk)], check=True)
    return {"fault": "a full disk", **found, "note": f"tmpfs of 1 to {3 * pages} pages"}


def clocks(folder: Path) -> Row:
    """Set the clock back as a run goes on, and the times of its files to others."""
    whole, found = trained(folder / "whole"), Counter[str]()
    hour = 3600.0
    for number, shift in enumerate((-hour, -1e9, 1e9)):
        run = folder / f"clock-{number}"
        found["tried"] += 1
        with clock_moves(shift):
            pair = trained(run)
        found["right" if same(whole, pair) else "wrong"] += 1
    for number, order in enumerate((1, -1)):
        run = folder / f"times-{number}"
        trained(run, epochs=EPOCHS // 2)
        for place, path in enumerate(sorted(run.rglob("*"))[::order]):
            os.utime(path, (place * hour, place * hour))
        found["tried"] += 1
        found["right" if same(whole, trained(run)) else "wrong"] += 1
    note = "set back and forward within a run; files of any age before a resumed one"
    return {"fault": "the clock", **found, "note": note}


@contextmanager
def clock_moves(shift: float) -> Iterator[None]:
    """Let ``time.time`` move by `shift` seconds at its second reading."""
    true, readings = time.time, [0]

    def moved() -> float:
        readings[0] += 1
        return true() + (shift if readings[0] > 1 else 0.0)

    time.time = moved
    try:
        yield
    finally:
        time.time = true


def numbers(count: int, folder: Path, *, seed: int) -> Row:
    """Put a NaN or an infinity somewhere into the data: refused, with nothing trained."""
    rng, found = np.random.default_rng(seed), Counter[str]()
    for number in range(count):
        x = data()
        x.view(-1)[int(rng.integers(x.numel()))] = float(rng.choice([np.nan, np.inf, -np.inf]))
        found["tried"] += 1
        try:
            trained(folder / f"run-{number}", epochs=1, data=x)
            found["wrong"] += 1
        except Exception as error:  # noqa: BLE001
            found["refused" if in_words(error) else "raw"] += 1
    return {"fault": "NaN or infinity in the data", **found, "note": ""}
