"""The ranks of simulated latents: p-values and pictures to read, print, tabulate and save."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from matplotlib.axes import Axes
from numpy.typing import NDArray
from rich.console import Console
from rich.table import Table
from scipy import special
from torch import Tensor

from ppl_vae import checks, plots
from ppl_vae.diagnostics.calibration.power import LEVEL, check_level
from ppl_vae.diagnostics.calibration.uniformity import (
    Band,
    counts_below,
    holm,
    p_values,
    simultaneous_band,
)
from ppl_vae.diagnostics.estimate import Estimate, counted, plus_minus
from ppl_vae.inference.saving.files import write_json, write_text
from ppl_vae.inference.saving.run_folder import make_writable

if TYPE_CHECKING:
    import pandas as pd

Numbers = NDArray[Any]


@dataclass(frozen=True, eq=False)
class Calibration:
    """Where the latents that made the data stand among the guide's draws, number by number.

    Attributes:
        pair: the pair's class, or what the functions are called.
        names: of the latent numbers, ``z[0]`` and so on, (numbers,).
        ranks: from 0 to `num_draws`, (simulations, numbers), on the CPU; uniform where the guide
            is the posterior.
        num_draws: of the guide for each simulation.
        p_values: of uniform ranks, (numbers,), each by itself: the probability that some part of
            the distribution function is as far out as here. Exact for any number of simulations.
        adjusted: the same for all numbers together, by Holm's method, (numbers,).
        shift: how much too high the guide is, in standard deviations of the posterior, (numbers,).
        scale: the guide's standard deviation over that of the posterior, (numbers,).

    `shift` and `scale` are those of a Normal guide for a Normal posterior whose ranks have the
    mean and the variance that were found, on Normal scores. They describe, and do not test; where
    most ranks are at an end, they say less than there is.
    """

    pair: str
    names: tuple[str, ...]
    ranks: Tensor
    num_draws: int
    p_values: Tensor
    adjusted: Tensor
    shift: Estimate[Tensor]
    scale: Estimate[Tensor]

    @classmethod
    def of(cls, pair: str, ranks: dict[str, Tensor], num_draws: int) -> Calibration:
        """Return the result of ranks by site, (simulations, numbers of the site) each."""
        names = [
            name if each.shape[1] == 1 else f"{name}[{number}]"
            for name, each in ranks.items()
            for number in range(each.shape[1])
        ]
        joined = torch.cat(list(ranks.values()), -1)
        p = p_values(joined.numpy(), num_draws + 1)
        shift, scale = _moments(joined.numpy(), num_draws)
        adjusted = torch.from_numpy(holm(p))
        return cls(
            pair, tuple(names), joined, num_draws, torch.from_numpy(p), adjusted, shift, scale
        )

    def __len__(self) -> int:
        return len(self.names)

    @property
    def num_simulations(self) -> int:
        """How many data were simulated."""
        return len(self.ranks)

    @property
    def p_value(self) -> float:
        """Of all numbers together: the least of `adjusted`."""
        return float(self.adjusted.min())

    @property
    def ecdf(self) -> Tensor:
        """The share of ranks below 1, 2, ..., num_draws, (num_draws, numbers).

        Where the guide is the posterior its expectation is k / (num_draws + 1).
        """
        return torch.from_numpy(self._below()) / self.num_simulations

    def band(self, level: float = LEVEL) -> tuple[Tensor, Tensor]:
        """Return the ends within which a distribution function is to be, (num_draws,) each.

        Args:
            level: probability that uniform ranks leave it somewhere, between 0 and 1. That is
                exact up to the steps of counts, and never more. For all numbers together divide
                it by their number, as the picture does.

        Raises:
            TypeError: the level is no number.
            ValueError: it is not between 0 and 1.

        Source:
            Säilynoja, Bürkner and Vehtari, Graphical test for discrete uniformity and its
            applications in goodness-of-fit evaluation and multiple sample comparison, 2022; the
            probability of Poisson numbers given their sum, as Moscovich and Nadler 2017.
        """
        band = self._band(level)
        ends = (torch.from_numpy(end) / self.num_simulations for end in (band.lower, band.upper))
        return next(ends), next(ends)

    def to_dataframe(self) -> pd.DataFrame:
        """Return one row per latent number."""
        import pandas as pd

        columns: dict[str, Any] = {
            "p_value": self.p_values,
            "adjusted": self.adjusted,
            "shift": self.shift.mean,
            "shift_standard_error": self.shift.standard_error,
            "scale": self.scale.mean,
            "scale_standard_error": self.scale.standard_error,
        }
        table = pd.DataFrame({name: column.numpy() for name, column in columns.items()})
        table.index = pd.Index(self.names, name="latent")
        return table

    def plot(self, ax: Axes | None = None, *, level: float = LEVEL) -> Axes:
        """Draw every distribution function less the uniform one, with a band for all of them.

        Args:
            ax: where; a new figure if None.
            level: probability that any one leaves the band where the guide is the posterior.

        Raises:
            TypeError: the level is no number.
            ValueError: it is not between 0 and 1.
        """
        lower, upper = (end.numpy() for end in self.band(check_level(level) / len(self)))
        title = f"{self.pair}, {self.num_simulations} simulations, {1 - level:.3g} band"
        return plots.rank_ecdf(self.ecdf.numpy(), lower, upper, ax, labels=self.names, title=title)

    def print(self, console: Console | None = None, *, count: int = 10) -> None:
        """Print the verdict, and the `count` numbers with the least p-values as a table."""
        checks.count("count", count)
        console = console or Console()
        console.print(str(self), highlight=False)
        order = self.p_values.sort(stable=True).indices[:count].tolist()
        table = Table(title="least p-values", title_justify="left")
        for name in ("latent", "p-value", "adjusted", "shift", "scale"):
            table.add_column(name, justify="left" if name == "latent" else "right")
        for index in order:
            table.add_row(
                self.names[index],
                f"{float(self.p_values[index]):.2g}",
                f"{float(self.adjusted[index]):.2g}",
                *(_shown(found, index) for found in (self.shift, self.scale)),
            )
        console.print(table)
        console.print(
            "  adjusted: for all latent numbers together (Holm). shift, scale: of the guide, in "
            "standard deviations of the posterior; 0 and 1 are right.",
            style="dim",
            highlight=False,
        )

    def __str__(self) -> str:
        wrong = int((self.adjusted <= LEVEL).sum())
        found = "no sign of a wrong guide" if not wrong else f"{wrong} of {len(self)} are wrong"
        return (
            f"Calibration of {self.pair}: p = {self.p_value:.2g} for "
            f"{counted(len(self), 'latent number')} together, {found} "
            f"({counted(self.num_simulations, 'simulation')}, "
            f"{counted(self.num_draws, 'draw')} each)"
        )

    def to_json(self) -> dict[str, Any]:
        """Return the verdict and how it was found, as JSON's types."""
        return {
            "pair": self.pair,
            "p_value": self.p_value,
            "num_latents": len(self),
            "num_simulations": self.num_simulations,
            "num_draws": self.num_draws,
        }

    def save(self, folder: str | Path) -> Path:
        """Write ``calibration.json``, ``calibration.csv`` (a row per number) and the picture.

        Raises:
            PermissionError: the folder cannot be written.
        """
        folder = Path(folder)
        make_writable(folder)
        write_json(folder / "calibration.json", self.to_json())
        write_text(folder / "calibration.csv", self.to_dataframe().to_csv())
        plots.save(self.plot(), folder / "calibration.png")
        return folder

    def _below(self) -> Numbers:
        return counts_below(self.ranks.numpy(), self.num_draws + 1)

    def _band(self, level: float) -> Band:
        return simultaneous_band(self.num_simulations, self.num_draws + 1, check_level(level))


def _moments(ranks: Numbers, num_draws: int) -> tuple[Estimate[Tensor], Estimate[Tensor]]:
    """Return shift and scale of a Normal guide that would give such ranks."""
    scores = special.ndtri((np.arange(num_draws + 1) + 0.5) / (num_draws + 1))
    found = (scores / scores.std())[ranks]
    count = len(ranks)
    # The posterior's numbers, in the guide's unit, are Normal(-shift / scale, 1 / scale).
    with np.errstate(divide="ignore", invalid="ignore"):
        scale = 1 / found.std(0, ddof=1)
        shift = -found.mean(0) * scale
    errors = np.full_like(shift, count**-0.5), scale / (2 * (count - 1)) ** 0.5
    parts = [torch.from_numpy(each) for each in (shift, errors[0], scale, errors[1])]
    return Estimate(parts[0], parts[1], count), Estimate(parts[2], parts[3], count)


def _shown(found: Estimate[Tensor], index: int) -> str:
    return plus_minus(float(found.mean[index]), float(found.standard_error[index]))
