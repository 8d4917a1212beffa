"""Where the work is done."""

from __future__ import annotations

import torch

from ppl_vae import checks


def resolve(device: str | torch.device) -> torch.device:
    """Return the device that is meant: ``auto`` is the GPU where there is one, else the CPU.

    Raises:
        ValueError: torch does not know the device, or it is not there.
    """
    if isinstance(device, str) and device == "auto":
        return torch.device("cuda" if torch.cuda.is_available() else "cpu")
    try:
        resolved = torch.device(device)
        torch.empty(0, device=resolved)
    except (RuntimeError, AssertionError, TypeError, UnicodeDecodeError):
        raise checks.value_error(
            "device as 'auto', 'cpu' or a GPU that is there, such as 'cuda'",
            repr(str(device)),
            "Choose 'auto' to take the GPU where there is one.",
        ) from None
    if resolved.type == "cuda" and resolved.index is None:
        return torch.device("cuda", torch.cuda.current_device())
    return resolved


def synchronize(device: torch.device) -> None:
    """Wait until `device` has done what it was given, so that a clock may be read."""
    if device.type == "cuda":
        torch.cuda.synchronize(device)
