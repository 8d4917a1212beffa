"""Rows on disk after each measurement, and an end at the time that was set."""

from __future__ import annotations

import csv
import hashlib
import os
import signal
import time
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path

import torch

Found = dict[str, object]
Case = tuple[str, Callable[[], Found]]
ROOT = Path(__file__).parents[2]


class OutOfTime(BaseException):  # noqa: N818
    """The part's time is over; no `except Exception` of what is measured stops it."""


@contextmanager
def within(seconds: float) -> Iterator[None]:
    """Run a block that is left after so many seconds, if it has not ended."""

    def stop(*_: object) -> None:
        raise OutOfTime

    old = signal.signal(signal.SIGALRM, stop)
    signal.setitimer(signal.ITIMER_REAL, max(seconds, 0.01))
    try:
        yield
    except OutOfTime:
        print("  its time is over", flush=True)
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0)
        signal.signal(signal.SIGALRM, old)


def sources() -> str:
    """Return a digest of the code: results of other code are measured again."""
    digest = hashlib.sha256()
    for folder in ("ppl_vae", "experiments", "tests"):
        for path in sorted((ROOT / folder).rglob("*.py")):
            digest.update(path.relative_to(ROOT).as_posix().encode() + path.read_bytes())
    return digest.hexdigest()[:12]


class Records:
    """The rows of one part, kept as CSV; a case that has a row is not done again.

    Rows of other code on the same card are replaced as their cases are done; those of other cards
    stay.

    Args:
        path: the CSV file.
        card: the device's name.
    """

    def __init__(self, path: Path, card: str) -> None:
        self.path = path
        self._stamp = {"card": card, "code": sources()}
        self._rows: dict[tuple[str, str], Found] = {}
        if path.exists():
            with path.open(newline="") as file:
                self._rows = {(row["card"], row["case"]): {**row} for row in csv.DictReader(file)}

    def has(self, case: str) -> bool:
        """Return whether the case is done, by this code on this card."""
        row = self._rows.get((self._stamp["card"], case), {})
        return row.get("code") == self._stamp["code"]

    def add(self, case: str, **found: object) -> None:
        """Keep a row."""
        rounded = {n: f"{v:.4g}" if isinstance(v, float) else v for n, v in found.items()}
        self._rows[self._stamp["card"], case] = {"case": case, **rounded, **self._stamp}
        names = list(dict.fromkeys(name for row in self._rows.values() for name in row))
        names = [n for n in names if n not in self._stamp] + [*self._stamp]
        part = self.path.with_name(self.path.name + ".part")
        with part.open("w", newline="") as file:
            writer = csv.DictWriter(file, names, restval="", lineterminator="\n")
            writer.writeheader()
            writer.writerows(self._rows.values())
        os.replace(part, self.path)

    def rows(self) -> list[Found]:
        """Return this code's rows of this card, in the order of their cases."""
        return [row for row in self._rows.values() if row.items() >= self._stamp.items()]

    def do(self, cases: Iterable[Case], device: torch.device) -> None:
        """Do the cases that have no row, and keep what each found or how it failed.

        A failure that leaves the device unusable ends the process with code 3, for another one to
        go on.
        """
        for case, check in cases:
            if self.has(case):
                continue
            began = time.perf_counter()
            found: Found = {"outcome": "passed"}
            try:
                found |= check()
            except NotImplementedError as error:
                found["outcome"] = f"not served: {_line(error)}"
            except Exception as error:  # noqa: BLE001
                found["outcome"] = f"FAILED: {_line(error)}"
            found["seconds"] = round(time.perf_counter() - began, 2)
            self.add(case, **found)
            print(f"  {case}: {found['outcome']}", flush=True)
            if str(found["outcome"]).startswith("FAILED") and not _usable(device):
                raise SystemExit(3)


def require(value: float, limit: float, what: str) -> float:
    """Return a difference; raise AssertionError if it is not below its limit."""
    if not value <= limit:
        raise AssertionError(f"{what} off by {value:.2e}, more than {limit:.0e}")
    return value


def card(device: torch.device) -> str:
    """Return the name of a device."""
    if device.type == "cuda":
        return torch.cuda.get_device_name(device)
    return f"CPU, {torch.get_num_threads()} threads"


def _line(error: BaseException) -> str:
    text = " ".join(str(error).split())
    return (
        text[:300]
        if isinstance(error, AssertionError)
        else f"{type(error).__name__}: {text[:300]}"
    )


def _usable(device: torch.device) -> bool:
    try:
        return float(torch.ones(2, device=device).sum()) == 2.0
    except RuntimeError:
        return False
