"""An inference gap as tables on the screen."""

from __future__ import annotations

from typing import TYPE_CHECKING

from rich.console import Console
from rich.table import Table

from ppl_vae.diagnostics.estimate import plus_minus

if TYPE_CHECKING:
    from ppl_vae.diagnostics.gap.result import InferenceGap

_MEANING = {
    "log_evidence": "log p(x)",
    "best_elbo": "ELBO of the best Gaussian",
    "elbo": "ELBO of the guide",
    "total": "total gap",
    "approximation": "approximation gap",
    "amortisation": "amortisation gap",
}
_GAPS = ("total", "approximation", "amortisation")


def print_gap(gap: InferenceGap, console: Console, count: int) -> None:
    """Print the means over the examples, the worst `count` examples, and how to read them."""
    console.print(gap.title, style="bold", highlight=False)
    table = Table()
    table.add_column("mean over the examples")
    table.add_column("nats", justify="right")
    table.add_column("of the total", justify="right")
    total = gap.average("total").mean
    for name, meaning in _MEANING.items():
        found = gap.average(name)
        share = f"{found.mean / total:.0%}" if name in _GAPS and total > 0 else ""
        table.add_row(meaning, str(found), share)
    console.print(table)
    table = Table(title="worst examples", title_justify="left")
    for name in ("example", *_GAPS):
        table.add_column(name, justify="right")
    for index in gap.worst(count).tolist():
        table.add_row(str(index), *(_cell(gap, name, index) for name in _GAPS))
    console.print(table)
    for note in notes(gap):
        console.print(f"  {note}", style="dim", highlight=False)


def notes(gap: InferenceGap) -> list[str]:
    """Return what to know of the numbers, a line each."""
    of_what = " of the mean over the examples" if len(gap) > 1 else ""
    lines = [
        f"± is one standard error{of_what}; of one example, that of the draws, or the numerical "
        "error of a quadrature."
    ]
    if gap.method in ("iwae", "ais"):
        lines.append(
            f"{gap.method} is below log p(x) in expectation, and so are the total and the "
            "approximation gap below theirs."
        )
    missed = int((~gap.converged).sum())
    if missed:
        left = float(gap.gradient_norm.square().max()) / 2
        lines.append(
            f"The search did not converge for {missed} of {len(gap)} examples: up to about "
            f"{left:.1g} nats of amortisation gap are counted as approximation gap. Raise "
            "num_steps; where a decoder has kinks, the slope may stay."
        )
    warning = gap.log_evidence.warning
    return [*lines, *([f"log p(x): {warning}"] if warning else [])]


def _cell(gap: InferenceGap, name: str, index: int) -> str:
    found = getattr(gap, name)
    return plus_minus(float(found.mean[index]), float(found.standard_error[index]))
