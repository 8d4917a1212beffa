"""An inference gap as tables on the screen."""

from __future__ import annotations

from typing import TYPE_CHECKING

from rich.console import Console
from rich.table import Table

from ppl_vae.diagnostics.estimate import Estimate, plus_minus

if TYPE_CHECKING:
    import pandas as pd

QUANTITIES = {
    "log_evidence": "log p(x)",
    "best_elbo": "ELBO of the best Gaussian",
    "elbo": "ELBO of the guide",
    "total": "total gap",
    "approximation": "approximation gap",
    "amortisation": "amortisation gap",
}
GAPS = ("total", "approximation", "amortisation")


def print_gap(
    console: Console, title: str, averages: dict[str, Estimate[float]], worst: pd.DataFrame
) -> None:
    """Print the means over the examples, and the worst examples, one a row of a table."""
    console.print(title, style="bold", highlight=False)
    table = Table()
    table.add_column("mean over the examples")
    table.add_column("nats", justify="right")
    table.add_column("of the total", justify="right")
    total = averages["total"].mean
    for name, meaning in QUANTITIES.items():
        found = averages[name]
        share = f"{found.mean / total:.0%}" if name in GAPS and total > 0 else ""
        table.add_row(meaning, str(found), share)
    console.print(table)
    table = Table(title="worst examples", title_justify="left")
    for name in ("example", *GAPS):
        table.add_column(name, justify="right")
    columns = [c for name in GAPS for c in (name, f"{name}_standard_error")]
    for index, *numbers in worst[columns].itertuples(name=None):
        table.add_row(str(index), *map(plus_minus, numbers[::2], numbers[1::2]))
    console.print(table)


def notes(method: str, count: int, missed: int, left: float, warning: str) -> list[str]:
    """Return what to know of the numbers, a line each.

    The search did not converge for `missed` of `count` examples, where at most about `left` nats
    are still to be gained. `method` and `warning` are those of log p(x).
    """
    of_what = " of the mean over the examples" if count > 1 else ""
    lines = [
        f"± is one standard error{of_what}; of one example, that of the draws, or the numerical "
        "error of a quadrature."
    ]
    if method in ("iwae", "ais", "thermodynamic"):
        lines.append(
            f"{method} is below log p(x) in expectation, and so are the total and the "
            "approximation gap below theirs."
        )
    if missed:
        lines.append(
            f"The search did not converge for {missed} of {count} examples: up to about "
            f"{left:.1g} nats of amortisation gap are counted as approximation gap. Raise "
            "num_steps; where a decoder has kinks, the slope may stay."
        )
    return [*lines, *([f"log p(x): {warning}"] if warning else [])]
