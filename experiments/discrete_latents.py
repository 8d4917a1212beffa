"""Bits as latents: which estimator of the gradient is least noisy, and which trains fastest?

    python experiments/discrete_latents.py
    python experiments/discrete_latents.py --data mnist --data-dir DIR --epochs 100

Three sigmoid belief networks are trained: 8 bits, whose states can be summed, and 200 bits with
linear networks or with two hidden layers of 200. Every estimator has the fewest particles that it
takes. A table has each one's gradient variance by group of parameters, its time, and the product
of both. The curves are of the test images' ELBO over the seconds of training: of the processor,
or the clock where a GPU computes. Runs have folders; a script that was stopped goes on.

A map shows the variances of a single bit in closed form, with measured dots. b is 1 with chance p
and f is the objective. Leave-one-out and the antithetic pairs see only f(1) - f(0), and the score
function only (1 - p) f(1) + p f(0): it wins where that happens to be near 0.
"""

from __future__ import annotations

import functools
import math
import time
from pathlib import Path
from typing import Annotated

import numpy as np
import pandas as pd
import torch
import typer
from discrete_parts.one_bit_map import dots, draw_map
from matplotlib.lines import Line2D
from torch import Tensor

from ppl_vae import (
    BinaryLatentVAE,
    compare_elbos,
    fit,
    load,
    load_pair,
    log_evidence,
    plots,
    seeded,
)
from ppl_vae.elbos import make

ESTIMATORS = {
    "trace": plots.RED,
    "leave-one-out": plots.BLUE,
    "disarm": plots.GREEN,
    "vimco": plots.ORANGE,
    "straight-through": "#CC79A7",
    "reweighted-wake-sleep": "#56B4E9",
    "exact": "#000000",
}
PAIRS = {"8 bits": (8, ()), "linear": (200, ()), "non-linear": (200, (200, 200))}
BATCH_SIZE, EVIDENCE_EXAMPLES = 50, 500
LEARNING_RATES = {"digits": 3e-3, "mnist": 1e-4}  # MNIST's is that of the papers
WITHIN = 0.5  # nats of the best ELBO: the goal whose time is measured


def main(
    data: Annotated[str, typer.Option(help="digits or mnist.")] = "digits",
    epochs: Annotated[int, typer.Option(help="Of each run.")] = 40,
    seeds: Annotated[int, typer.Option(help="Runs of each estimator.")] = 2,
    replicates: Annotated[int, typer.Option(help="Gradients of which variances are.")] = 100,
    data_dir: Annotated[Path | None, typer.Option(help="Folder of downloaded data.")] = None,
    seed: Annotated[int, typer.Option(help="Of the first run.")] = 0,
    device: Annotated[str, typer.Option(help="auto, cpu or cuda.")] = "auto",
    out: Annotated[Path, typer.Option(help="Folder for runs, tables and pictures.")] = Path(
        "out/discrete_latents"
    ),
    *,
    smoke: Annotated[bool, typer.Option("--smoke", help="Seconds instead of minutes.")] = False,
) -> None:
    """Map the noise of one bit; train each pair by each estimator, and measure the gradients."""
    if smoke:
        epochs, seeds, replicates = 1, 1, 10
    out.mkdir(parents=True, exist_ok=True)
    draw_map(dots(replicates, seed, device, smoke=smoke), out)
    curves, variances = [], []
    warm_up(device)
    for name in ["8 bits"] if smoke else PAIRS:
        chosen = ["trace", "leave-one-out", "exact"] if smoke else serving(name)
        for run in range(seed, seed + seeds):
            for estimator in chosen:
                folder = out / "runs" / f"{data}-{name.replace(' ', '-')}-{estimator}-{run}"
                curve = trained(
                    name, estimator, data, folder, epochs=epochs, seed=run,
                    data_dir=data_dir, device=device,
                )  # fmt: skip
                curves.append(curve.assign(pair=name, estimator=estimator, seed=run))
                print(curves[-1].tail(1).to_string(header=False, index=False), flush=True)
        last = out / "runs" / f"{data}-{name.replace(' ', '-')}-leave-one-out-{seed}"
        variances += noise(name, chosen, data, last, replicates, seed, data_dir, device)
    table = pd.concat(curves, ignore_index=True)
    table.to_csv(out / f"{data}.csv", index=False)
    found = pd.DataFrame(variances)
    found.to_csv(out / f"{data}_variances.csv", index=False)
    print(found.to_string(index=False, float_format="{:.3g}".format))
    summary = summarise(table)
    summary.to_csv(out / f"{data}_summary.csv", index=False)
    print(summary.to_string(index=False, float_format="{:.2f}".format))
    draw_curves(table, out / f"{data}.png")
    draw_noise(found, out / f"{data}_variances.png")


