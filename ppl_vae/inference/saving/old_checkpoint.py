"""Checkpoints from before they held hashes: one file of tensors with the rest as its note."""

from __future__ import annotations

import json
import warnings
from pathlib import Path
from typing import Any

from torch import Tensor

from ppl_vae import checks
from ppl_vae.inference.saving.files import read_bytes, unpack
from ppl_vae.inference.saving.sealed import as_tensors


def read_old_checkpoint(path: Path) -> tuple[dict[str, Any], dict[str, Any]]:
    """Return the content and the state of the checkpoint in one safetensors file.

    Raises:
        ValueError: it is no such file, or damaged.

    Warns:
        UserWarning: that damage cannot be seen.
    """
    parts: dict[str, dict[str, Tensor]] = {"pair": {}, "optimizer": {}}
    try:
        data = read_bytes(path)
        size = int.from_bytes(data[:8], "little")
        note = json.loads(json.loads(data[8 : 8 + size])["__metadata__"]["note"])
        for name, tensor in as_tensors(path).items():
            part, _, rest = name.partition(".")
            parts[part][rest] = tensor
        state = {"pair": parts["pair"], "optimizer": unpack(note["optimizer"], parts["optimizer"])}
        if "loader" in note:
            state["loader"] = unpack(note["loader"], parts["optimizer"])
        content = {"history": note["history"]}
    except (ValueError, KeyError, TypeError, AttributeError) as error:
        raise checks.value_error(
            f"a checkpoint in {path}",
            f"a damaged file ({type(error).__name__}: {' '.join(str(error).split())}), or one "
            f"without {path.with_suffix('.json').name}",
            "Restore it, or train again.",
        ) from None
    warnings.warn(
        f"{path} is from before files held hashes, so damage cannot be seen.", stacklevel=2
    )
    return content, state
