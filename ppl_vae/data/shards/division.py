"""Which rows each process reads, and in how many steps."""

from __future__ import annotations

import os

import torch.distributed as distributed

from ppl_vae import checks


def place(rank: int | None, world_size: int | None) -> tuple[int, int]:
    """Return this process's number and how many there are.

    What is given wins over the process group that is initialised, and that over the variables
    ``RANK`` and ``WORLD_SIZE``, which torchrun sets. Without any there is one process.

    Raises:
        TypeError: a number that is no int.
        ValueError: one of the two without the other, or a rank that is not below the world size.
    """
    if (rank is None) != (world_size is None):
        raise checks.value_error(
            "rank and world_size together",
            f"rank={rank} and world_size={world_size}",
            "Pass both, or neither.",
        )
    if rank is None or world_size is None:
        if distributed.is_available() and distributed.is_initialized():
            return distributed.get_rank(), distributed.get_world_size()
        rank, world_size = _variable("RANK", 0), _variable("WORLD_SIZE", 1)
        if world_size > 1 and "RANK" not in os.environ:
            remedy = "Start by torchrun, or pass rank= and world_size=."
            raise checks.value_error(
                "the environment variable RANK beside WORLD_SIZE", "none", remedy
            )
    checks.count("world_size", world_size)
    if checks.count("rank", rank, minimum=0) >= world_size:
        raise checks.value_error(
            f"rank below world_size={world_size}", repr(rank), "Ranks count from 0."
        )
    return rank, world_size


def _variable(name: str, default: int) -> int:
    text = os.environ.get(name, str(default))
    if not text.isdecimal():
        raise checks.value_error(
            f"the environment variable {name} as a whole number",
            repr(text),
            "Unset it, or start by torchrun.",
        )
    return int(text)


def steps(num_rows: int, batch_size: int, world_size: int) -> list[int]:
    """Return how many rows each step of a pass takes, over all processes.

    Every process has a row in every step, so that none waits for another in vain: a rest that is
    too small for that joins the step before.

    Raises:
        ValueError: fewer rows, or a smaller batch, than processes.

    Example:
        >>> steps(21, 10, 1), steps(21, 10, 2)
        ([10, 10, 1], [10, 11])
    """
    for name, number in (("rows", num_rows), ("batch_size", batch_size)):
        if number < world_size:
            raise checks.value_error(
                f"{name} for each of {world_size} processes",
                f"{number}",
                "Start fewer processes, or choose a larger batch.",
            )
    full, rest = divmod(num_rows, batch_size)
    sizes = [batch_size] * full
    if rest >= world_size:
        sizes.append(rest)
    elif rest:
        sizes[-1] += rest
    return sizes


def share(size: int, rank: int, world_size: int) -> int:
    """Return how many of a step's rows a process takes."""
    return size // world_size + (rank < size % world_size)
