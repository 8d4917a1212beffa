"""Whether all processes run the same code on the same data with the same settings."""

from __future__ import annotations

import inspect
import json
from collections.abc import Mapping
from functools import cache
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

import ppl_vae
from ppl_vae import checks
from ppl_vae.inference.batches import DataSource, LoaderBatches
from ppl_vae.inference.processes.group import Group
from ppl_vae.inference.saving.checkpoint import versions
from ppl_vae.inference.saving.fingerprint import fingerprint
from ppl_vae.pair import Pair
from ppl_vae.seeding import seeded

# Examples whose numbers are compared, spread over the data: a pass over larger ones takes time.
_COMPARED, _LOADED = 10_000, 100
_LONGEST = 60


def require_same(group: Group, told: Mapping[str, Any]) -> None:
    """Raise in all processes unless all tell the same.

    Args:
        group: the processes.
        told: by names for users, what has to be the same, as JSON's types.

    Raises:
        ValueError: something differs; the message names it.
    """
    mine = {name: json.dumps(value, default=str) for name, value in _flat(told).items()}
    everyone = group.all(mine)
    for rank, theirs in enumerate(everyone):
        for name in dict.fromkeys([*everyone[0], *theirs]):
            first, other = everyone[0].get(name), theirs.get(name)
            if first != other:
                raise checks.value_error(
                    "the same code, data and settings in every process",
                    f"other {name}: {_short(first)} in process 0, {_short(other)} in {rank}",
                    "Start all of them by one command, in one environment.",
                )


def code(pair: Pair) -> dict[str, Any]:
    """Return what stands for the code: versions, and hashes of this library and of the pair's."""
    found: dict[str, Any] = {"versions": versions(), "code of ppl_vae": _own_code()}
    file = inspect.getsourcefile(type(pair))
    if file is not None and Path(file).is_file():
        found["code of the pair"] = fingerprint(Path(file).read_bytes())
    parameters = {name: (list(p.shape), str(p.dtype)) for name, p in pair.named_parameters()}
    return {**found, "parameters": parameters}


def contents(data: DataSource | None, pair: Pair) -> str | None:
    """Return a hash of some of the data's numbers."""
    if data is None:
        return None
    if isinstance(data, LoaderBatches):
        x = data.first
    else:
        most = _LOADED if getattr(data, "loads", False) else _COMPARED
        index = torch.linspace(0, len(data) - 1, min(len(data), most), dtype=torch.float64)
        with seeded(0, pair.device):
            x = data.batch(index.long().to(pair.device), dtype=pair.dtype)
    tensors = [x] if isinstance(x, Tensor) else x.tensors
    length = 0 if isinstance(data, LoaderBatches) else len(data)
    return fingerprint(f"{length}".encode(), *tensors)


def require_no_drift(group: Group, pair: Pair, epoch: int) -> None:
    """Raise in all processes if their parameters are no longer the same.

    Raises:
        ValueError: they are not: a process has gone another way than the others.
    """
    numbers = torch.stack([p.detach().double().square().sum() for p in pair.parameters()])
    everyone = torch.tensor(group.all(numbers.tolist()), dtype=torch.float64)
    if not torch.allclose(everyone, everyone[:1].expand_as(everyone), rtol=1e-6, equal_nan=True):
        raise checks.value_error(
            "the same parameters in every process",
            f"others after epoch {epoch}",
            "Let no program, optimiser or schedule depend on the process that it runs in.",
        )


def _flat(told: Mapping[str, Any]) -> dict[str, Any]:
    found = {}
    for name, value in told.items():
        if isinstance(value, Mapping):
            found |= {f"{name} ({key})": each for key, each in value.items()}
        else:
            found[name] = value
    return found


@cache
def _own_code() -> str:
    root = Path(ppl_vae.__file__).parent
    return fingerprint(*(path.read_bytes() for path in sorted(root.rglob("*.py"))))


def _short(text: str | None) -> str:
    text = "none" if text is None else text
    return text if len(text) <= _LONGEST else f"{text[:_LONGEST]}..."
