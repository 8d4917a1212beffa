"""What the jobs of a sweep come to: means over seeds with intervals, a verdict, a picture."""

from __future__ import annotations

import json
import math
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import ArrayLike
from rich.console import Console
from rich.table import Table
from scipy.special import stdtrit

from ppl_vae import plots
from ppl_vae.diagnostics.estimate import counted
from ppl_vae.inference.saving.files import write_text
from ppl_vae.sweeping.words import interval_text, label, text

# Columns of a job's row that are averaged, the one that decides first, with their words.
MEASURES = {
    "log_evidence": "log p(x)",
    "test_elbo": "test ELBO",
    "train_elbo": "training ELBO",
    "seconds": "seconds",
}
DONE, FAILED = "done", "failed"
DATA = ("data", "binarize")  # settings of what is measured on


@dataclass(frozen=True)
class Summary:
    """A sweep's rows, by setting.

    Attributes:
        settings: by job, without the seed; what is the same in all is not shown.
        rows: of the jobs that have ended, in the same order as `settings`.
    """

    settings: Sequence[Mapping[str, Any]]
    rows: Sequence[Mapping[str, Any]]

    @property
    def varied(self) -> list[str]:
        """The settings that differ between jobs; of one job the first."""
        names = list(dict.fromkeys(name for each in self.settings for name in each))
        found = [n for n in names if len({_shown(each.get(n)) for each in self.settings}) > 1]
        return found or names[:1]

    def to_dataframe(self) -> pd.DataFrame:
        """Return a row a setting: its jobs, and of each measure mean and 95% interval.

        The intervals are Student's t over seeds; those of one seed are NaN. A job whose number is
        not finite makes the mean so too.
        """
        entries = []
        for group in self._groups().values():
            done = [row for row in group if row.get("status") == DONE]
            entry = {"seeds": len(done), "failed": len(group) - len(done)}
            for name in MEASURES:
                values = [float(row[name]) for row in done if row.get(name) not in (None, "")]
                mean, half = t_interval(values) if values else (math.nan, math.nan)
                entry |= {name: mean, f"{name}_low": mean - half, f"{name}_high": mean + half}
            entries.append(entry)
        named = pd.DataFrame(list(self._groups()), columns=pd.Index(self.varied))
        table = pd.concat([named, pd.DataFrame(entries)], axis="columns")
        return table.dropna(axis="columns", how="all")

    @property
    def measure(self) -> str:
        """The measure that decides: the first that there is."""
        table = self.to_dataframe()
        return next((name for name in MEASURES if name in table), "")

    @property
    def conclusions(self) -> list[str]:
        """Which setting has the greatest mean on its data, and which cannot be told from it."""
        name = self.measure
        if name in ("", "seconds"):
            return ["No job was finished."]
        means = self.to_dataframe()[name].tolist()
        on: dict[str, list[int]] = {}
        for number, values in enumerate(self._groups()):
            if not math.isnan(means[number]):
                data = [(n, v) for n, v in zip(self.varied, values, strict=True) if n in DATA]
                on.setdefault(label(*zip(*data, strict=True)) if data else "", []).append(number)
        lines = []
        for data, numbers in on.items():
            start = f"On {data}: " if len(on) > 1 else ""
            lines += [start + line for line in self._best_of(numbers)]
        failed = sum(row.get("status") == FAILED for row in self.rows)
        return [*lines, f"{failed} of {len(self.rows)} jobs failed."] if failed else lines

    def _best_of(self, numbers: Sequence[int]) -> list[str]:
        """Return what there is to say of settings that were measured on the same data."""
        table, name, labels = self.to_dataframe(), self.measure, self._labels()
        seeds = table["seeds"].tolist()
        best = max(numbers, key=table[name].tolist().__getitem__)
        found = interval_text(table.iloc[best], name)
        lines = [
            f"{labels[best]} has the greatest mean {MEASURES[name]}: {found} nats an example, "
            f"{counted(seeds[best], 'seed')}."
        ]
        near = [labels[other] for other in self._not_below(best, numbers)]
        if near and max(seeds[number] for number in numbers) == 1:
            lines.append("One seed cannot tell a difference from chance.")
        elif near:
            lines.append(
                "Not told from it by 95% intervals of the differences, seed by seed: "
                f"{'; '.join(near)}."
            )
        return lines

    def save(self, folder: Path) -> dict[str, Any]:
        """Write summary.csv and sweep.png; return what a page shows of it."""
        write_text(folder / "summary.csv", self.to_dataframe().to_csv(index=False))
        if self.measure:
            plots.save(self.plot(), folder / "sweep.png")
        header, cells = self._texts()
        caption = "Means over seeds with 95% intervals, in nats an example"
        errors = Counter(row["error"] for row in self.rows if row.get("status") == FAILED)
        tables = [{"caption": caption, "header": header, "rows": cells}]
        if errors:
            reasons = [[error, str(count)] for error, count in errors.most_common()]
            header = ["error", "jobs"]
            tables.append({"caption": "Why jobs failed", "header": header, "rows": reasons})
        return {"conclusions": self.conclusions, "tables": tables}

    def print(self, console: Console) -> None:
        """Print the table and what it says."""
        header, cells = self._texts()
        table = Table(title="Means over seeds with 95% intervals")
        for number, name in enumerate(header):
            table.add_column(name, justify="left" if number < len(self.varied) else "right")
        for line in cells:
            table.add_row(*line)
        console.print(table)
        for line in self.conclusions:
            console.print(line, highlight=False, markup=False)

    def plot(self) -> plots.Axes:
        """Draw the deciding measure over the setting that has most numbers, a curve a rest."""
        table, name, varied = self.to_dataframe(), self.measure, self.varied
        full = [n for n in varied if n in table and not table[n].isna().to_numpy().any()]
        numeric = [n for n in full if pd.api.types.is_numeric_dtype(table[n])]
        across = max(numeric or varied, key=lambda n: len(set(table[n])))
        rest = [n for n in varied if n != across]
        if not numeric:
            table[across] = table[across].map(text)
        curves: dict[str, tuple[ArrayLike, ...]] = {}
        groups = table.groupby(rest, sort=False, dropna=False) if rest else [((), table)]
        for named, part in groups:
            part = part.sort_values(across) if numeric else part
            values = named if isinstance(named, tuple) else (named,)
            columns = (across, name, f"{name}_low", f"{name}_high")
            curves[label(rest, values)] = tuple(
                part[c].to_numpy() if c in part else part[name].to_numpy() for c in columns
            )
        return plots.means_with_intervals(
            curves,
            x_label=across.replace("_", " "),
            y_label="s" if name == "seconds" else f"{MEASURES[name]} per example (nats)",
        )

    def _groups(self) -> dict[tuple[Any, ...], list[Mapping[str, Any]]]:
        groups: dict[tuple[Any, ...], list[Mapping[str, Any]]] = {}
        for settings, row in zip(self.settings, self.rows, strict=True):
            key = tuple(_shown(settings.get(name)) for name in self.varied)
            groups.setdefault(key, []).append(row)
        return groups

    def _labels(self) -> list[str]:
        return [label(self.varied, values) for values in self._groups()]

    def _not_below(self, best: int, numbers: Sequence[int]) -> list[int]:
        """Return the settings whose difference to the best one has an interval that holds 0."""
        by_seed = []
        for group in self._groups().values():
            found = {row.get("seed"): _number(row.get(self.measure)) for row in group}
            by_seed.append({str(seed): v for seed, v in found.items() if not math.isnan(v)})
        near = []
        for number in numbers:
            other = by_seed[number]
            shared = [by_seed[best][seed] - other[seed] for seed in other if seed in by_seed[best]]
            mean, half = t_interval(shared) if shared else (math.nan, math.nan)
            if number != best and other and not mean - half > 0:
                near.append(number)
        return near

    def _texts(self) -> tuple[list[str], list[list[str]]]:
        table = self.to_dataframe()
        shown = [name for name in MEASURES if name in table and name != "train_elbo"]
        if "test_elbo" not in table and "train_elbo" in table:
            shown.insert(-1, "train_elbo")
        header = [name.replace("_", " ") for name in self.varied]
        header += ["seeds", "failed", *(MEASURES[name] for name in shown)]
        cells = []
        for values, (_, row) in zip(self._groups(), table.iterrows(), strict=True):
            line = [*map(text, values), f"{row['seeds']:g}", f"{row['failed']:g}"]
            cells.append([*line, *(interval_text(row, name) for name in shown)])
        return header, cells


def t_interval(values: ArrayLike) -> tuple[float, float]:
    """Return the mean of some numbers, and half of its 95% interval by Student's t.

    Example:
        >>> mean, half = t_interval([1.0, 2.0, 3.0])
        >>> mean, round(half, 4)
        (2.0, 2.4841)
    """
    found = np.asarray(values, dtype=float)
    count = len(found)
    if count < 2 or not np.isfinite(found).all():
        return float(found.mean()), math.nan
    half = float(stdtrit(count - 1, 0.975)) * float(found.std(ddof=1)) / math.sqrt(count)
    return float(found.mean()), half


def _number(cell: Any) -> float:  # noqa: ANN401
    return math.nan if cell in (None, "") else float(cell)


def _shown(value: Any) -> Any:  # noqa: ANN401
    """Return a setting as a cell: a list or a table as text, so that it can be compared."""
    return json.dumps(value) if isinstance(value, (dict, list)) else value
