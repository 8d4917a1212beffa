"""What is measured of a pair on some data: to read, print and save."""

from __future__ import annotations

import math
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from rich.console import Console
from rich.table import Table
from torch import Tensor

from ppl_vae import plots
from ppl_vae.diagnostics.aggregate.active_units import ActiveUnits
from ppl_vae.diagnostics.aggregate.result import AggregatePosterior
from ppl_vae.diagnostics.estimate import Estimate, plus_minus
from ppl_vae.diagnostics.evidence.result import Evidence
from ppl_vae.diagnostics.verdicts import NORMAL_95, judge
from ppl_vae.diagnostics.worst import WorstExamples
from ppl_vae.inference.saving.files import write_json, write_text
from ppl_vae.inference.saving.run_folder import make_writable

if TYPE_CHECKING:
    import pandas as pd

_CAPTION = "per example, nats"


@dataclass(frozen=True, eq=False)
class Evaluation:
    """How good a pair is on some data.

    Attributes:
        pair: the pair's class, or what the functions are called.
        evidence: log p(x_i), per example.
        elbo: of the guide, per example, (batch,), in nats, by Monte Carlo.
        active_units: by the latents' names, or None where there are none to count.
        aggregate: the aggregate posterior, or None where it is not measured.
        notes: why something is None.
        worst: the images of the least evidence; None unless the pair is of images.
        parameters_hash: of the pair's parameters and buffers; None for functions.
    """

    pair: str
    evidence: Evidence
    elbo: Estimate[Tensor]
    active_units: dict[str, ActiveUnits] | None
    aggregate: AggregatePosterior | None
    notes: tuple[str, ...] = ()
    worst: WorstExamples | None = None
    parameters_hash: str | None = None

    @property
    def conclusions(self) -> list[str]:
        """What the numbers say, in sentences that their intervals support."""
        return judge(self.evidence, self.gap, self.active_units or {}, self.aggregate)

    @property
    def average_elbo(self) -> Estimate[float]:
        """The mean ELBO, with the error that draws and choice of examples leave."""
        return _mean(self.elbo.mean, self.elbo.standard_error)

    @property
    def gap(self) -> Estimate[float]:
        """The mean of evidence minus ELBO, example by example."""
        gap = self.evidence.mean - self.elbo.mean
        error = self.evidence.standard_error.hypot(self.elbo.standard_error)
        return _mean(gap, error)

    def to_dataframe(self) -> pd.DataFrame:
        """Return one row per example: evidence, ELBO and the gap between the two."""
        table = self.evidence.to_dataframe().rename(columns={"mean": "log_evidence"})
        table["elbo"] = self.elbo.mean.cpu().numpy()
        table["elbo_standard_error"] = self.elbo.standard_error.cpu().numpy()
        table["gap"] = table["log_evidence"] - table["elbo"]
        return table

    def summary(self) -> pd.DataFrame:
        """Return the averages, one row per quantity, in nats except for counts."""
        import pandas as pd

        table = pd.DataFrame(self._rows(), columns=["quantity", "value", "standard error"])
        return table.set_index("quantity")

    def _rows(self) -> list[tuple[str, float, float | None]]:
        rows: list[tuple[str, float, float | None]] = []
        for name, found in (
            ("NLL", self.evidence.nll),
            ("log evidence", self.evidence.average),
            ("ELBO", self.average_elbo),
            ("evidence - ELBO", self.gap),
        ):
            rows.append((name, found.mean, found.standard_error))
        for site, units in (self.active_units or {}).items():
            rows.append((f"active units of {site}, of {len(units.variance)}", units.count, None))
        if self.aggregate is not None:
            for name in ("mean_kl", "aggregate_kl", "moment_matched_kl", "mutual_information"):
                value = getattr(self.aggregate, name)
                error = value.standard_error if isinstance(value, Estimate) else None
                mean = value.mean if isinstance(value, Estimate) else value
                rows.append((name.replace("_", " ").replace("kl", "KL"), mean, error))
        return rows

    def _printed(self) -> list[tuple[str, str, str]]:
        """Return name, value with its error, and 95% interval of every average."""
        found = []
        for name, value, error in self._rows():
            if not error:
                found.append((name, f"{value:.6g}", "-"))
                continue
            half = NORMAL_95 * error
            places = min(max(0, 1 - math.floor(math.log10(half))), 9) if math.isfinite(half) else 0
            ends = (f"{value + sign * half:.{places}f}" for sign in (-1, 1))
            found.append((name, plus_minus(value, error), " to ".join(ends)))
        return found

    def print(self, console: Console | None = None) -> None:
        """Print the evidence with all that belongs to it, and the averages as a table."""
        console = console or Console()
        console.print(self.pair, style="bold", highlight=False)
        console.print(self.evidence.describe(), highlight=False)
        table = Table("quantity", title=_CAPTION, title_justify="left")
        table.add_column("value", justify="right")
        for name, value, _ in self._printed():
            table.add_row(name, value)
        console.print(table)
        for note in self._remarks():
            console.print(f"  {note}", style="dim", highlight=False)

    def __str__(self) -> str:
        lines = [self.pair, str(self.evidence), f"  ELBO {self.average_elbo}, below by {self.gap}"]
        for site, units in (self.active_units or {}).items():
            lines.append(f"  active units of {site}: {units}")
        return "\n".join([*lines, *(f"  {note}" for note in self._remarks())])

    def to_json(self) -> dict[str, Any]:
        """Return the averages and how they were found, as JSON's types."""
        evidence = self.evidence
        return {
            "pair": self.pair,
            "nll": evidence.nll.mean,
            "nll_standard_error": evidence.nll.standard_error,
            "nll_monte_carlo_error": evidence.monte_carlo_error,
            "nll_interval_95": list(evidence.interval),
            "estimator": evidence.method,
            "num_samples": evidence.num_samples,
            "num_examples": len(evidence),
            **vars(evidence.source),
            "elbo": self.average_elbo.mean,
            "elbo_standard_error": self.average_elbo.standard_error,
            "active_units": {n: u.count for n, u in (self.active_units or {}).items()},
            "warning": evidence.warning,
            "conclusions": self.conclusions,
            "tables": [
                {
                    "caption": _CAPTION,
                    "header": ["quantity", "value", "95% interval"],
                    "rows": self._printed(),
                }
            ],
            "notes": list(self.notes),
        }

    def save(self, folder: str | Path) -> Path:
        """Write ``evaluation.json``, ``evaluation.csv`` (averages) and ``examples.csv``.

        Where they are measured, ``aggregate_posterior.csv`` (by latent dimension) and
        ``worst.png`` (the ten images of the least evidence, above their reconstructions) too.

        Raises:
            PermissionError: the folder cannot be written.
        """
        folder = Path(folder)
        make_writable(folder)
        write_json(folder / "evaluation.json", self.to_json())
        write_text(folder / "evaluation.csv", self.summary().to_csv())
        write_text(folder / "examples.csv", self.to_dataframe().to_csv())
        if self.aggregate is not None:
            table = self.aggregate.to_dataframe()
            write_text(folder / "aggregate_posterior.csv", table.to_csv())
        if self.worst is not None:
            plots.save(self.worst.plot(), folder / "worst.png")
        return folder

    def _remarks(self) -> list[str]:
        found = list(self.notes)
        if self.aggregate is not None:
            warning = self.aggregate.mutual_information.warning
            found += [self.aggregate.ceiling_note, warning and f"Mutual information: {warning}"]
        return [note for note in found if note]


def _mean(values: Tensor, errors: Tensor) -> Estimate[float]:
    """Return the mean over the examples; its error holds their spread and that of each."""
    count = len(values)
    own = float(errors.double().square().sum().sqrt()) / count
    spread = float(values.double().std()) / math.sqrt(count) if count > 1 else 0.0
    return Estimate(float(values.double().mean()), max(own, spread), count)
