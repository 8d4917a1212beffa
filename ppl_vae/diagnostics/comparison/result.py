"""The result of a comparison: rows to read, print, save and draw."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING

from matplotlib.axes import Axes
from rich.console import Console
from rich.table import Table

from ppl_vae import checks, plots
from ppl_vae.diagnostics.comparison.replicates import OVERALL
from ppl_vae.diagnostics.comparison.row import Z_LIMIT, Row
from ppl_vae.diagnostics.comparison.verdict.sentences import conclusions
from ppl_vae.diagnostics.comparison.verdict.work import comparable, groups_of, relative_work
from ppl_vae.diagnostics.estimate import counted
from ppl_vae.inference.saving.files import write_json

if TYPE_CHECKING:
    import pandas as pd

INTERVALS = (
    "Intervals of variance x time hold together at 95%, with every time near its quartiles."
)


@dataclass
class ElboComparison:
    """Estimators side by side; index it by an estimator's name.

    Attributes:
        rows: one per estimator.
        pair: the pair's class.
        num_examples: over which values and gradients are summed.
        exact_value: the ELBO in closed form, or None.
        num_replicates: that every estimator gave.
        device: where it was measured.
        dtype: of the parameters.
        left_out: why other estimators cannot be right for the pair, by name; empty if the
            estimators were named.
    """

    rows: list[Row]
    pair: str
    num_examples: int
    exact_value: float | None
    num_replicates: int
    device: str
    dtype: str
    left_out: dict[str, str] = field(default_factory=dict)

    def __getitem__(self, name: str) -> Row:
        checks.name("estimator", name, [row.name for row in self.rows])
        return next(row for row in self.rows if row.name == name)

    @property
    def title(self) -> str:
        """What was measured, in a line."""
        exact = "" if self.exact_value is None else f", exact ELBO {self.exact_value:.6g}"
        return f"{self.pair}, {counted(self.num_examples, 'example')}{exact}"

    @property
    def verdicts(self) -> list[str]:
        """What the measurements say about the estimators, in words."""
        agreeing: dict[str, list[str]] = {}
        for row in self.rows:
            if row.looks_biased is False:
                agreeing.setdefault(row.reference, []).append(row.name)
        lines = [row.verdict for row in self.rows if row.looks_biased]
        for reference, names in agreeing.items():
            lines.append(f"No bias is seen, against {reference}, in {', '.join(names)}.")
        reasons: dict[str, list[str]] = {}
        for name, reason in self.left_out.items():
            reasons.setdefault(reason, []).append(name)
        lines += [f"Left out: {', '.join(names)}: {why}" for why, names in reasons.items()]
        return lines

    @property
    def notes(self) -> list[str]:
        """How to read the numbers."""
        notes = [
            f"{self.num_replicates} gradients each, {self._particles}, "
            f"{self.dtype} on {self.device}; nats, summed over the examples; "
            "± is one standard error.",
            f"A bias is called one above {Z_LIMIT} standard errors, which chance alone gives once "
            "in 150,000 times; the gradient's is tested along a random direction in each group.",
            "SNR is the length of the mean gradient over the gradient's standard deviation.",
            "Noise is common: replicate i of every estimator starts from the same random stream.",
            "variance x time is relative to the least above zero: the work for a given precision.",
        ]
        if any(row.reference not in ("", "closed form") for row in self.rows):
            notes.append(
                "Where there is no closed form, bias is the mean difference, replicate by "
                "replicate, from the other estimators of the same bound that are unbiased for "
                "every pair they serve, weighed by their precision."
            )
        return notes

    def print(self, console: Console | None = None) -> None:
        """Print value, gradient and cost as three tables, and how to read them."""
        console = console or Console()
        console.print(self.title, style="bold", highlight=False)
        for caption, header, lines in self._tables():
            table = Table(title=caption, title_justify="left")
            for number, name in enumerate(header):
                table.add_column(name, justify="right" if number else "left", no_wrap=not number)
            for line in lines:
                table.add_row(*line)
            console.print(table)
        for verdict in self.verdicts:
            console.print(f"  {verdict}", highlight=False)
        for note in self.notes:
            console.print(f"  {note}", style="dim", highlight=False)

    def to_markdown(self) -> str:
        """Return the tables and their notes as Markdown."""
        parts = [f"**{self.title}**"]
        for caption, header, lines in self._tables():
            ruled = [header, ["---"] + ["---:"] * (len(header) - 1), *lines]
            parts.append(caption)
            parts.append("\n".join(f"| {' | '.join(line)} |" for line in ruled))
        parts.append("\n".join(f"* {line}" for line in [*self.verdicts, *self.notes]))
        return "\n\n".join(parts) + "\n"

    def to_dataframe(self) -> pd.DataFrame:
        """Return every number, one row per estimator."""
        import pandas as pd

        return pd.DataFrame([row.to_record() for row in self.rows]).set_index("estimator")

    def plot(self, ax: Axes | None = None) -> Axes:
        """Draw the gradient variances by parameter group, closed forms as lines across."""
        noisy = [row for row in self.rows if row.gradient_variance[OVERALL].mean > 0]
        return plots.gradient_variance_bars(
            {r.name: {g: e.mean for g, e in r.gradient_variance.items()} for r in noisy},
            {r.name: {g: e.standard_error for g, e in r.gradient_variance.items()} for r in noisy},
            ax,
            exact={r.name: r.closed_form_gradient_variance for r in noisy},
            title=self.title,
        )

    def save(self, folder: str | Path) -> None:
        """Write the tables, what they say, and the picture into `folder`.

        ``comparison.csv`` holds every number, ``comparison.md`` and ``comparison.json`` what is
        printed, ``work.csv`` variance x time by parameter group with intervals, ``sites.csv``
        what each estimator does with each site, ``comparison.png`` the gradient variances.
        """
        import pandas as pd

        folder = Path(folder)
        folder.mkdir(parents=True, exist_ok=True)
        self.to_dataframe().to_csv(folder / "comparison.csv")
        (folder / "comparison.md").write_text(self.to_markdown())
        write_json(folder / "comparison.json", self.to_json())
        work = [
            vars(each)
            for family in comparable(self.rows)
            for group in groups_of(self.rows)
            for each in relative_work(family, group)
        ]
        columns = ["estimator", "group", "ratio", "low", "high"]
        pd.DataFrame(work, columns=columns).to_csv(folder / "work.csv", index=False)
        sites = [{"estimator": r.name, **vars(site)} for r in self.rows for site in r.sites]
        pd.DataFrame(sites).to_csv(folder / "sites.csv", index=False)
        plots.save(self.plot(), folder / "comparison.png")

    def to_json(self) -> dict[str, object]:
        """Return what is printed, and which estimators take least work, as JSON's types."""
        names = ("pair", "num_examples", "num_replicates", "device", "dtype", "exact_value")
        return {
            "title": self.title,
            **{name: getattr(self, name) for name in names},
            "conclusions": [*conclusions(self.rows), *self.verdicts],
            "notes": [*self.notes, INTERVALS],
            "marks": {row.name: row.mark for row in self.rows},
            "tables": [
                {"caption": caption, "header": header, "rows": rows}
                for caption, header, rows in self._tables()
            ],
        }

    @property
    def _particles(self) -> str:
        """How many particles an estimate has, and which differ from the most of them."""
        numbers = [row.num_particles for row in self.rows]
        usual = max(sorted(numbers), key=numbers.count)
        text = counted(usual, "particle")
        for number in sorted({*numbers} - {usual}):
            names = [row.name for row in self.rows if row.num_particles == number]
            text += f" ({number} of {', '.join(names)})"
        return text

    def _tables(self) -> list[tuple[str, list[str], list[list[str]]]]:
        groups = [g for g in self.rows[0].gradient_variance if g != OVERALL]
        groups = [OVERALL] if len(groups) == 1 else [OVERALL, *groups]
        has_closed_form = any(row.closed_form_gradient_variance for row in self.rows)
        values = [[row.name, str(row.value), *_bias_cells(row)] for row in self.rows]
        header = ["estimator", "bias z", "SNR"]
        for group in groups:
            header.append("variance" if group == OVERALL else group)
            header += ["closed form"] if has_closed_form else []
        gradients = []
        for row in self.rows:
            z_score = row.gradient_bias_z_score
            line = [row.name, "-" if z_score is None else f"{z_score:.1f}"]
            line.append(f"{row.signal_to_noise[OVERALL]:.3g}")
            for group in groups:
                line.append(str(row.gradient_variance[group]))
                if has_closed_form:
                    exact = row.closed_form_gradient_variance.get(group)
                    line.append("-" if exact is None else f"{exact:.6g}")
            gradients.append(line)
        costs = [
            [
                r.name,
                f"{r.milliseconds:.3g}",
                f"{r.quartiles[0]:.2g}-{r.quartiles[1]:.2g}",
                _size(r.peak_bytes),
                f"{r.relative_work:.2f}",
            ]
            for r in self.rows
        ]
        cost_header = ["estimator", "ms", "quartiles", "memory", "variance x time"]
        return [
            ("value", ["estimator", "ELBO", "bias", "bias z", "against"], values),
            ("gradient", header, gradients),
            ("cost of a gradient", cost_header, costs),
        ]


def _bias_cells(row: Row) -> list[str]:
    if row.bias is None or row.bias_z_score is None:
        return ["-", "-", "-"]
    return [str(row.bias), f"{row.bias_z_score:+.1f}", row.reference]


def _size(count: float) -> str:
    for unit in ("B", "kB", "MB"):
        if count < 1000:
            return f"{count:.3g} {unit}"
        count /= 1000
    return f"{count:.3g} GB"
