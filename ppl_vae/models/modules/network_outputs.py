"""The tensors in what an encoder or a decoder returned, and what each is."""

from __future__ import annotations

import dataclasses
import math
import re
from collections.abc import Callable, Mapping
from typing import Any

import torch
from torch import Tensor

from ppl_vae import checks

TO_SCALE: dict[str, Callable[[Tensor], Tensor]] = {
    "log-variance": lambda second: (0.5 * second).exp(),
    "log-scale": torch.exp,
    "scale": lambda second: second,
    "variance": torch.sqrt,
}
# The names of fields, without underscores and a prefix such as z_ or px_.
NAMES = {
    "loc": ("loc", "mu", "mean"),
    "scale": ("scale", "std", "stddev", "sigma"),
    "log-scale": ("logscale", "logstd", "logsigma"),
    "log-variance": ("logvariance", "logvar"),
    "variance": ("variance", "var"),
    "logits": ("logits",),
    "probs": ("probs",),
}
SIZES = {"encoder": "latent_dim", "decoder": "the size of the data"}
Form = tuple[str, ...]


def read(
    who: str,
    output: Any,  # noqa: ANN401
    forms: list[Form],
    chosen: Form | None,
    shape: tuple[int, ...] | None,
) -> dict[str, Tensor]:
    """Return the tensors of `output` by what they are: loc, log-variance, logits, ...

    `output` is a tensor, a tuple or list, or has named fields. Of `forms` it has the `chosen` one;
    if that is None, the one that its names say, or else the first. Every tensor must have `shape`,
    or the first one's shape if that is None.

    Raises:
        TypeError: another kind, or another number of entries, than the form has.
        ValueError: shapes that do not fit; names that do not say which form it is.
    """
    form = chosen or forms[0]
    named = _fields(output)
    if named is not None:
        form, parts = _by_name(who, named, [chosen] if chosen else forms)
    elif isinstance(output, (tuple, list)):
        parts = list(output)
    else:
        is_both = isinstance(output, Tensor) and len(form) == 2
        parts = _halves(who, output, shape) if is_both else [output]
    if len(parts) != len(form) or not all(isinstance(each, Tensor) for each in parts):
        came = ", ".join(_described(each) for each in parts)
        raise checks.type_error(
            f"the {who} to return {_listed(form)}"
            + (", or both side by side in one tensor" if len(form) == 2 else ""),
            f"{type(output).__name__}: {came}",
            f"Return these alone or by their names, as a dict; lambda x: {who}(x)[...] "
            "selects them.",
        )
    shape = tuple(parts[0].shape) if shape is None else shape
    return {kind: _fitted(who, kind, each, shape) for kind, each in zip(form, parts, strict=True)}


def _fields(output: Any) -> dict[str, Any] | None:  # noqa: ANN401
    if isinstance(output, Mapping):
        return {str(name): value for name, value in output.items()}
    if dataclasses.is_dataclass(output):
        return {f.name: getattr(output, f.name) for f in dataclasses.fields(output)}
    return output._asdict() if hasattr(output, "_asdict") else None


def _by_name(who: str, named: dict[str, Any], forms: list[Form]) -> tuple[Form, list[Any]]:
    by_kind: dict[str, list[Any]] = {}
    for name, value in named.items():
        plain = re.sub("^[pqxz]{1,2}_", "", name.lower()).replace("_", "")
        for kind, names in NAMES.items():
            if plain in names and value is not None:
                by_kind.setdefault(kind, []).append(value)
    fitting = [form for form in forms if all(len(by_kind.get(kind, ())) == 1 for kind in form)]
    most = max(map(len, fitting), default=0)
    fitting = [form for form in fitting if len(form) == most]
    if len(fitting) != 1:
        raise checks.value_error(
            f"fields of the {who}'s output that say which is {_listed(forms[0])}",
            ", ".join(named) or "none",
            f"Name them so, each once, and choose by {who}_output where there are several.",
        )
    return fitting[0], [by_kind[kind][0] for kind in fitting[0]]


def _halves(who: str, output: Tensor, shape: tuple[int, ...] | None) -> list[Any]:
    """Return `output` cut in two along the dimension in which it is twice `shape`."""
    for dim in range(1, len(shape or ())):
        if shape and output.shape == (*shape[:dim], 2 * shape[dim], *shape[dim + 1 :]):
            return list(output.chunk(2, dim))
    if who == "decoder" and shape and output.shape == (shape[0], 2 * math.prod(shape[1:])):
        return list(output.chunk(2, 1))
    raise checks.value_error(
        f"two outputs of the {who} of shape {shape}, or one of twice the width",
        f"{tuple(output.shape)}",
        f"Check {SIZES[who]}, and whether the {who} gives both.",
    )


def _fitted(who: str, kind: str, value: Tensor, shape: tuple[int, ...]) -> Tensor:
    checks.floating(f"{kind} from the {who}", value)
    is_flat = value.shape[:1] == shape[:1] and value.numel() == math.prod(shape)
    if value.shape == shape or (who == "decoder" and is_flat):
        return value.reshape(shape)
    raise checks.value_error(
        f"{kind} of shape {shape} from the {who}, the batch first",
        f"{tuple(value.shape)}",
        f"Check {SIZES[who]}, and that the {who} keeps the batch.",
    )


def _described(value: object) -> str:
    return f"Tensor {tuple(value.shape)}" if isinstance(value, Tensor) else type(value).__name__


def _listed(form: Form) -> str:
    return form[0] if len(form) == 1 else f"({', '.join(form)})"
