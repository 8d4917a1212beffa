"""Is every number right, or refused with a reason? Small programs of many kinds tell.

    python experiments/programs.py

Each program meets each entry point; its exact answers are sums over a grid.
"""

from __future__ import annotations

from collections import Counter
from concurrent.futures import ProcessPoolExecutor
from pathlib import Path
from typing import Annotated

import pandas as pd
import torch
import typer

from ppl_vae import plots

# Before the programs' data are made.
torch.set_default_dtype(torch.float64)
from program_parts.cells import REFUSED, RIGHT, Cell  # noqa: E402
from program_parts.entry_points import ENTRY_POINTS, cell  # noqa: E402
from program_parts.table import programs  # noqa: E402

SMOKE_STEP = 20


def main(
    jobs: Annotated[int, typer.Option(help="Processes.")] = 1,
    seed: Annotated[int, typer.Option(help="Of everything random.")] = 0,
    device: Annotated[str, typer.Option(help="Only cpu: the grids are there.")] = "cpu",
    only: Annotated[str, typer.Option(help="Programs whose names contain this.")] = "",
    out: Annotated[Path, typer.Option(help="Folder for tables and pictures.")] = Path(
        "out/programs"
    ),
    *,
    smoke: Annotated[bool, typer.Option("--smoke", help="A few programs.")] = False,
) -> None:
    """Write one row a program; the exit code is 1 if a cell is neither right nor refused."""
    out.mkdir(parents=True, exist_ok=True)
    names = [name for name in programs() if only in name]
    names = names[seed % SMOKE_STEP :: SMOKE_STEP] if smoke else names
    with ProcessPoolExecutor(jobs) as pool:
        rows = list(pool.map(row, names, [20 if smoke else 60] * len(names), [seed] * len(names)))
    table = pd.DataFrame(rows, index=pd.Index(names, name="program"))
    table.map(str).to_csv(out / "programs.csv")
    (out / "programs.md").write_text(markdown(table))
    print(markdown(table))
    draw(table, out / "programs.png")
    wrong = [c for found in rows for c in found.values() if c.verdict not in {RIGHT, REFUSED}]
    raise typer.Exit(int(bool(wrong)))


def row(name: str, count: int, seed: int) -> dict[str, Cell]:
    """Return a program's cells, by entry point."""
    torch.set_num_threads(1)
    spec = programs()[name]
    return {each: cell(each, spec, count=count, seed=seed) for each in ENTRY_POINTS}


def markdown(table: pd.DataFrame) -> str:
    """Return the counts of the verdicts by entry point, and every reason."""
    lines = ["| entry point | right | refused | neither |", "| --- | ---: | ---: | ---: |"]
    for name, column in table.items():
        counts = Counter(each.verdict for each in column)
        neither = len(column) - counts[RIGHT] - counts[REFUSED]
        lines.append(f"| {name} | {counts[RIGHT]} | {counts[REFUSED]} | {neither} |")
    lines += [
        "",
        f"| program | {' | '.join(table.columns)} |",
        "| --- " * (1 + table.shape[1]) + "|",
    ]
    for name, cells in table.iterrows():
        words = [str(each).replace("||", "to").replace("|", "\\|") for each in cells]
        lines.append(f"| {str(name).replace('||', 'to')} | {' | '.join(words)} |")
    return "\n".join(lines) + "\n"


def draw(table: pd.DataFrame, path: Path) -> None:
    """Draw the table: one mark a cell."""
    figure, axes = plots.subplots(1, 1, size=(6.0, 3.0 + 0.16 * len(table)))
    ax = axes[0][0]
    colours = {RIGHT: plots.COLOURS[0], REFUSED: "lightgrey"}
    for place, name in enumerate(table.columns):
        marks = [colours.get(each.verdict, "red") for each in table[name]]
        ax.scatter([place] * len(marks), range(len(marks)), c=marks, marker="s")
    ax.set_xticks(range(table.shape[1]), table.columns, rotation=90, fontsize=7)
    ax.set_yticks(range(len(table)), table.index, fontsize=6)
    ax.invert_yaxis()
    ax.set_title("right (colour), refused with a reason (grey)", fontsize=8)
    figure.savefig(path, dpi=plots.DPI)


if __name__ == "__main__":
    typer.run(main)
