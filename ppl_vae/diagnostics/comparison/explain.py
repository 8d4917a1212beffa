"""The ledger of an ELBO estimate: one row per site."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import pyro
import torch
from pyro.infer import ELBO
from rich.console import Console
from rich.table import Table
from torch import Tensor

from ppl_vae import checks
from ppl_vae.batch import BatchLike
from ppl_vae.diagnostics.comparison.replicates import mean_of
from ppl_vae.diagnostics.comparison.treatment import OBSERVED, Treatment, part, treatments
from ppl_vae.diagnostics.estimate import Estimate
from ppl_vae.elbos import make, without_weights
from ppl_vae.elbos.kl_weights.estimator import weighting_of
from ppl_vae.elbos.serving import require_served
from ppl_vae.elbos.sites.draws import Program, draw_traces
from ppl_vae.elbos.sites.traces import Site
from ppl_vae.functions import Functions, as_argument, as_program
from ppl_vae.pair import Pair, leaving_no_params
from ppl_vae.seeding import derive, seeded

if TYPE_CHECKING:
    import pandas as pd


@dataclass(frozen=True)
class LedgerRow:
    """One site's part of the ELBO.

    Attributes:
        treatment: its role, how its part is computed, whether that is valid, and why.
        scale: in the model and in the guide, as text; one of them if they agree.
        mask: likewise.
        kl_weight: on its KL divergence; 1 of an observed site.
        value: its part of the ELBO, summed over the data, in nats.
    """

    treatment: Treatment
    scale: str
    mask: str
    kl_weight: float
    value: Estimate[float]


@dataclass(frozen=True)
class ElboLedger:
    """What an estimator does with every site of a model and guide.

    Attributes:
        estimator: its class.
        rows: one per site.
        value: the sum of the rows' values: the ELBO, or with weights the objective.
        objective: what weights and free bits make of the ELBO, in words, or nothing.
    """

    estimator: str
    rows: list[LedgerRow]
    value: Estimate[float]
    objective: str = ""

    def __getitem__(self, site: str) -> LedgerRow:
        checks.name("site", site, [row.treatment.site for row in self.rows])
        return next(row for row in self.rows if row.treatment.site == site)

    @property
    def is_valid(self) -> bool:
        """Whether every site is treated so that the sum has the right expectation."""
        return all(row.treatment.is_valid for row in self.rows)

    def print(self, console: Console | None = None) -> None:
        """Print the ledger."""
        console = console or Console()
        what = f"objective with {self.objective}" if self.objective else "ELBO"
        title = f"{self.estimator}, {what} {self.value}"
        header, *lines = self._cells()
        table = Table(*header, title=title, title_justify="left")
        for line in lines:
            table.add_row(*line)
        console.print(table)

    def to_markdown(self) -> str:
        """Return the ledger as Markdown."""
        header, *rows = self._cells()
        lines = [header, ["---"] * len(header), *rows]
        return "\n".join(f"| {' | '.join(line)} |" for line in lines) + "\n"

    def to_dataframe(self) -> pd.DataFrame:
        """Return one row per site."""
        import pandas as pd

        return pd.DataFrame(
            [
                {
                    **vars(row.treatment),
                    "scale": row.scale,
                    "mask": row.mask,
                    "kl_weight": row.kl_weight,
                    "value": row.value.mean,
                    "standard_error": row.value.standard_error,
                }
                for row in self.rows
            ]
        ).set_index("site")

    def _cells(self) -> list[list[str]]:
        """Return the header and a line a site; weights are shown where there are any."""
        weighted = bool(self.objective)
        lines = [["site", "role", "KL", "valid", "scale", "mask", *["weight"] * weighted]]
        lines[0] += ["nats", "why"]
        for row in self.rows:
            found = row.treatment
            line = [found.site, found.role, found.how, "yes" if found.is_valid else "NO"]
            line += [row.scale, row.mask, *[f"{row.kl_weight:.4g}"] * weighted]
            lines.append([*line, str(row.value), found.why])
        return lines


@checks.own_words()
@torch.no_grad()
def explain_elbo(
    elbo: str | ELBO,
    pair: Pair | Functions,
    x: BatchLike,
    *,
    num_draws: int = 100,
    seed: int = 0,
) -> ElboLedger:
    """Return the ledger of an estimator: how it treats each site, whether it may, and the value.

    Args:
        elbo: an estimator's name or any ``pyro.infer.ELBO``. Those that weigh their particles are
            accounted for as with one particle.
        pair: a pair, or any Pyro model and guide as a tuple of two functions.
        x: the data: a tensor, a tuple of the program's arguments, or a mapping.
        num_draws: of the latents, at least 2; values are means over them.
        seed: of the draws; the global random state stays as it is.

    Returns:
        One row per site.

    Raises:
        TypeError: neither a pair nor two functions, or no estimator.
        ValueError: an unknown estimator, fewer than two draws, data that the pair cannot score.
        NotImplementedError: the estimator cannot be right for this pair; the site, the reason and
            the estimators that serve are named.

    Example:
        >>> from ppl_vae import GaussianChain
        >>> pair = GaussianChain(guide="bottom-up")
        >>> ledger = explain_elbo("trace-mean-field", pair, pair.sample(3, seed=0))
        >>> ledger["z1"].treatment.is_valid, ledger["z2"].treatment.is_valid
        (False, True)
    """
    checks.count("num_draws", num_draws, minimum=2)
    estimator = make(elbo)
    stream = derive(seed, "explain")
    data = as_argument(pair, x)
    with leaving_no_params(), seeded(stream, data.device):
        subject, data = as_program(pair, data)
        subject.check(data)
        program = Program(subject.model, subject.guide, (data,), {})
        with seeded(stream, data.device):
            require_served(estimator, program)
        with pyro.validation_enabled(False):  # noqa: FBT003
            found = treatments(estimator, subject, data)
            values: list[list[Tensor]] = [[] for _ in found]
            weighting = weighting_of(estimator)
            for _ in range(num_draws):
                model, guide = draw_traces(weighting.of(program))
                floors = weighting.runs[-1].floors
                for collected, treatment in zip(values, found, strict=True):
                    value = part(estimator, treatment, model, guide)
                    collected.append(value - floors.get(treatment.site, 0.0))
            model, guide = draw_traces(program)
    columns = [torch.stack(each).double().cpu() for each in values]
    rows = []
    for treatment, column in zip(found, columns, strict=True):
        sides = [
            trace.nodes[treatment.site]
            for trace in (model, guide)
            if treatment.site in trace.nodes
        ]
        scale = _agreed([_scale(site) for site in sides])
        mask = _agreed([_mask(site) for site in sides])
        observed = treatment.role == OBSERVED
        weight = 1.0 if observed else float(weighting.weight(treatment.site))
        rows.append(LedgerRow(treatment, scale, mask, weight, mean_of(column)))
    name = type(without_weights(estimator)).__name__
    objective = getattr(estimator, "objective", "")
    return ElboLedger(name, rows, mean_of(torch.stack(columns).sum(0)), objective)


def _scale(site: Site) -> str:
    scale = site["scale"]
    if not torch.is_tensor(scale) or scale.numel() == 1:
        return f"{float(scale):.4g}"
    return f"{float(scale.min()):.4g} to {float(scale.max()):.4g}"


def _mask(site: Site) -> str:
    mask = site["mask"]
    if torch.is_tensor(mask):
        return f"hides {int((~mask).sum())} of {mask.numel()}"
    return "hides all" if mask is False else "-"


def _agreed(sides: list[str]) -> str:
    if len(set(sides)) == 1:
        return sides[0]
    return f"model {sides[0]}, guide {sides[1]}"