def serving(pair: str) -> list[str]:
    """Return the estimators that serve a pair: only of 8 bits all states can be summed."""
    return [name for name in ESTIMATORS if name != "exact" or pair == "8 bits"]


def examples(data: str, split: str, data_dir: Path | None) -> Tensor:
    """Return images, binarised once."""
    found = load(data, split=split, data_dir=data_dir, binarize="static")
    with seeded(0):
        return found.batch(slice(None))


def untrained(name: str, image_shape: tuple[int, ...], seed: int) -> BinaryLatentVAE:
    """Return a pair as its training begins."""
    latent_dim, hidden = PAIRS[name]
    return BinaryLatentVAE(image_shape, latent_dim, hidden, seed=seed)


def warm_up(device: str) -> None:
    """Take a few steps, so that what is done once counts for no estimator."""
    x = examples("digits", "test", None)
    options = {"num_epochs": 1, "compile": False, "progress": False, "device": device}
    fit(untrained("8 bits", tuple(x.shape[1:]), 0), x, **options)


# Training


def trained(
    name: str,
    estimator: str,
    data: str,
    folder: Path,
    *,
    epochs: int,
    seed: int,
    data_dir: Path | None,
    device: str,
) -> pd.DataFrame:
    """Train by one estimator; return ELBO and seconds after every epoch."""
    test = examples(data, "test", data_dir)
    pair = untrained(name, tuple(test.shape[1:]), seed)
    path = folder / "curve.csv"
    resume = (folder / "checkpoint.safetensors").exists()
    if resume:
        rows = pd.read_csv(path).to_dict("records")
    else:
        rows = [{"epoch": 0, "seconds": 0.0, "elbo": mean_elbo(pair, test, seed)}]
    clock = Clock(rows[-1]["seconds"])

    def look(epoch: int, _: object) -> None:
        spent = clock.read(pair.device)
        del rows[epoch:]
        elbo = mean_elbo(pair, test, seed)
        rows.append({"epoch": epoch, "seconds": round(spent, 3), "elbo": round(elbo, 3)})
        pd.DataFrame(rows).to_csv(path, index=False)
        clock.start(pair.device)

    if len(rows) > epochs:
        pair = load_pair(folder)
    else:
        train = load(data, split="train", data_dir=data_dir, binarize="dynamic")
        rate = LEARNING_RATES[data]
        clock.start(pair.device)
        fit(
            pair,
            train,
            elbo=estimator,
            optimizer=functools.partial(torch.optim.Adam, lr=rate),
            num_epochs=epochs,
            batch_size=BATCH_SIZE,
            device=device,
            compile=False,
            seed=seed,
            run_dir=folder,
            resume=resume,
            progress=False,
            log=(look,),
        )
    curve = pd.DataFrame(rows)
    samples = 1000 if epochs > 1 else 100
    evidence = log_evidence(pair, test[:EVIDENCE_EXAMPLES], num_samples=samples, device=device)
    curve["log evidence"] = math.nan
    curve.loc[curve.index[-1], "log evidence"] = round(evidence.average.mean, 3)
    return curve


