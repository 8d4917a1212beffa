"""Which KL divergences that torch registers are wrong, and where?

    python experiments/registered_kls.py

Every registered pair of one-dimensional families, at every pair of some parameters, in float64 and
in float32, against quadrature over q's quantiles or summation. Wrong is an error above 1e-2 of the
truth and 1e-4 nats in float64, above 5e-2 and 1e-3 nats in float32; NaN; infinite where the truth
is finite, or the reverse; an exception. Parameters are usual ones and those at the edges.
"""

from __future__ import annotations

import warnings
from pathlib import Path
from typing import Annotated

import pandas as pd
import torch
import typer
from registered_kls_parts.scalars import Measured, measure, pairs

from ppl_vae import plots
from ppl_vae.elbos.sites.wrong_kls import WRONG_KLS

DTYPES = (torch.float64, torch.float32)


def main(
    seed: Annotated[int, typer.Option(help="Nothing is random.")] = 0,
    device: Annotated[str, typer.Option(help="Only cpu.")] = "cpu",
    out: Annotated[Path, typer.Option(help="Folder for the table.")] = Path("out/registered_kls"),
    *,
    smoke: Annotated[bool, typer.Option("--smoke", help="Without the edges.")] = False,
) -> None:
    """Measure every pair; write a table and a figure."""
    out.mkdir(parents=True, exist_ok=True)
    # Of scipy's, at quantiles that are at an end of the support.
    warnings.simplefilter("ignore", RuntimeWarning)
    rows = [
        row(q, p, list(measure(q, p, dtype, edges=not smoke)), dtype)
        for q, p in pairs()
        for dtype in DTYPES
    ]
    table = pd.DataFrame(rows)
    table.to_csv(out / "registered_kls.csv", index=False, float_format="%.6g")
    lines = [" | ".join(map(str, cells)) for cells in table.to_numpy()]
    head = f"| {' | '.join(table.columns)} |\n|{'---|' * len(table.columns)}\n"
    (out / "registered_kls.md").write_text(head + "".join(f"| {line} |\n" for line in lines))
    print(table[table.verdict != "right"][["q", "p", "dtype", "verdict"]].to_string(index=False))
    draw(table, out / "registered_kls.png")


def row(q: str, p: str, found: list[Measured], dtype: torch.dtype) -> dict[str, object]:
    """Return a pair's line of the table."""
    wrong = [m for m in found if m.is_wrong]
    worst = max(wrong, key=lambda m: (m.usual, m.defect == "number", m.error), default=None)
    names = q.partition(",")[0], p.partition(",")[0]
    refused = any((k.q.__name__, k.p.__name__) == names for k in WRONG_KLS)
    usual = sum(m.usual and m.defect != "raises" for m in wrong)
    verdict = "right" if not wrong else "wrong" if usual else "wrong at edges"
    return {
        "q": q,
        "p": p,
        "dtype": str(dtype).removeprefix("torch."),
        "referee": found[0].referee,
        "places": len(found),
        "wrong, usual": usual,
        "wrong, edges": len(wrong) - usual,
        "how": " and ".join(sorted({m.defect for m in wrong})),
        "where": f"{worst.q} from {worst.p}" if worst else "",
        "registered": worst.value if worst else "",
        "right": worst.truth if worst else "",
        "refused here": "yes" if refused else "",
        "verdict": verdict,
    }


def draw(table: pd.DataFrame, path: Path) -> None:
    """Draw the share of wrong places of every pair that has one."""
    wrong = table[table.verdict != "right"]
    _, axes = plots.subplots(size=(6.5, 0.13 * len(wrong) + 1))
    ax = axes[0, 0]
    share = (wrong["wrong, usual"] + wrong["wrong, edges"]) / wrong["places"]
    ax.barh(wrong.q + " from " + wrong.p + ", " + wrong.dtype, share, color=plots.ORANGE)
    ax.tick_params(axis="y", labelsize=5)
    ax.set(xlabel="share of the parameters where it is wrong")
    ax.invert_yaxis()
    plots.save(ax, path)


if __name__ == "__main__":
    typer.run(main)
