"""The figures of times."""

from __future__ import annotations

from pathlib import Path

import pandas as pd

from ppl_vae import plots
from speed_systems.timing import OURS


def draw(table: pd.DataFrame, path: Path) -> None:
    """Draw the time of a step for each system and way, with its range and the floor."""
    systems = list(dict.fromkeys(table.system))
    figure, axes = plots.subplots(1, len(systems), size=(3.2, 2.6))
    for ax, system in zip(axes[0], systems, strict=True):
        rows = table[table.system == system]
        middle = rows["ms a step"]
        colours = [plots.ORANGE if way.startswith(OURS) else plots.BLUE for way in rows.way]
        ax.barh(rows.way, middle, xerr=[middle - rows["min"], rows["max"] - middle], color=colours)
        floor = rows["floor, ms"].iloc[0]
        label = "ms a step"
        if floor > 0:
            ax.axvline(floor, color=plots.GREY, linestyle="--")
            label += " (dashed: products)"
        wide = middle.max() > 10 * middle.min()
        ax.set(title=system, xlabel=label, xscale="log" if wide else "linear")
        ax.invert_yaxis()
    plots.save(axes[0][0], path)


def draw_growth(table: pd.DataFrame, path: Path) -> None:
    """Draw the time of a step against each size, with its range."""
    sizes = list(dict.fromkeys(table["size"]))
    figure, axes = plots.subplots(1, len(sizes), size=(3.2, 2.6))
    for ax, size in zip(axes[0], sizes, strict=True):
        for way, rows in table[table["size"] == size].groupby("way"):
            middle = rows["ms a step"]
            gaps = [middle - rows["min"], rows["max"] - middle]
            colour = plots.ORANGE if way == OURS else plots.BLUE
            ax.errorbar(rows.value, middle, yerr=gaps, marker="o", color=colour, label=way)
        ax.set(xlabel=size, xscale="log", yscale="log", ylabel="ms a step")
        ax.set_xticks(list(rows.value), [str(v) for v in rows.value])
        ax.xaxis.minorticks_off()
    axes[0][0].legend()
    plots.save(axes[0][0], path)
