"""Randomness that is the caller's to choose, and that leaves the caller's own alone."""

from __future__ import annotations

import hashlib
import secrets
from collections.abc import Iterator
from contextlib import AbstractContextManager, contextmanager, nullcontext

import torch

Seed = int | torch.Generator | None


@contextmanager
def seeded(seed: Seed, device: torch.device | str = "cpu") -> Iterator[None]:
    """Run a block on its own random stream, then put back the global state of torch.

    Inside, torch's default generators of the CPU and of `device` start from `seed`, so Pyro's
    draws, which know no generator, are reproducible.

    Args:
        seed: an int; or a generator, from which one int is drawn; or None for a fresh stream.
        device: where the block draws, in addition to the CPU.

    Example:
        >>> before = torch.get_rng_state()
        >>> with seeded(0):
        ...     first = torch.rand(3)
        >>> with seeded(0):
        ...     bool((first == torch.rand(3)).all())
        True
        >>> bool((before == torch.get_rng_state()).all())
        True
    """
    device = torch.device(device)
    number = as_int(seed)
    with torch.random.fork_rng(devices=[device] if device.type == "cuda" else []):
        reseed(number, device)
        yield


def weights_from(seed: int | None) -> AbstractContextManager[None]:
    """Return the block in which networks are made: ``seeded``, or torch's stream for None."""
    return nullcontext() if seed is None else seeded(seed)


def reseed(number: int, device: torch.device) -> None:
    """Start torch's generators of the CPU and of `device` from `number`, within ``seeded``."""
    torch.default_generator.manual_seed(number)
    if device.type == "cuda":
        with torch.cuda.device(device):
            torch.cuda.manual_seed(number)


def streams(device: torch.device) -> list[torch.Tensor]:
    """Return the state of torch's generators of the CPU and of `device`, for `set_streams`."""
    states = [torch.get_rng_state()]
    return [*states, torch.cuda.get_rng_state(device)] if device.type == "cuda" else states


def set_streams(states: list[torch.Tensor], device: torch.device) -> None:
    """Put torch's generators back to what `streams` returned."""
    torch.set_rng_state(states[0])
    if device.type == "cuda":
        torch.cuda.set_rng_state(states[1], device)


def as_int(seed: Seed) -> int:
    """Return the int that `seed` stands for: itself, a generator's next draw, or a fresh one.

    Raises:
        TypeError: `seed` is none of the three.
    """
    if seed is None:
        return secrets.randbits(63)
    if isinstance(seed, torch.Generator):
        draw = torch.randint(2**63 - 1, (), generator=seed, device=seed.device)
        return int(draw.item())
    if isinstance(seed, bool) or not isinstance(seed, int):
        raise TypeError(
            f"expected seed as an int, a torch.Generator or None; got {type(seed).__name__}. "
            "Pass a whole number."
        )
    return seed


def derive(seed: int, *path: int | str) -> int:
    """Return a seed for one part of a job: the same part gets the same stream, others their own.

    Example:
        >>> derive(0, "epoch", 1) == derive(0, "epoch", 1) != derive(0, "epoch", 2)
        True
    """
    text = "/".join(map(str, (seed, *path)))
    return int.from_bytes(hashlib.blake2b(text.encode(), digest_size=7).digest(), "big")
