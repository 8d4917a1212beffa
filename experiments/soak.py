"""An hour's work with memory and file handles watched, and faults of every kind.

    python experiments/soak.py
    python experiments/soak.py --minutes 60 --kills 200 --flips 500 --malformed 100

A small training run is killed, its files are spoilt bit by bit, its disk is full, its clock wrong
and its data not numbers, and every public function gets malformed arguments. The table counts what
was refused in words, what was right all the same, and what must not happen: work lost, a wrong
result, a raw error. Then the library works for so many minutes, with a line through its memory and
its open files.
"""

from __future__ import annotations

from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Annotated

import pandas as pd
import torch
import typer
from soak_parts import faults, malformed, memory

from ppl_vae import plots

COLUMNS = ["tried", "refused", "right", "lost", "wrong", "raw"]


def main(
    minutes: Annotated[float, typer.Option(help="Of work.")] = 60.0,
    kills: Annotated[int, typer.Option(help="At random moments of a training run.")] = 200,
    flips: Annotated[int, typer.Option(help="Of single bits of its files.")] = 500,
    malformed_calls: Annotated[int, typer.Option("--malformed", help="Of each function.")] = 100,
    seed: Annotated[int, typer.Option(help="Of everything random.")] = 0,
    device: Annotated[str, typer.Option(help="Only cpu.")] = "cpu",
    out: Annotated[Path, typer.Option(help="Folder for tables and pictures.")] = Path("out/soak"),
    *,
    smoke: Annotated[bool, typer.Option("--smoke", help="Seconds instead of hours.")] = False,
) -> None:
    """Write what was watched and what became of each fault; exit code 1 after what must not be."""
    if smoke:
        minutes, kills, flips, malformed_calls = 0.0, 2, 6, 1
    torch.set_num_threads(1)
    out.mkdir(parents=True, exist_ok=True)
    with TemporaryDirectory() as name:
        folders = [Path(name) / kind for kind in ("kills", "flips", "disks", "clocks", "numbers")]
        for folder in folders:
            folder.mkdir()
        # Before the work, whose compiler starts threads that a fork would lose.
        rows = [
            faults.kills(kills, folders[0], seed=seed),
            faults.flips(flips, folders[1], seed=seed),
            faults.full_disks(folders[2], steps=4 if smoke else 60),
            faults.clocks(folders[3]),
            faults.numbers(2 if smoke else 50, folders[4], seed=seed),
        ]
    by_function = pd.DataFrame(malformed.campaign(malformed_calls, seed=seed))
    by_function.drop(columns="errors").to_csv(out / "malformed.csv", index=False)
    sums = by_function[["tried", "taken", "refused", "raw"]].sum()
    note = f"{malformed_calls} calls of each of {len(by_function)} functions; right: taken"
    rows.append({"fault": "malformed arguments", **sums, "right": sums["taken"], "note": note})
    table = pd.DataFrame(rows).reindex(columns=["fault", *COLUMNS, "note"])
    table[COLUMNS] = table[COLUMNS].fillna(0).astype(int)
    table.to_csv(out / "faults.csv", index=False)
    print(table.to_string(index=False))
    watched = memory.measured(minutes, seed=seed)
    watched.to_csv(out / "memory.csv", index=False, float_format="%.4f")
    lines = memory.slopes(watched)
    lines.to_csv(out / "slopes.csv", index=False, float_format="%.4g")
    print(lines.to_string(index=False))
    draw(watched, out / "memory.png")
    raise typer.Exit(int(bool(table[["lost", "wrong", "raw"]].to_numpy().any())))


def draw(watched: pd.DataFrame, path: Path) -> None:
    """Draw memory and open files against time."""
    figure, axes = plots.subplots(1, 2, size=(4.0, 3.0))
    for ax, name in zip(axes[0], memory.MEASURES, strict=True):
        ax.plot(watched["hours"], watched[name], ".", color=plots.COLOURS[0])
        ax.set(xlabel="hours", ylabel=name)
        ax.set_ylim(0, 1.2 * watched[name].max())
    figure.savefig(path, dpi=plots.DPI)


if __name__ == "__main__":
    typer.run(main)
