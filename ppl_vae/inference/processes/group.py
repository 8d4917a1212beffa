"""The processes that train one pair together, and what they tell each other."""

from __future__ import annotations

import io
import itertools
import pickle
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, suppress
from typing import Any, TypeVar

import torch
import torch.distributed as dist
from torch import Tensor

from ppl_vae import checks, devices
from ppl_vae.inference.processes import launch
from ppl_vae.inference.saving.interruption import asked_to_stop, hold, stop_now

T = TypeVar("T")
_runs = itertools.count()
# Seconds in which a process that fails says so, or is asked why.
_PATIENCE = 3


class ProcessFailedError(ConnectionError):
    """Another process of the run failed, or has gone; the message says which, and of what."""


class Alone:
    """One process: what `Group` does, without others.

    Attributes:
        rank: this process's number, from 0.
        size: how many there are.
        device: where this process computes.
    """

    def __init__(self, device: torch.device) -> None:
        self.rank, self.size, self.device = 0, 1, device

    def first(self, work: Callable[[], T]) -> T:
        """Do in one process what is to be done once; return what it gave, in all of them."""
        return work()

    def most(self, number: int | None) -> int | None:
        """Return the largest of the processes' numbers; None if one of them knows none."""
        return number


class Group(Alone):
    """Several processes. If one fails all of them do, with its cause; if one is to stop, all are.

    Args:
        device: this process's.
    """

    def __init__(self, device: torch.device) -> None:
        super().__init__(device)
        self.rank, self.size = dist.get_rank(), dist.get_world_size()
        # A group of its own can be left when something fails, which wakes those who wait in it.
        self._control: Any = dist.new_group(backend="gloo")
        self._gradients = None if device.type == "cuda" else self._control
        store = launch.dist.distributed_c10d._get_default_store()
        self._store = launch.dist.PrefixStore(f"ppl_vae/{next(_runs)}", store)
        self._earlier: tuple[Tensor, Any] | None = None

    def add(self, tensors: Sequence[Tensor]) -> None:
        """Sum tensors over the processes, in place, by one all-reduce.

        It also says whether a process was told to stop. On a GPU this is known one step later, so
        that nothing waits for the device.

        Raises:
            KeyboardInterrupt: a process was sent SIGINT.
            SystemExit: a process was sent SIGTERM.
            ProcessFailedError: another process failed.
        """
        dtype = torch.float32
        for tensor in tensors:
            dtype = torch.promote_types(dtype, tensor.dtype)
        stops = torch.full((1,), float(asked_to_stop() is not None), dtype=dtype)
        parts = [t.reshape(-1).to(dtype) for t in tensors]
        flat = torch.cat([*parts, stops.to(self.device, non_blocking=True)])
        self._together(lambda: dist.all_reduce(flat, group=self._gradients))
        for tensor, part in zip(tensors, flat.split([t.numel() for t in (*tensors, stops)])):  # noqa: B905
            tensor.copy_(part.view_as(tensor))
        self._heed(flat[-1])

    def count(self, number: int) -> int:
        """Return the sum of the processes' numbers."""
        total = torch.tensor(number)
        self._together(lambda: dist.all_reduce(total, group=self._control))
        return int(total)

    def first(self, work: Callable[[], T]) -> T:
        """Do `work` in the process of rank 0; return what it gave, or raise its error, in all."""
        result: Any = None
        failure: Exception | None = None
        sent = [b"", b""]
        if self.rank == 0:
            try:
                result = work()
                sent[0] = _as_bytes(result)
            except Exception as error:
                failure = error
                sent[1] = _error_as_bytes(error)
        self._together(lambda: dist.broadcast_object_list(sent, src=0, group=self._control))
        if sent[1]:
            raise failure or pickle.loads(sent[1])
        if self.rank == 0:
            return result
        return torch.load(io.BytesIO(sent[0]), map_location="cpu", weights_only=False)

    def all(self, value: T) -> list[T]:
        """Return every process's value, by rank."""
        found: list[Any] = [None] * self.size
        self._together(lambda: dist.all_gather_object(found, value, group=self._control))
        return found

    def most(self, number: int | None) -> int | None:
        """Return the largest of the processes' numbers; None if one of them knows none."""
        found = self.all(number)
        known = [each for each in found if each is not None]
        return max(known) if len(known) == len(found) else None

    @contextmanager
    def until_all_end(self) -> Iterator[None]:
        """Let the others know of an error in the block, and wait for them at its end."""
        try:
            yield
            self._together(lambda: dist.barrier(group=self._control))
        except BaseException as error:
            words = " ".join(f"{type(error).__name__}: {error}".split())
            self._fail(None if isinstance(error, ProcessFailedError) else words)
            raise
        self._leave()

    def _leave(self) -> None:
        dist.destroy_process_group(self._control)
        self._control = self._gradients = None  # the last references: only now it hangs up

    def _fail(self, words: str | None) -> None:
        """Wake up who waits, and stay until all have asked why: the store may be in this one."""
        with suppress(RuntimeError):
            if words is not None:
                self._store.set("failed", f"process {self.rank} ended by {words}")
            self._leave()
            self._store.set(f"alive/{self.rank}", "")
            self._appear([f"alive/{rank}" for rank in range(self.size)])

    def _appear(self, keys: list[str]) -> bool:
        """Return whether all keys are in the store, after a moment in which they may come."""
        end = time.monotonic() + _PATIENCE
        while not self._store.check(keys):
            if time.monotonic() > end:
                return False
            time.sleep(0.05)
        return True

    def _together(self, talk: Callable[[], T]) -> T:
        try:
            return talk()
        except RuntimeError as error:
            raise ProcessFailedError(
                checks.message(
                    f"{self.size} processes until the end of training",
                    self._cause(error).rstrip("."),
                    "What was saved stays; mend the cause, then resume.",
                )
            ) from error

    def _cause(self, error: RuntimeError) -> str:
        """Return what a process said when it failed, or else who says nothing any more."""
        try:
            self._store.set(f"alive/{self.rank}", "")
            if self._appear(["failed"]):
                return self._store.get("failed").decode()
            others = range(self.size)
            gone = [r for r in others if not self._store.check([f"alive/{r}"])]
        except RuntimeError:
            gone = [0]  # it kept the store
        if not gone:
            return f"an error between them: {str(error).splitlines()[0]}"
        names = " and ".join(f"process {rank}" for rank in gone)
        return f"{names} gone without a word (killed, or out of memory)"

    def _heed(self, stops: Tensor) -> None:
        if stops.is_cuda:
            held = torch.empty((), dtype=stops.dtype, pin_memory=True)
            held.copy_(stops, non_blocking=True)
            event = torch.cuda.Event()
            event.record()
            earlier, self._earlier = self._earlier, (held, event)
            if earlier is None:
                return
            stops = earlier[0]
            earlier[1].synchronize()
        if float(stops) > 0:
            stop_now(next(number for number in self.all(asked_to_stop()) if number is not None))


def join(device: str | torch.device) -> Alone:
    """Return the processes of this run, until the end of the `run_scope` around.

    Raises:
        ValueError: no such device, or the others did not come.
    """
    if not launch.is_several():
        return Alone(devices.resolve(device))
    own = launch.own_device(device)
    launch.initialise(own)
    group = Group(own)
    hold(group.until_all_end())
    return group


def _as_bytes(value: object) -> bytes:
    made = io.BytesIO()
    torch.save(value, made)
    return made.getvalue()


def _error_as_bytes(error: Exception) -> bytes:
    try:
        made = pickle.dumps(error)
        pickle.loads(made)
    except Exception:  # one whose constructor takes something else
        return pickle.dumps(ProcessFailedError(f"process 0: {type(error).__name__}: {error}"))
    return made
