"""One small training run in a process of its own, to be stopped, starved and spoilt."""

from __future__ import annotations

import os
import re
import traceback
import warnings
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from ppl_vae import BernoulliVAE, Pair, fit, load_pair

EPOCHS = 30
IN_WORDS = re.compile(r"expected .*; got ", re.DOTALL)


def data() -> Tensor:
    """Return binary images, the same each time."""
    stream = torch.Generator().manual_seed(1)
    return (torch.rand(300, 1, 4, 4, generator=stream) < 0.3).float()


def trained(folder: Path | None, *, epochs: int = EPOCHS, **options: Any) -> Pair:  # noqa: ANN401
    """Train a pair, or go on with its training, and return it."""
    pair = BernoulliVAE((1, 4, 4), latent_dim=2, hidden=(16,), seed=0)
    resume = folder is not None and (folder / "config.json").exists()
    settings = {"num_epochs": epochs, "batch_size": 50, "seed": 3, "compile": False, **options}
    given = settings.pop("data", None)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        fit(
            pair,
            data() if given is None else given,
            run_dir=folder,
            resume=resume,
            progress=False,
            device="cpu",
            **settings,
        )
    return pair


def same(one: Pair, other: Pair) -> bool:
    """Return whether two pairs have the same parameters, to the last bit."""
    pairs = zip(one.parameters(), other.parameters(), strict=True)
    return all(torch.equal(a, b) for a, b in pairs)


def loaded(folder: Path) -> Pair:
    """Return the pair in a folder, without the warnings of old or damaged files beside it."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        return load_pair(folder)


def in_words(error: BaseException) -> bool:
    """Return whether an error is the library's own or the system's, and not a raw one."""
    return isinstance(error, OSError) or bool(IN_WORDS.search(str(error)))


def forked(work: Callable[[], object]) -> int:
    """Start a process that does `work`; return its number.

    It ends with 0, with 3 after an error in the library's words, or with 4 after a raw one.
    """
    with warnings.catch_warnings():
        # Of threads, which Python 3.12 warns of: torch's are idle here.
        warnings.simplefilter("ignore", DeprecationWarning)
        child = os.fork()
    if child:
        return child
    code = 0
    try:
        work()
    except BaseException as error:  # noqa: BLE001
        code = 3 if in_words(error) else 4
        if code == 4:
            traceback.print_exc()
    finally:
        os._exit(code)


def ended(child: int) -> int:
    """Wait for a process; return its exit code, negative for a signal."""
    return os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])
