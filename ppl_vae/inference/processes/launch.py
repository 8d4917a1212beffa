"""How the processes of a run were started: by torchrun, by Slurm, or by the caller."""

from __future__ import annotations

import atexit
import os
import re
import socket
from datetime import timedelta
from typing import Any

import torch
import torch.distributed

from ppl_vae import checks, devices

dist: Any = torch.distributed  # not all of its names are declared
_TORCHRUN = ("RANK", "WORLD_SIZE", "MASTER_ADDR", "MASTER_PORT")
_ARRIVE = timedelta(minutes=5)


def is_several() -> bool:
    """Return whether a process group is there, or torchrun's or Slurm's variables describe one."""
    if not dist.is_available():
        return False
    return dist.is_initialized() or _by_torchrun() or _by_slurm()


def is_first() -> bool:
    """Return whether this process is the one that writes: the only one, or rank 0."""
    return not (dist.is_available() and dist.is_initialized()) or dist.get_rank() == 0


def own_device(device: str | torch.device) -> torch.device:
    """Return this process's device: of several GPUs that of its place on the machine.

    Raises:
        ValueError: as `devices.resolve`, or there are more processes here than GPUs.
    """
    found = devices.resolve(device)
    asked = torch.device("cuda" if device == "auto" else device)
    if found.type != "cuda" or asked.index is not None:
        return found
    place = int(os.environ.get("LOCAL_RANK") or os.environ.get("SLURM_LOCALID") or 0)
    count = torch.cuda.device_count()
    if place >= count:
        raise checks.value_error(
            "a GPU for every process of a machine",
            f"process {place + 1} of one with {count}",
            "Start fewer processes there, or train with device='cpu'.",
        )
    return torch.device("cuda", place)


def initialise(device: torch.device) -> None:
    """Form the process group that the variables describe, unless there is one.

    It stays until the process ends, for further calls.

    Raises:
        ValueError: the others did not come.
    """
    if device.type == "cuda":
        torch.cuda.set_device(device)
    if dist.is_initialized():
        return
    backend = "cpu:gloo,cuda:nccl" if device.type == "cuda" else "gloo"
    if _by_torchrun():
        store, rank, size = next(dist.rendezvous("env://"))
    else:
        store, rank, size = _meet_by_slurm()
    # The launcher's store may outlive an attempt, whose addresses nobody answers at any more.
    store = dist.PrefixStore(f"attempt_{_attempt()}", store)
    dist.init_process_group(backend, store=store, rank=rank, world_size=size)
    atexit.register(_leave)


def launch_id() -> str | None:
    """Return what all attempts of one torchrun, or of one Slurm job, have in common."""
    if "TORCHELASTIC_RESTART_COUNT" in os.environ:
        run = os.environ.get("TORCHELASTIC_RUN_ID", "none")
        # Without a name of its own the launcher is known by its process.
        return run if run != "none" else f"{socket.gethostname()}:{os.getppid()}"
    job = os.environ.get("SLURM_JOB_ID")
    return None if job is None else f"slurm:{job}"


def is_restarted() -> bool:
    """Return whether torchrun or Slurm has started this run before."""
    return _attempt() > 0


def _attempt() -> int:
    """Return how often torchrun or Slurm has started this run before."""
    counts = (os.environ.get(f"{by}_RESTART_COUNT", "0") for by in ("TORCHELASTIC", "SLURM"))
    return max(map(int, counts))


def _by_torchrun() -> bool:
    return all(os.environ.get(name) for name in _TORCHRUN)


def _by_slurm() -> bool:
    return "SLURM_PROCID" in os.environ and _slurm_size() > 1


def _slurm_size() -> int:
    # srun counts the tasks of its step; a batch script knows those of the job only.
    names = ("SLURM_STEP_NUM_TASKS", "SLURM_NTASKS")
    return next((int(os.environ[name]) for name in names if name in os.environ), 1)


def _slurm_address() -> tuple[str, int]:
    names = ("SLURM_STEP_NODELIST", "SLURM_JOB_NODELIST", "SLURM_NODELIST")
    nodes = next((os.environ[name] for name in names if name in os.environ), "localhost")
    # node[003-006,9]-ib,other: the first is node003-ib.
    found = re.match(r"([^,\[]+)(?:\[(\d+)[^\]]*\]([^,]*))?", nodes)
    host = "".join(part or "" for part in found.groups()) if found else nodes
    port = 12_000 + int(os.environ.get("SLURM_JOB_ID", "0")) % 20_000
    return os.environ.get("MASTER_ADDR", host), int(os.environ.get("MASTER_PORT", port))


def _meet_by_slurm() -> tuple[Any, int, int]:
    rank, size = int(os.environ["SLURM_PROCID"]), _slurm_size()
    host, port = _slurm_address()
    try:
        return dist.TCPStore(host, port, size, rank == 0, timeout=_ARRIVE), rank, size
    except RuntimeError as error:
        raise checks.value_error(
            f"{size} processes, as SLURM_NTASKS says, that meet at {host}:{port}",
            str(error).splitlines()[0],
            "Start them by srun, or unset SLURM_NTASKS to train in one process.",
        ) from None


def _leave() -> None:
    if dist.is_initialized():
        dist.destroy_process_group()
