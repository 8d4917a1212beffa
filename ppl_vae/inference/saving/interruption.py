"""What `fit` holds while a run with a folder goes on: its lock, and the signals to end it.

A first SIGINT or SIGTERM lets the step end; a second one does what it did before. No state within
an epoch is saved: the folder holds the last epoch that was finished, from where a resumed run goes
on as one that was never stopped.
"""

from __future__ import annotations

import os
import signal
import sys
import threading
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, ExitStack, contextmanager, suppress
from contextvars import ContextVar
from pathlib import Path
from types import FrameType
from typing import Any

from filelock import FileLock, Timeout

from ppl_vae import checks
from ppl_vae.inference.saving.files import explained

LOCK = ".lock"
_scope: ContextVar[ExitStack] = ContextVar("scope")
_stop: ContextVar[_Stop | None] = ContextVar("stop", default=None)


@contextmanager
def run_scope() -> Iterator[None]:
    """Release at the end of a block what was given to `hold` in it. Also a decorator."""
    with ExitStack() as stack:
        token = _scope.set(stack)
        try:
            yield
        finally:
            _scope.reset(token)


def hold(context: AbstractContextManager[object]) -> None:
    """Enter a context until the end of the `run_scope` around."""
    _scope.get().enter_context(context)


@contextmanager
def locked(folder: Path) -> Iterator[None]:
    """Keep every other run out of a folder; the lock of a process that died does not count.

    Raises:
        BlockingIOError: another run goes on there.
    """
    lock = FileLock(folder / LOCK, timeout=0)
    try:
        with explained(folder, "No epoch was run."):
            lock.acquire()
    except Timeout:
        raise BlockingIOError(
            checks.message(
                "a run folder in which no other run goes on",
                f"{folder}, where one does",
                "Wait for it, or choose another folder.",
            )
        ) from None
    try:
        yield
    finally:
        lock.release()


@contextmanager
def finishing_steps(kept: Callable[[], str], *, together: bool = False) -> Iterator[None]:
    """Let SIGINT and SIGTERM end the block at the next `raise_if_stopped`, not within a step.

    Signals that the program handles or ignores stay its own, as do all outside of the main thread.

    Args:
        kept: returns a sentence about what is saved, for the message.
        together: that other processes take the same steps, which are to end at the same one:
            it is `stop_now` that ends them then.

    Raises:
        KeyboardInterrupt: SIGINT came.
        SystemExit: SIGTERM came; the exit code is 143.
    """
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    stop = _Stop(kept, together=together)
    token = _stop.set(stop)
    try:
        stop.listen()
        yield
    except ConnectionError:  # of another process, whose end the signal may be a consequence of
        raise
    except Exception:  # a loader's workers, say, whom the signal reached too
        stop.raise_if_asked()
        raise
    finally:
        stop.forget()
        _stop.reset(token)
    stop.raise_if_asked()  # by a signal after the last step


def raise_if_stopped() -> None:
    """End the run if a signal has come: called between steps."""
    stop = _stop.get()
    if stop is not None and not stop.together:
        stop.raise_if_asked()


def asked_to_stop() -> int | None:
    """Return the signal that came in this process, if one did."""
    stop = _stop.get()
    return None if stop is None else stop.number


def stop_now(number: int) -> None:
    """End the run as if a signal had come in this process: it did in one of those together."""
    stop = _stop.get()
    if stop is not None:
        stop.number = number
        stop.raise_if_asked()


class _Stop:
    """The first signal that came, if one did."""

    def __init__(self, kept: Callable[[], str], *, together: bool) -> None:
        self._kept, self.together = kept, together
        self.number: int | None = None
        self._process = os.getpid()
        self._before: dict[int, Any] = {}

    def listen(self) -> None:
        for number in (signal.SIGINT, signal.SIGTERM):
            if signal.getsignal(number) in (signal.SIG_DFL, signal.default_int_handler):
                self._before[number] = signal.signal(number, self._remember)

    def forget(self) -> None:
        for number, handler in self._before.items():
            signal.signal(number, handler)

    def raise_if_asked(self) -> None:
        if self.number is None:
            return
        message = f"stopped by {signal.Signals(self.number).name}: {self._kept()}"
        if self.number == signal.SIGINT:
            raise KeyboardInterrupt(message)
        print(message, file=sys.stderr, flush=True)
        raise SystemExit(128 + self.number)

    def _remember(self, number: int, frame: FrameType | None) -> None:
        if os.getpid() == self._process:
            self.forget()
            self.number = number
            with suppress(OSError):  # no stderr; print is not safe within a handler
                os.write(2, b"The run stops after this step; a second signal ends it at once.\n")
        elif number != signal.SIGINT:
            # A loader's worker, which inherited this. The terminal sends it SIGINT too, but it
            # must serve until the step is done.
            self.forget()
            signal.raise_signal(number)
