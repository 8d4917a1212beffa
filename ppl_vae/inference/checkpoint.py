"""A pair on disk: its class and configuration as JSON, its parameters as safetensors."""

from __future__ import annotations

import importlib
from pathlib import Path

import torch

from ppl_vae import checks
from ppl_vae.inference.files import read_json, read_tensors, write_json, write_tensors
from ppl_vae.pair import Pair
from ppl_vae.seeding import seeded


def save_pair(pair: Pair, path: str | Path) -> None:
    """Write a pair into a folder, as ``pair.json`` and ``pair.safetensors``.

    Args:
        pair: any pair whose class can be imported.
        path: the folder; it is made if it is not there.

    Raises:
        TypeError: `pair` is no pair.
        ValueError: its class is local to a function, so that no other process can find it.
    """
    if not isinstance(pair, Pair):
        raise TypeError(
            checks.message("a ppl_vae.Pair", type(pair).__name__, "Save a module by torch.save.")
        )
    folder = Path(path)
    folder.mkdir(parents=True, exist_ok=True)
    write_tensors(folder / "pair.safetensors", pair.state_dict())
    write_json(folder / "pair.json", describe(pair))


def load_pair(path: str | Path) -> Pair:
    """Return the pair that `save_pair`, or a run of `fit`, wrote into a folder.

    The parameters have the values and the dtype that they were saved with, on the CPU. The global
    random state and Pyro's param store stay as they are.

    Args:
        path: the folder.

    Raises:
        FileNotFoundError: a file is missing.
        ValueError: a file is damaged, or the parameters do not fit the configuration.

    Example:
        >>> import tempfile
        >>> from ppl_vae import ExponentialNormal
        >>> with tempfile.TemporaryDirectory() as folder:
        ...     save_pair(ExponentialNormal(prior_rate=2.0), folder)
        ...     load_pair(folder).config["prior_rate"]
        2.0
    """
    folder = Path(path)
    description = read_json(folder / "pair.json")
    tensors, _ = read_tensors(folder / "pair.safetensors")
    try:
        cls = _find(description["class"])
        with seeded(0):
            pair = cls(**description["config"])
        pair.to(getattr(torch, description["dtype"]))
        pair.load_state_dict(tensors)
    except (AttributeError, ImportError, KeyError, RuntimeError, TypeError) as error:
        raise ValueError(
            checks.message(
                f"a pair in {folder} that can be built and takes its parameters",
                f"{type(error).__name__}: {' '.join(str(error).split())}",
                "Use the version of the class that the pair was saved with.",
            )
        ) from error
    return pair


def describe(pair: Pair) -> dict[str, object]:
    """Return what is needed to build `pair` again: class, configuration, dtype."""
    cls = type(pair)
    if "<locals>" in cls.__qualname__:
        raise ValueError(
            checks.message(
                "a pair whose class is defined at the top of a module",
                cls.__qualname__,
                "Move the class out of the function.",
            )
        )
    return {
        "class": f"{cls.__module__}:{cls.__qualname__}",
        "config": pair.config,
        "dtype": str(pair.dtype).removeprefix("torch."),
    }


def _find(name: str) -> type[Pair]:
    module, _, qualname = name.partition(":")
    found = importlib.import_module(module)
    for part in qualname.split("."):
        found = getattr(found, part)
    if not (isinstance(found, type) and issubclass(found, Pair)):
        raise TypeError(f"{name} is no ppl_vae.Pair")
    return found
