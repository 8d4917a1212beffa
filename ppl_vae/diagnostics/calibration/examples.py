"""Data of the shape to simulate, with what the model takes besides them."""

from __future__ import annotations

import inspect
from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor

from ppl_vae import checks
from ppl_vae.batch import Batch, BatchLike, Data, as_batch
from ppl_vae.functions import Functions
from ppl_vae.pair import Pair

DATA_SET_SIZE = 5  # numbers in a simulated data set, where one is an example


def examples_like(
    pair: Pair | Functions, like: BatchLike | None, context: BatchLike | None, count: int
) -> BatchLike:
    """Return data of the shape to simulate.

    Args:
        pair: a pair, or a model and a guide.
        like: data of that shape, or None for what a pair takes.
        context: what the model takes besides the data: a mapping from the names of its arguments,
            or those after the first.
        count: of simulations.

    Returns:
        A batch. With `context` or without `like`, of `count` examples.

    Raises:
        TypeError: a context that is no batch, or an argument that the model does not have.
        ValueError: functions without `like`; a context of more than `count` rows, or of none.
    """
    found = _blank(pair, count) if like is None else like
    if isinstance(pair, Pair) and isinstance(found, Tensor) and found.dim() == 1:
        row, several = found[:1].expand(2), found.expand(2, -1)
        if (pair.num_examples(row), pair.num_examples(several)) == (1, 2):
            found = several[:1]  # one data set of a pair that takes several, a row each
    if context is None:
        return found
    model = pair.model if isinstance(pair, Pair) else pair[0]
    given = _by_name(context, list(inspect.signature(model).parameters))
    rows = Batch(kwargs=given)
    if not 1 <= len(rows) <= count:
        raise checks.value_error(
            f"a context of 1 to {count} rows, as there are simulations",
            f"{len(rows)}",
            "Pass one row a simulation, or fewer, to be taken in turn.",
        )
    data = as_batch(found)
    named = (Batch((data,)) if isinstance(data, Tensor) else data).bind(model)
    known = Batch(kwargs={name: each for name, each in named.items() if isinstance(each, Tensor)})
    return {**in_turn(known, count).kwargs, **in_turn(rows, count).kwargs}


def in_turn(data: Data, count: int) -> Any:  # noqa: ANN401
    """Return `count` examples: those of `data` in turn."""
    return data[torch.arange(count, device=data.device) % len(data)]


def _blank(pair: Pair | Functions, count: int) -> BatchLike:
    if not isinstance(pair, (Pair, tuple)):
        raise checks.type_error(
            "a ppl_vae.Pair, or a Pyro model and its guide as a tuple of two functions",
            type(pair).__name__,
            "Pass (model, guide).",
        )
    if not isinstance(pair, Pair):
        raise checks.value_error(
            "like=, data of the shape to simulate, for a model and a guide",
            "None",
            "Pass a batch of any values that the model takes.",
        )
    found = pair.blank(count)
    if isinstance(found, Tensor) and pair.num_examples(found) != count:
        return pair.blank(DATA_SET_SIZE)
    return found


def _by_name(context: BatchLike, names: list[str]) -> dict[str, Any]:
    if isinstance(context, Mapping):
        found = dict(context)
    elif isinstance(context, (Tensor, tuple, list)):
        entries = [context] if isinstance(context, Tensor) else context
        if len(entries) >= len(names):
            raise checks.type_error(
                f"a context of at most {len(names) - 1} tensors, for {', '.join(names[1:])}",
                f"{len(entries)}",
                "Pass a mapping from the names of the model's arguments.",
            )
        found = dict(zip(names[1:], entries, strict=False))
    else:
        raise checks.type_error(
            "context as a tensor, a tuple or a mapping",
            type(context).__name__,
            "Pass a mapping from the names of the model's arguments.",
        )
    for name in found:
        checks.name("context", name, names)
    return {name: entry for name, entry in found.items() if entry is not None}
