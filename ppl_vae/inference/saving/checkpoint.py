"""A pair on disk: its class and configuration as JSON, its parameters as safetensors."""

from __future__ import annotations

import inspect
import platform
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pyro
import torch

import ppl_vae
from ppl_vae import checks
from ppl_vae.inference.saving.files import damaged_json, explained
from ppl_vae.inference.saving.rebuilding import check_config, check_trust, find_class
from ppl_vae.inference.saving.sealed import read_sealed, write_sealed
from ppl_vae.pair import Pair
from ppl_vae.seeding import seeded

_NAME = "pair"
_OLD = frozenset({"class", "config", "dtype"})  # what pair.json held before it held hashes
_DTYPES = ("float16", "bfloat16", "float32", "float64")


def save_pair(pair: Pair, path: str | Path) -> None:
    """Write a pair into a folder, as ``pair.json`` and ``pair.safetensors``.

    Both hold hashes, so that `load_pair` finds any damage. A pair that was there is replaced in
    one step: whenever the process is killed, the folder holds the whole old pair or the new one.

    Args:
        pair: any pair whose class can be imported.
        path: the folder; it is made if it is not there.

    Raises:
        OSError: the folder cannot be written; a pair that was there is as it was.
        TypeError: `pair` is no pair, or its configuration has other types than JSON's.
        ValueError: its class is local to a function, so that no other process can find it, or
            its constructor does not take its configuration.
    """
    if not isinstance(pair, Pair):
        raise checks.type_error(
            "a ppl_vae.Pair", type(pair).__name__, "Save a module by torch.save."
        )
    folder = checks.path("path", path)
    description = describe(pair)
    try:
        check_config(type(pair), pair.config)
    except ValueError:
        signature = f"{type(pair).__name__}{inspect.signature(type(pair))}"
        raise checks.value_error(
            "a pair that can be built again from its configuration",
            f"{', '.join(pair.config) or 'nothing'} for {signature}",
            "Give super().__init__() the arguments of the class's own constructor.",
        ) from None
    with explained(folder, "A pair that was there is as it was."):
        folder.mkdir(parents=True, exist_ok=True)
        write_pair(pair, description, folder)


def load_pair(path: str | Path, *, trust: Sequence[str] = ()) -> Pair:
    """Return the pair that `save_pair`, or a run of `fit`, wrote into a folder.

    The parameters have the values and the dtype that they were saved with, on the CPU. The global
    random state and Pyro's param store stay as they are. No pickle is read.

    Args:
        path: the folder.
        trust: packages, besides ppl_vae, whose code may run: ``("my_package",)`` if the pair's
            class is defined there. Of others nothing is imported. A class of a script
            (``__main__``) is found if the running program defines it.

    Raises:
        FileNotFoundError: a file is missing.
        TypeError: `trust` is no tuple of names.
        ValueError: a file is damaged or of another save; the class is of a package that is not
            trusted; or class, configuration and parameters do not fit each other.

    Example:
        >>> import tempfile
        >>> from ppl_vae import ExponentialNormal
        >>> with tempfile.TemporaryDirectory() as folder:
        ...     save_pair(ExponentialNormal(prior_rate=2.0), folder)
        ...     load_pair(folder).config["prior_rate"]
        2.0
    """
    folder = checks.path("path", path)
    packages = check_trust(trust)
    description, tensors = read_sealed(folder, _NAME, old=_OLD)
    name, config, dtype = (description.get(key) for key in ("class", "config", "dtype"))
    if not (isinstance(name, str) and isinstance(config, dict) and dtype in _DTYPES):
        raise damaged_json(folder / f"{_NAME}.json", "no class, config and dtype")
    cls = find_class(name, packages)
    check_config(cls, config)
    try:
        with seeded(0):
            pair = cls(**config)
        pair.to(getattr(torch, str(dtype)))
        pair.load_state_dict(tensors)
    except Exception as error:  # the constructor may raise what it likes
        saved = description.get("versions") or {}
        raise checks.value_error(
            f"a pair in {folder} that can be built and takes its parameters",
            f"{type(error).__name__}: {' '.join(str(error).split())}",
            "Use the version of the class that the pair was saved with"
            + (f" ({', '.join(f'{k} {v}' for k, v in saved.items())})." if saved else "."),
        ) from error
    return pair


def describe(pair: Pair) -> dict[str, Any]:
    """Return what is needed to build `pair` again: class, configuration, dtype."""
    cls = type(pair)
    if "<locals>" in cls.__qualname__:
        raise checks.value_error(
            "a pair whose class is defined at the top of a module",
            cls.__qualname__,
            "Move the class out of the function.",
        )
    return {
        "class": f"{cls.__module__}:{cls.__qualname__}",
        "config": pair.config,
        "dtype": str(pair.dtype).removeprefix("torch."),
    }


def write_pair(pair: Pair, description: dict[str, Any], folder: Path) -> None:
    """Write both files into a folder that is there; `description` is from `describe`."""
    content = {**description, "versions": versions()}
    try:
        write_sealed(folder, _NAME, content, pair.state_dict())
    except TypeError as error:
        raise checks.type_error(
            "a configuration of JSON's types (numbers, text, lists, dicts)",
            f"{pair.config!r} ({error})",
            "Give super().__init__() names or numbers, and build objects from them.",
        ) from None


def versions() -> dict[str, str]:
    """Return the versions that numbers depend on."""
    return {
        "ppl_vae": ppl_vae.__version__,
        "torch": torch.__version__,
        "pyro": pyro.__version__,
        "python": platform.python_version(),
    }
