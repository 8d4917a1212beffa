"""Tables of numbers as blocks: whole if they are short, else what is to be known of them."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import pandas as pd

from ppl_vae.report.blocks import Cell, Table
from ppl_vae.report.charts import Histogram, histogram

MOST_ROWS = 60
NUM_WORST = 10
_QUANTILES = (0.0, 0.05, 0.25, 0.5, 0.75, 0.95, 1.0)


def numbers(table: pd.DataFrame, name: str) -> pd.Series:
    """Return a column as numbers, NaN where it holds none."""
    column: Any = pd.to_numeric(table[name], errors="coerce")
    return column.astype(float)


def whole(table: pd.DataFrame, caption: str, link: str = "") -> Table:
    """Return all of a table; truths read yes and no."""
    columns = [_cells(column) for _, column in table.items()]
    return Table(caption, _words(table.columns), list(zip(*columns, strict=True)), link)


def short_or_summary(table: pd.DataFrame, caption: str, link: str) -> list[object]:
    """Return the table, or for more than some rows the quantiles of its columns."""
    if len(table) <= MOST_ROWS:
        return [whole(table, caption, link)]
    return [quantiles(table, f"{caption}: quantiles of {len(table)} rows", link)]


def quantiles(table: pd.DataFrame, caption: str, link: str = "") -> Table:
    """Return the quantiles of every column of numbers, a row each."""
    header = ["column", "least", "5%", "25%", "median", "75%", "95%", "greatest"]
    rows = []
    for name in _numeric(table):
        values = table[name].quantile(list(_QUANTILES))
        rows.append([Cell(_word(name)), *(_number(value) for value in values)])
    return Table(caption, header, rows, link)


def per_example(table: pd.DataFrame, link: str) -> list[object]:
    """Return quantiles, a histogram and the ten worst of a table with a row an example.

    The worst have the least ``log_evidence``; a table without that column has none.
    """
    found: list[object] = [quantiles(table, f"Quantiles over {len(table)} examples", link)]
    for name in ("log_evidence", "gap"):
        chart = _histogram(table, name)
        if chart is not None:
            found.append(chart)
    if "log_evidence" in table and len(table) > NUM_WORST:
        worst = table.sort_values("log_evidence").head(NUM_WORST)
        found.append(whole(worst, "The ten examples of the least evidence, the worst first"))
    return found


def _histogram(table: pd.DataFrame, name: str) -> Histogram | None:
    if name not in _numeric(table):
        return None
    word = _word(name)
    return histogram(table[name], x_label=f"{word} (nats)", caption=f"{word} over the examples")


def _numeric(table: pd.DataFrame) -> list[str]:
    kinds = table.select_dtypes("number").columns
    return [name for name in kinds if name not in ("example", "dimension", "epoch")]


def _cells(column: pd.Series) -> list[Cell]:
    if pd.api.types.is_bool_dtype(column):
        return [Cell("yes", mark="good") if each else Cell("NO", mark="bad") for each in column]
    if pd.api.types.is_numeric_dtype(column):
        return [_number(each) for each in column]
    return [Cell("" if pd.isna(each) else str(each)) for each in column]


def _number(value: float) -> Cell:
    if math.isnan(value):
        return Cell("")
    return Cell(f"{value:.6g}", float(value) if math.isfinite(value) else None)


def _words(names: Sequence[object] | pd.Index) -> list[str]:
    return [_word(name) for name in names]


def _word(name: object) -> str:
    return str(name).replace("_", " ")
