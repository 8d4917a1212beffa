"""The gap between evidence and ELBO: numbers to read, print, tabulate and draw."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch
from matplotlib.axes import Axes
from rich.console import Console
from torch import Tensor

from ppl_vae import checks, plots
from ppl_vae.diagnostics.estimate import Estimate, counted
from ppl_vae.diagnostics.gap.gaussian_code import GaussianCode
from ppl_vae.diagnostics.gap.gaussians import Gaussians
from ppl_vae.diagnostics.gap.guide_and_best import GuideAndBest
from ppl_vae.diagnostics.gap.posterior_grid import draw_posteriors
from ppl_vae.diagnostics.gap.text import GAPS, QUANTITIES, notes, print_gap

if TYPE_CHECKING:
    import pandas as pd


@dataclass(frozen=True, eq=False)
class InferenceGap:
    """Where the gap between log p(x) and the guide's ELBO comes from, example by example.

    ``total = approximation + amortisation``. Estimates are of shape (batch), in nats.

    Attributes:
        log_evidence: log p(x).
        best_elbo: the ELBO of q*, the best Gaussian for each example.
        elbo: the ELBO of the guide's q.
        total: ``log_evidence - elbo``.
        approximation: ``log_evidence - best_elbo``: what the family of Gaussians costs.
        amortisation: ``best_elbo - elbo``: what it costs that a network gives the Gaussian.
        best: q*, by ``loc``, (batch, latent_dim), and ``scale_tril``.
        guide: q, likewise.
        gradient_norm: length of the natural gradient of the ELBO at q*, (batch), in sqrt(nats):
            half its square is about what the search has left.
        converged: whether that came below the tolerance, (batch).
        family: of q*, ``diagonal`` or ``full``.
        method: how log p(x) was found.
        pair: the pair's class.
        code: a copy of the pair, with the data, for pictures.
    """

    log_evidence: Estimate[Tensor]
    best_elbo: Estimate[Tensor]
    elbo: Estimate[Tensor]
    total: Estimate[Tensor]
    approximation: Estimate[Tensor]
    amortisation: Estimate[Tensor]
    best: Gaussians
    guide: Gaussians
    gradient_norm: Tensor
    converged: Tensor
    family: str
    method: str
    pair: str
    code: GaussianCode = field(repr=False)

    @classmethod
    def of(
        cls,
        code: GaussianCode,
        log_evidence: Estimate[Tensor],
        found: GuideAndBest,
        *,
        tolerance: float,
        family: str,
        method: str,
    ) -> InferenceGap:
        """Return the result in the pair's dtype; `tolerance` is of the gradient norm."""
        parts = {"log_evidence": _cast(log_evidence, torch.float64), **found.estimates()}
        parts["total"] = _difference(parts["log_evidence"], parts["elbo"])
        parts["approximation"] = _difference(parts["log_evidence"], parts["best_elbo"])
        dtype = code.pair.dtype
        return cls(
            **{name: _cast(part, dtype) for name, part in parts.items()},
            best=found.best.to(dtype),
            guide=code.guide.to(dtype),
            gradient_norm=found.gradient_norm.to(dtype),
            converged=found.gradient_norm < tolerance,
            family=family,
            method=method,
            pair=type(code.pair).__name__,
            code=code,
        )

    def __len__(self) -> int:
        return len(self.gradient_norm)

    def average(self, quantity: str) -> Estimate[float]:
        """Return the mean of one quantity over the examples, in nats.

        Args:
            quantity: the name of one of the six estimates.

        Returns:
            Its standard error is that of the examples as a sample, which includes the noise of
            each; for one example it is that noise.

        Raises:
            ValueError: an unknown name.
        """
        checks.name("quantity", quantity, QUANTITIES)
        found: Estimate[Tensor] = getattr(self, quantity)
        mean = found.mean.double()
        error = mean.std() / math.sqrt(len(mean)) if len(mean) > 1 else found.standard_error
        return Estimate(float(mean.mean()), float(error), len(mean))

    def worst(self, count: int, *, by: str = "total") -> Tensor:
        """Return the indices of the examples with the largest gaps, the worst first.

        Args:
            count: how many, at least 1; no more than there are.
            by: ``total``, ``approximation`` or ``amortisation``.

        Returns:
            Indices into the data, (count,).

        Raises:
            TypeError: `count` is no int.
            ValueError: it is below 1, or `by` is unknown.
        """
        checks.count("count", count)
        gap: Estimate[Tensor] = getattr(self, checks.name("gap", by, GAPS))
        return gap.mean.sort(descending=True, stable=True).indices[:count]

    def to_dataframe(self, *, by: str = "total") -> pd.DataFrame:
        """Return every number, one row per example, the worst first; the index is its number."""
        import pandas as pd

        columns: dict[str, Any] = {}
        for name in QUANTITIES:
            found: Estimate[Tensor] = getattr(self, name)
            columns[name] = found.mean.cpu().numpy()
            columns[f"{name}_standard_error"] = found.standard_error.cpu().numpy()
        columns["gradient_norm"] = self.gradient_norm.cpu().numpy()
        columns["converged"] = self.converged.cpu().numpy()
        table = pd.DataFrame(columns).rename_axis("example")
        return table.loc[self.worst(len(self), by=by).tolist()]

    @property
    def title(self) -> str:
        """What was measured, in one line."""
        examples = counted(len(self), "example")
        return f"{self.pair}, {examples}: log p(x) by {self.method}, best {self.family} Gaussian"

    def print(self, console: Console | None = None, *, count: int = 5) -> None:
        """Print the means over the examples, the worst `count`, and how to read them."""
        console = console or Console()
        averages = {name: self.average(name) for name in QUANTITIES}
        print_gap(console, self.title, averages, self.to_dataframe().head(count))
        for note in self._notes():
            console.print(f"  {note}", style="dim", highlight=False)

    def _notes(self) -> list[str]:
        missed, left = int((~self.converged).sum()), float(self.gradient_norm.square().max()) / 2
        return notes(self.method, len(self), missed, left, self.log_evidence.warning)

    def plot(self, ax: Axes | None = None, *, count: int = 20, by: str = "total") -> Axes:
        """Draw the two parts of the gap as bars, the worst `count` examples."""
        index = self.worst(count, by=by)
        parts = {name: getattr(self, name) for name in GAPS[1:]}
        return plots.evidence_gap(
            {name: part.mean[index].cpu().numpy() for name, part in parts.items()},
            ax,
            errors={n: part.standard_error[index].cpu().numpy() for n, part in parts.items()},
            labels=index.tolist(),
            title=f"{self.pair}, worst {len(index)} of {len(self)}",
        )

    def plot_posteriors(
        self,
        folder: str | Path | None = None,
        *,
        axes: Sequence[Axes] | None = None,
        count: int = 6,
        by: str = "total",
    ) -> list[Axes]:
        """Draw the true posteriors of the worst examples with the guide's and the best Gaussian.

        Args:
            folder: where to write ``posteriors.png``; None for nowhere.
            axes: where to draw, at least `count`; a new figure if None.
            count: of examples.
            by: ``total``, ``approximation`` or ``amortisation``.

        Returns:
            The Axes, one per example, the worst first.

        Raises:
            NotImplementedError: a code that has not two dimensions.
            ValueError: fewer Axes than examples.
        """
        chosen = self.worst(count, by=by)
        titles = [
            f"example {index}: {gap:.2f} nats"
            for index, gap in zip(chosen.tolist(), self.total.mean[chosen].tolist(), strict=True)
        ]
        drawn = draw_posteriors(
            self.code.part(chosen),
            self.log_evidence.mean[chosen].double(),
            {"guide": self.guide[chosen], f"best {self.family}": self.best[chosen]},
            titles=titles,
            axes=axes,
        )
        if folder is not None:
            path = Path(folder)
            path.mkdir(parents=True, exist_ok=True)
            plots.save(drawn[0], path / "posteriors.png")
        return drawn


def _difference(first: Estimate[Tensor], second: Estimate[Tensor]) -> Estimate[Tensor]:
    error = torch.hypot(first.standard_error, second.standard_error)
    return Estimate(first.mean - second.mean, error, second.num_samples)


def _cast(found: Estimate[Tensor], dtype: torch.dtype) -> Estimate[Tensor]:
    return Estimate(
        found.mean.to(dtype), found.standard_error.to(dtype), found.num_samples, found.warning
    )