class Clock:
    """Seconds of training: of the processor, so that other work on it does not count.

    Args:
        seconds: that were spent before.
    """

    def __init__(self, seconds: float) -> None:
        self._seconds, self._started = seconds, 0.0

    def start(self, device: torch.device) -> None:
        """Go on."""
        self._started = self._now(device)

    def read(self, device: torch.device) -> float:
        """Stop, and return the seconds so far."""
        self._seconds += self._now(device) - self._started
        return self._seconds

    @staticmethod
    def _now(device: torch.device) -> float:
        if device.type == "cpu":
            return time.process_time()
        torch.cuda.synchronize(device)
        return time.perf_counter()


@torch.no_grad()
def mean_elbo(pair: BinaryLatentVAE, x: Tensor, seed: int) -> float:
    """Return the ELBO per image: exact for few bits, else by ten draws an image."""
    x = x.to(pair.device)
    if pair.exact is not None:
        return float(torch.cat([pair.exact.elbo(part) for part in x.split(100)]).mean())
    with seeded(seed, pair.device):
        loss = make("trace", num_particles=10).loss(pair.model, pair.guide, x)
    return -loss / len(x)


def summarise(table: pd.DataFrame) -> pd.DataFrame:
    """Return the ELBO after equal times, the time to a common goal, and the last ELBO."""
    rows = []
    for name, of_pair in table.groupby("pair", sort=False):
        runs = ["estimator", "seed"]
        budget = of_pair.groupby(runs).seconds.max().min()
        ends = of_pair.groupby(runs).elbo.last().groupby("estimator").mean()
        goal = ends.max() - WITHIN
        for estimator, own in of_pair.groupby("estimator", sort=False):
            each = [run for _, run in own.groupby("seed")]
            at_budget = [run.elbo[run.seconds <= budget].iloc[-1] for run in each]
            to_goal = [run.seconds[run.elbo >= goal].min() for run in each]
            last = own.groupby("seed").last()
            rows.append(
                {
                    "pair": name,
                    "estimator": estimator,
                    "seconds an epoch": np.median([run.seconds.diff().median() for run in each]),
                    "budget": budget,
                    "ELBO at the budget": np.mean(at_budget),
                    "goal": goal,
                    "seconds to the goal": np.mean(to_goal),  # NaN if a run did not reach it
                    "last ELBO": last.elbo.mean(),
                    "spread": last.elbo.std() if len(each) > 1 else math.nan,
                    "log evidence": last["log evidence"].mean(),
                }
            )
    return pd.DataFrame(rows)


# Gradients


def noise(
    name: str,
    estimators: list[str],
    data: str,
    folder: Path,
    replicates: int,
    seed: int,
    data_dir: Path | None,
    device: str,
) -> list[dict[str, object]]:
    """Return a row for each estimator and group, at the first parameters and at the last."""
    x = examples(data, "test", data_dir)[: 2 * BATCH_SIZE]
    shape = tuple(x.shape[1:])
    rows = []
    for state in ("untrained", "trained"):
        pair = untrained(name, shape, seed) if state == "untrained" else load_pair(folder)
        found = compare_elbos(
            pair, x, estimators, num_replicates=replicates, seed=seed, device=device
        )
        for row in found.rows:
            for group, variance in row.gradient_variance.items():
                rows.append(
                    {
                        "pair": name,
                        "state": state,
                        "estimator": row.name,
                        "bound": row.bound,
                        "group": group,
                        "variance": variance.mean,
                        "standard error": variance.standard_error,
                        "milliseconds": row.milliseconds,
                        "variance x time": variance.mean * row.milliseconds / 1000,
                        "gradient's bias in z": row.gradient_bias_z_score,
                    }
                )
    return rows


# One bit


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


if __name__ == "__main__":
    typer.run(main)
