"""Columns of a table by their kinds: numbers to floats, names to codes."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import pandas as pd
from pandas.api import types

from ppl_vae import checks

Array = np.ndarray[Any, Any]
Names = tuple[Any, ...]

NUMBERS, NAMES = {"whole numbers", "numbers", "booleans"}, {"categories", "strings"}
INFERRED = {
    "string": "strings",
    "boolean": "booleans",
    "integer": "whole numbers",
    "floating": "numbers",
    "mixed-integer-float": "numbers",
    "decimal": "numbers",
    "empty": "numbers",
}
TIMES = ("datetime64", "datetime", "date", "timedelta64", "timedelta", "time")


def as_array(
    argument: str, columns: list[pd.Series], known: Sequence[Any] | None, *, lone: bool
) -> tuple[Array, Names | None, Array]:
    """Return the values, (n,) if `lone`, else (n, k); the codes' names; which values are present.

    Missing numbers are NaN, missing codes -1.
    """
    kinds = {_kind(argument, column) for column in columns}
    present = _stacked([~column.isna().to_numpy(bool) for column in columns], lone=lone)
    if kinds <= NUMBERS and known is None and not (lone and argument != "x"):
        return _stacked([_floats(column) for column in columns], lone=lone), None, present
    if lone:
        (column,) = columns
        if known is None and kinds == {"numbers"}:
            return _floats(column), None, present
        if known is None and kinds == {"whole numbers"}:
            return _whole(argument, column, present), None, present
        codes, names = coded(argument, column, known)
        return codes, names, present
    if not kinds <= NAMES:
        if known is not None and kinds <= NUMBERS:
            raise checks.value_error(
                "categories for columns of categories or strings",
                f"categories of {argument}, which holds numbers",
                "Leave them out, or convert the columns with astype('category').",
            )
        raise checks.type_error(
            f"{argument} of columns of one kind",
            f"columns of {', '.join(sorted(kinds))}",
            "Give categories an argument of their own, or make them numbers, for instance with "
            "pandas.get_dummies.",
        )
    if known is not None and len(known) != len(columns):
        raise checks.value_error(
            f"categories of {argument} for each of its {len(columns)} columns",
            f"{len(known)}",
            "Pass one list per column.",
        )
    each = known or [None] * len(columns)
    found = [coded(argument, column, own) for column, own in zip(columns, each, strict=True)]
    return _stacked([codes for codes, _ in found], lone=lone), tuple(n for _, n in found), present


def coded(argument: str, column: pd.Series, known: Sequence[Any] | None) -> tuple[Array, Names]:
    """Return codes that count from 0, -1 where a value is missing, and what they stand for.

    Raises:
        TypeError: a column of another kind than numbers, booleans, categories and strings.
        ValueError: a value that is none of the known ones.
    """
    if _kind(argument, column) == "booleans":
        column = column.astype("boolean").astype(pd.CategoricalDtype([False, True]))
    elif not isinstance(column.dtype, pd.CategoricalDtype):
        column = column.astype("category")
    codes = column.cat.codes.to_numpy(np.int64)
    own = column.cat.categories
    if known is None:
        return codes, tuple(own.tolist())
    places = {value: place for place, value in enumerate(known)}
    strange = [value for value in own[np.unique(codes[codes >= 0])] if value not in places]
    if strange or len(places) < len(known):
        raise checks.value_error(
            f"{argument} among its {len(known)} different categories",
            f"the value {strange[0]!r}" if strange else "a category twice",
            "Add what is missing to categories=, or leave those rows out.",
        )
    table = np.array([*(places.get(value, -1) for value in own), -1], dtype=np.int64)
    return table[codes], tuple(known)


def numbers(argument: str, column: pd.Series) -> Array:
    """Return a column of numbers as floats; missing ones are NaN.

    Raises:
        TypeError: a column of another kind.
    """
    kind = _kind(argument, column)
    if kind not in NUMBERS:
        raise checks.type_error(
            f"{argument} as a column of numbers",
            f"column {column.name!r} of {kind}",
            "Choose one.",
        )
    return _floats(column)


def _kind(argument: str, column: pd.Series) -> str:
    dtype = column.dtype
    if isinstance(dtype, pd.CategoricalDtype):
        return "categories"
    if types.is_bool_dtype(dtype):
        return "booleans"
    if types.is_integer_dtype(dtype):
        return "whole numbers"
    if types.is_numeric_dtype(dtype) and not types.is_complex_dtype(dtype):
        return "numbers"
    if isinstance(dtype, pd.StringDtype):
        return "strings"
    found = types.infer_dtype(column, skipna=True)
    if found in INFERRED:
        return INFERRED[found]
    raise checks.type_error(
        f"{argument} of columns of numbers, booleans, categories or strings",
        f"column {column.name!r} of {found} values, dtype {dtype}",
        "Make numbers of it, for instance with (column - column.min()).dt.total_seconds()."
        if found in TIMES
        else "Make it one kind with astype, or leave it out.",
    )


def _floats(column: pd.Series) -> Array:
    return column.to_numpy(dtype=np.float64, na_value=np.nan)


def _whole(argument: str, column: pd.Series, present: Array) -> Array:
    if not present.all():
        return np.where(present, _floats(column), -1).astype(np.int64)
    if int(column.max()) > np.iinfo(np.int64).max or int(column.min()) < np.iinfo(np.int64).min:
        raise checks.value_error(
            f"{argument} of 64 bits",
            f"{column.max()}",
            "Number the values with astype('category').",
        )
    return column.to_numpy(dtype=np.int64)


def _stacked(arrays: list[Array], *, lone: bool) -> Array:
    return arrays[0] if lone else np.stack(arrays, axis=1)
