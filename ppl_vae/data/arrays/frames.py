"""Columns of a pandas DataFrame as arrays."""

from __future__ import annotations

import difflib
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import pandas as pd

from ppl_vae import checks
from ppl_vae.data.arrays.columns import as_array

LISTED = 20


def read_frame(
    frame: object,
    arguments: Mapping[str, Any],
    *,
    mask: str | None,
    categories: Mapping[str, Sequence[Any]],
) -> dict[str, Any]:
    """Return what `ArrayData` takes; see its `from_dataframe`, which says what is refused."""
    if not isinstance(frame, pd.DataFrame):
        remedy = "Pass frame.to_pandas()." if hasattr(frame, "to_pandas") else "Make one of it."
        raise checks.type_error("a pandas DataFrame", type(frame).__name__, remedy)
    if frame.empty:
        raise checks.value_error(
            "a table with at least one row", f"shape {frame.shape}", "Pass data."
        )
    if not arguments:
        raise checks.value_error(
            "the columns of each argument", "none", "Name them, for instance x=['a', 'b'], y='c'."
        )
    if mask is not None and (mask in arguments or arguments.get("x") is None):
        raise checks.value_error(
            "mask as a new argument's name, beside columns for x",
            f"mask={mask!r} with the arguments {', '.join(arguments) or 'none'}",
            "Name columns by x=, and the argument that is to say which entries are present.",
        )
    for name in categories:
        checks.name("argument with categories", name, arguments)
    arrays: dict[str, Any] = {}
    features: dict[str, list[str]] = {}
    coded: dict[str, tuple[Any, ...]] = {}
    for argument, chosen in arguments.items():
        if chosen is None:
            arrays[argument] = None
            continue
        columns = _chosen(frame, argument, chosen)
        known = categories.get(argument)
        values, names, present = as_array(argument, columns, known, lone=not _is_list(chosen))
        masked = mask is not None and argument == "x"
        if not (masked or present.all()):
            raise _missing(argument, columns)
        arrays[argument] = np.where(present, values, np.zeros_like(values)) if masked else values
        if mask is not None and masked:
            arrays[mask] = present
        features[argument] = [_shown(column.name) for column in columns]
        if names is not None:
            coded[argument] = names
    return {"arrays": arrays, "features": features, "categories": coded}


def _is_list(chosen: object) -> bool:
    return isinstance(chosen, (list, pd.Index, np.ndarray))


def _shown(name: object) -> str:
    return name if isinstance(name, str) else repr(name)


def _chosen(frame: pd.DataFrame, argument: str, chosen: Any) -> list[pd.Series]:  # noqa: ANN401
    names = list(chosen) if _is_list(chosen) else [chosen]
    if not names:
        raise checks.value_error(
            f"{argument} as a column's name or several", "an empty list", "Name a column."
        )
    return [_column(frame, argument, name) for name in names]


def _column(frame: pd.DataFrame, argument: str, name: Any) -> pd.Series:  # noqa: ANN401
    try:
        found = frame[name] if name in frame.columns else None
    except TypeError:  # not a name at all, such as a Series
        raise checks.type_error(
            f"{argument} as a column's name or a list of names",
            type(name).__name__,
            "Pass the name, not the column.",
        ) from None
    if found is None:
        raise _unknown(argument, name, frame.columns)
    if isinstance(found, pd.DataFrame):
        levels = frame.columns.nlevels > 1 and not isinstance(name, tuple)
        raise checks.value_error(
            f"one column {name!r} for {argument}",
            f"{found.shape[1]} columns",
            "Name one by all its levels, as a tuple." if levels else "Rename them.",
        )
    return found


def _unknown(argument: str, name: object, columns: pd.Index) -> ValueError:
    known = {_shown(column): column for column in columns}
    close = difflib.get_close_matches(_shown(name), known, n=1, cutoff=0.5)
    more = f" and {len(columns) - LISTED} more" if len(columns) > LISTED else ""
    return checks.value_error(
        f"{argument} as one of the columns {', '.join(list(known)[:LISTED])}{more}",
        repr(name),
        f"Did you mean {known[close[0]]!r}?" if close else "Choose one of them.",
    )


def _missing(argument: str, columns: list[pd.Series]) -> ValueError:
    worst = max(columns, key=lambda column: int(column.isna().sum()))
    remedy = "Drop those rows, for instance with frame.dropna(), or fill them in"
    if argument == "x":
        remedy += ", or name the program's mask, for instance mask='mask'"
    return checks.value_error(
        f"{argument} without missing values",
        f"{int(worst.isna().sum())} of {len(worst)} missing in column {worst.name!r}",
        f"{remedy}.",
    )
