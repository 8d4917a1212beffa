"""What holds of several arrays together: names, lengths, one device, and the mask of one."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

import torch
from torch import Tensor

from ppl_vae import checks
from ppl_vae.data.arrays.entries import Entry, as_entry

Entries = dict[str, Entry]


def named(arrays: object) -> tuple[type, dict[str, Any]]:
    """Return the form of the batches, tuple, dict or Tensor, and the arrays by name."""
    if isinstance(arrays, Mapping) and not hasattr(arrays, "tocsr"):  # a sparse matrix of keys
        wrong = [key for key in arrays if not (isinstance(key, str) and key.isidentifier())]
        if wrong:
            raise checks.type_error(
                "a mapping whose keys are the names of a program's arguments",
                f"the key {wrong[0]!r}",
                "Use names as the program's signature has them.",
            )
        form, found = dict, dict(arrays)
    elif isinstance(arrays, tuple):
        form, found = tuple, {str(place): array for place, array in enumerate(arrays)}
    elif isinstance(arrays, list):
        raise checks.type_error(
            "an array, a tuple of arrays or a mapping of them",
            "a list",
            "Pass a tuple for several arguments, numpy.asarray of the list for one.",
        )
    else:
        form, found = Tensor, {"x": arrays}
    if all(array is None for array in found.values()):
        raise checks.value_error("at least one array", "none", "Pass data.")
    return form, found


def with_mask(entries: Entries, mask: str) -> Entries:
    """Return the arrays with `x` 0 where it is missing, and with the mask that says where."""
    if not (isinstance(mask, str) and mask.isidentifier()):
        raise checks.value_error(
            "mask as the name of a program's argument", repr(mask), "Pass mask='mask'."
        )
    x = entries.get("x")
    if not isinstance(x, Tensor):
        raise checks.value_error(
            "an argument x, not sparse, for a mask to belong to",
            f"the arguments {', '.join(entries)}" if x is None else "a sparse x",
            "Pass a mapping with x as a dense array.",
        )
    present = entries.get(mask)
    if present is None:
        present = ~x.isnan()
    elif (
        not isinstance(present, Tensor) or present.dtype != torch.bool or present.shape != x.shape
    ):
        kind = present.dtype, tuple(present.shape)
        raise checks.value_error(
            f"{mask} as booleans of the shape of x, {tuple(x.shape)}",
            f"dtype {kind[0]} and shape {kind[1]}",
            "Pass True where x is present, False where it is missing.",
        )
    present = present.to(x.device)
    stray = int((x.isnan() & present).sum())
    if stray:
        raise checks.value_error(
            f"x to be a number wherever {mask} is True",
            f"{stray} NaN there",
            f"Set {mask} to False where x is missing.",
        )
    return {**entries, "x": torch.where(present, x, torch.zeros_like(x)), mask: present}


def by_name(name: str, value: Mapping[str, Any] | None) -> dict[str, Any]:
    """Return an optional mapping as a dictionary; raise TypeError if it is something else."""
    given = {} if value is None else value
    return dict(checks.instance(name, given, Mapping, "a mapping", "Pass {'name': value}."))


def beside_them(beside: Mapping[str, Any] | None, arguments: Entries) -> Entries:
    """Return the arrays that batches leave out; raise ValueError if a name is an argument's."""
    others = by_name("beside", beside)
    for key in others:
        if key in arguments:
            raise checks.value_error(
                "arrays beside the arguments under names of their own",
                f"{key!r}, which is an argument",
                "Rename one of the two.",
            )
    return {key: as_entry(key, value) for key, value in others.items()}


def on_one_device(entries: Entries, like: Entries | None = None) -> Entries:
    """Return the arrays on the device of those that are not on the CPU, if there are some.

    Raises:
        ValueError: they are on several.
    """
    devices = {e.device for e in {**entries, **(like or {})}.values() if e is not None}
    others = {device for device in devices if device.type != "cpu"}
    if len(others) > 1:
        raise checks.value_error(
            "all arrays on one device", ", ".join(sorted(map(str, others))), "Move them."
        )
    if not others or len(devices) == 1:
        return entries
    (device,) = others
    return {key: None if e is None else e.to(device) for key, e in entries.items()}


def require_one_length(entries: Entries) -> None:
    """Raise ValueError unless all arrays have as many examples."""
    lengths = {key: len(entry) for key, entry in entries.items() if entry is not None}
    if len(set(lengths.values())) > 1:
        raise checks.value_error(
            "as many examples in every array",
            ", ".join(f"{key}: {length}" for key, length in lengths.items()),
            "Their first dimensions must be equal.",
        )


def names_by_array(name: str, value: Mapping[str, Any] | None) -> dict[str, tuple[Any, ...]]:
    """Return the names of columns or codes, by the array that they belong to."""
    remedy = "Pass a list of names for each array."
    return {
        key: tuple(checks.instance(f"{name} of {key}", names, Iterable, "names", remedy))
        for key, names in by_name(name, value).items()
    }


def require_names(
    features: Mapping[str, tuple[str, ...]],
    categories: Mapping[str, tuple[Any, ...]],
    entries: Entries,
) -> None:
    """Raise ValueError unless there is a name per column and for each code that occurs."""
    for key, names in features.items():
        entry = entries[checks.name("argument with features", key, entries)]
        width = entry.shape[-1] if entry is not None and len(entry.shape) > 1 else 1
        if len(names) != width:
            raise checks.value_error(
                f"{width} names of the columns of {key}", f"{len(names)}", "Name every column."
            )
    for key, names in categories.items():
        entry = entries[checks.name("array with categories", key, entries)]
        if not isinstance(entry, Tensor) or entry.is_floating_point() or entry.dim() > 1:
            continue
        low, high = int(entry.min()), int(entry.max())
        if low < 0 or high >= len(names):
            raise checks.value_error(
                f"codes of {key} from 0 to {len(names) - 1}, one per category",
                f"codes from {low} to {high}",
                "Name every code, or number the categories from 0.",
            )


def sizes(count: int, train: object) -> tuple[int, int]:
    """Return how many examples of `count` are for training and for testing.

    Raises:
        TypeError: neither a fraction nor two whole numbers.
        ValueError: a part would be empty, or the two do not make up all.
    """
    if isinstance(train, float):
        if not 0 < train < 1:
            raise checks.value_error(
                "a fraction above 0 and below 1", repr(train), "Pass 0.8, or two sizes."
            )
        first = min(max(round(train * count), 1), count - 1)
        found = first, count - first
    elif isinstance(train, (tuple, list)) and len(train) == 2:
        found = checks.count("size", train[0]), checks.count("size", train[1])
    else:
        raise checks.type_error(
            "the fraction for training, or two sizes", repr(train), "Pass 0.8, or (80, 20)."
        )
    if sum(found) != count or min(found) < 1:
        raise checks.value_error(
            f"two parts that make up all {count} examples",
            f"sizes {found[0]} and {found[1]}",
            "Take data[:count] first to leave some out.",
        )
    return found
