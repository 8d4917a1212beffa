"""The pictures of trained networks: ELBO over time, and the noise of gradients."""

from __future__ import annotations

from pathlib import Path

import pandas as pd
from matplotlib.lines import Line2D

from ppl_vae import plots

ESTIMATORS = {
    "trace": plots.RED,
    "leave-one-out": plots.BLUE,
    "disarm": plots.GREEN,
    "vimco": plots.ORANGE,
    "straight-through": "#CC79A7",
    "reweighted-wake-sleep": "#56B4E9",
    "exact": "#000000",
}


def draw_curves(table: pd.DataFrame, path: Path) -> None:
    """Draw the test ELBO over the seconds of training, a panel for each pair."""
    names = list(table.pair.unique())
    figure, axes = plots.subplots(1, len(names), size=(4.2, 3.9))
    for ax, name in zip(axes[0], names, strict=True):
        of_pair = table[table.pair == name]
        for (estimator, seed), run in of_pair.groupby(["estimator", "seed"], sort=False):
            first = seed == of_pair.seed.min()
            later = run[run.epoch > 0]
            ax.plot(
                later.seconds,
                later.elbo,
                color=ESTIMATORS[estimator],
                linewidth=1.2,
                alpha=1.0 if first else 0.5,
                label=estimator if first else None,
            )
        shown = of_pair[of_pair.epoch > 0].elbo
        ax.set_ylim(max(shown.max() - 8, shown.min() - 0.5), shown.max() + 0.5)
        ax.set_xscale("log")
        ax.set(title=name, xlabel="seconds of training")
    axes[0, 0].set_ylabel("ELBO of test images [nats]")
    handles = {h.get_label(): h for ax in axes[0] for h in ax.get_legend_handles_labels()[0]}
    figure.legend(
        handles=list(handles.values()), loc="outside lower center", ncols=4, frameon=False
    )
    figure.savefig(path, dpi=plots.DPI)


def draw_noise(table: pd.DataFrame, path: Path) -> None:
    """Draw variance times time of the encoder's gradient, at both states."""
    names = list(table.pair.unique())
    figure, axes = plots.subplots(1, len(names), size=(4.2, 3.4))
    for ax, name in zip(axes[0], names, strict=True):
        rows = table[(table.pair == name) & (table.group == "encoder")]
        rows = rows[rows.variance > 0]
        places = {estimator: n for n, estimator in enumerate(reversed(ESTIMATORS))}
        for state, marker in (("untrained", "o"), ("trained", "s")):
            own = rows[rows.state == state]
            for estimator, value in zip(own.estimator, own["variance x time"], strict=True):
                face = ESTIMATORS[estimator] if state == "trained" else "white"
                ax.plot(
                    value,
                    places[estimator],
                    marker,
                    color=ESTIMATORS[estimator],
                    markerfacecolor=face,
                    markersize=8,
                )
        ax.set_yticks(list(places.values()), list(places) if ax is axes[0, 0] else [])
        ax.set_ylim(-0.5, len(places) - 0.5)
        ax.set_xscale("log")
        ax.set(title=name, xlabel="encoder: variance x seconds")
        ax.grid(axis="x", alpha=0.3)
    style = {"linestyle": "", "color": "black", "markersize": 8}
    handles = [
        Line2D([], [], marker="o", markerfacecolor="white", label="untrained", **style),
        Line2D([], [], marker="s", label="trained", **style),
    ]
    figure.legend(handles=handles, loc="outside lower center", ncols=2, frameon=False)
    figure.savefig(path, dpi=plots.DPI)
