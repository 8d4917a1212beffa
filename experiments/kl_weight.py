"""The weight of the KL divergence: which units stay in use, and what rate costs what distortion.

    python experiments/kl_weight.py

Three VAEs of the digits are trained under weights from 0.1 to 30. The linear one, with its noise
held, has an exact answer: unit i is in use if and only if eigenvalue i of the data's covariance is
above the weight times the noise's variance. Of the Bernoulli and the hierarchical VAE the pictures
show the active units (Lucas and others 2019) and rate and distortion (Alemi and others 2018): the
KL divergence, and minus the log-likelihood, of test images. Every run has a row of its own; a
script that was stopped goes on where it was.
"""

from __future__ import annotations

import functools
from collections.abc import Callable
from pathlib import Path
from typing import Annotated

import numpy as np
import pandas as pd
import torch
import typer
from torch import Tensor
from torch.optim.lr_scheduler import CosineAnnealingLR

from ppl_vae import (
    BernoulliVAE,
    HierarchicalVAE,
    LinearGaussian,
    Pair,
    active_units,
    fit,
    load,
    plots,
)
from ppl_vae.closed_forms import linear_gaussian

WEIGHTS = (0.1, 0.3, 1.0, 3.0, 10.0, 30.0)
LATENT_DIM, NOISE_SCALE = 24, 0.15


def main(
    epochs: Annotated[int, typer.Option(help="Of the two VAEs with networks.")] = 50,
    linear_epochs: Annotated[int, typer.Option(help="Of the linear VAE, a step each.")] = 3000,
    seeds: Annotated[int, typer.Option(help="Runs of each weight; of the linear VAE one.")] = 3,
    seed: Annotated[int, typer.Option(help="Of the first run.")] = 0,
    device: Annotated[str, typer.Option(help="auto, cpu or cuda.")] = "auto",
    out: Annotated[Path, typer.Option(help="Folder for the table and pictures.")] = Path(
        "out/kl_weight"
    ),
    *,
    smoke: Annotated[bool, typer.Option("--smoke", help="Seconds instead of minutes.")] = False,
) -> None:
    """Train each VAE under each weight; write rate, distortion and active units."""
    weights = (0.3, 4.0) if smoke else WEIGHTS
    if smoke:
        epochs, linear_epochs, seeds = 1, 20, 1
    out.mkdir(parents=True, exist_ok=True)
    path = out / "runs.csv"
    known = pd.read_csv(path) if path.exists() else pd.DataFrame()
    rows = known.to_dict("records")
    done = {(row["pair"], row["kl_weight"], row["seed"]) for row in rows}
    for run in range(seed, seed + seeds):
        for weight in weights:
            for name, train in TRAININGS.items():
                if (name, weight, run) in done or (name == "linear" and run > seed):
                    continue
                count = linear_epochs if name == "linear" else epochs
                found = train(weight, count, run, device)
                rows.append({"pair": name, "kl_weight": weight, "seed": run, **found})
                print(rows[-1], flush=True)
                pd.DataFrame(rows).to_csv(path, index=False)
    table = pd.DataFrame(rows)
    summary = table.groupby(["pair", "kl_weight"]).mean().drop(columns="seed").round(3)
    summary.to_csv(out / "kl_weight.csv")
    print(summary.to_string())
    draw_units(table, out / "active_units.png")
    draw_rates(table, out / "rate_distortion.png")


def linear(weight: float, epochs: int, seed: int, device: str) -> dict[str, float]:
    """Return what the linear VAE, with its noise held, comes to, beside the exact answer."""
    x = load("digits", binarize="none").batch(slice(None), dtype=torch.float64).flatten(1)
    best = linear_gaussian.weighted_maximum_likelihood(
        x, LATENT_DIM, kl_weight=weight, noise_scale=NOISE_SCALE
    )
    pair = LinearGaussian(x.shape[1], LATENT_DIM, noise_scale=NOISE_SCALE, seed=seed).double()
    with torch.no_grad():
        pair.decoder.loc.copy_(x.mean(0))
    pair.decoder.log_scale.requires_grad_(requires_grad=False)
    history = fit(
        pair,
        x,
        elbo="analytic-kl",
        kl_weight=weight,
        optimizer=functools.partial(torch.optim.Adam, lr=0.03),
        schedule=functools.partial(CosineAnnealingLR, T_max=epochs),
        num_epochs=epochs,
        batch_size=len(x),
        device=device,
        seed=seed,
        progress=False,
    )
    posterior = weight**0.5 * NOISE_SCALE  # that of the best guide
    return {
        **parts(history.to_dataframe()),
        "active": active(pair, x),
        "exact": int(linear_gaussian.expected_active_units(x, posterior, latent_dim=LATENT_DIM)),
        "below the maximum": maximum(x, best.weight, weight) - exact_objective(pair, x, weight),
    }


def exact_objective(pair: LinearGaussian, x: Tensor, weight: float) -> float:
    """Return the weighted ELBO per example: the ELBO, and what the weight adds to its KL."""
    x = x.to(pair.device)
    with torch.no_grad():
        loc, scale = pair.encode(x)
        kl = 0.5 * (loc.square() + scale.square() - 1).sum(-1) - scale.log().sum(-1)
        return (pair.exact.elbo(x) + (1 - weight) * kl).mean().item()


def maximum(x: Tensor, weight: Tensor, kl_weight: float) -> float:
    """Return the greatest weighted ELBO per example, which that of another noise gives."""
    noise, size = NOISE_SCALE**2, x.shape[1]
    evidence = linear_gaussian.log_evidence(
        x, weight=weight, loc=x.mean(0), noise_scale=(kl_weight * noise) ** 0.5
    )
    constant = kl_weight * np.log(2 * np.pi * kl_weight * noise) - np.log(2 * np.pi * noise)
    return kl_weight * evidence.mean().item() + size / 2 * constant


def networks(
    make: Callable[..., BernoulliVAE | HierarchicalVAE],
    weight: float,
    epochs: int,
    seed: int,
    device: str,
) -> dict[str, float]:
    """Return what a VAE of binary digits comes to."""
    pair = make((1, 8, 8), seed=seed)
    test = load("digits", split="test", binarize="static")
    history = fit(
        pair,
        load("digits"),
        validation=test,
        kl_weight=weight,
        num_epochs=epochs,
        device=device,
        seed=seed,
        progress=False,
    )
    images = test.batch(slice(None), dtype=pair.dtype)
    return {**parts(history.to_dataframe()), "active": active(pair, images)}


def parts(table: pd.DataFrame) -> dict[str, float]:
    """Return rate and distortion after the last epoch that has them, in nats per example."""
    table = table.dropna()
    rate = table[[name for name in table if name.startswith("kl.")]].sum(axis=1)
    return {"rate": rate.iloc[-1], "distortion": -table["log_likelihood"].iloc[-1]}


def active(pair: Pair, x: Tensor) -> int:
    """Return how many units of all layers are active."""
    return sum(units.count for units in active_units(pair, x, seed=0).values())


def draw_units(table: pd.DataFrame, path: Path) -> None:
    """Draw the active units against the weight, for the linear VAE beside the exact number."""
    figure, axes = plots.subplots(1, len(TRAININGS), size=(3.6, 3.4))
    for ax, name in zip(axes[0], TRAININGS, strict=True):
        found = table[table.pair == name].groupby("kl_weight")["active"]
        spread = 2 * (found.std() / np.sqrt(found.size())).fillna(0.0)
        ax.errorbar(found.mean().index, found.mean(), yerr=spread, marker="o", capsize=3)
        if name == "linear":
            exact = table[table.pair == name].groupby("kl_weight")["exact"].first()
            ax.plot(exact.index, exact, "k+", markersize=12, label="exact")
            ax.legend(fontsize=8)
        ax.set_xscale("log")
        ax.set_ylim(bottom=-0.5)
        ax.set_title(f"{name} VAE", fontsize=10)
        ax.set_xlabel("weight of the KL divergence")
        ax.set_ylabel("active units")
    figure.savefig(path, dpi=plots.DPI)


def draw_rates(table: pd.DataFrame, path: Path) -> None:
    """Draw distortion against rate, a point for each weight with bars of two standard errors."""
    names = [name for name in TRAININGS if name != "linear"]
    figure, axes = plots.subplots(1, len(names), size=(4.4, 3.6))
    for ax, name in zip(axes[0], names, strict=True):
        group = table[table.pair == name].groupby("kl_weight")[["rate", "distortion"]]
        mean = group.mean()
        spread = 2 * group.std().div(np.sqrt(group.size()), axis=0).fillna(0.0)
        ax.errorbar(
            mean.rate,
            mean.distortion,
            xerr=spread.rate,
            yerr=spread.distortion,
            marker="o",
            capsize=3,
        )
        # Weights under which nothing is left to say lie on each other.
        silent = mean.rate < 0.05 * mean.rate.max()
        texts = {weight: f"{weight:g}" for weight in mean.index[~silent]}
        if silent.any():
            texts[mean.index[silent][0]] = f"from {mean.index[silent][0]:g} on"
        for weight, text in texts.items():
            point = mean.loc[weight]
            ax.annotate(
                text,
                (point.rate, point.distortion),
                xytext=(6, 4),
                textcoords="offset points",
                fontsize=8,
            )
        ax.set_title(f"{name} VAE", fontsize=10)
        ax.set_xlabel("rate: KL divergence [nats]")
        ax.set_ylabel("distortion: minus log-likelihood [nats]")
        ax.margins(0.1)
    figure.savefig(path, dpi=plots.DPI)


TRAININGS = {
    "linear": linear,
    "Bernoulli": functools.partial(networks, functools.partial(BernoulliVAE, latent_dim=16)),
    "hierarchical": functools.partial(networks, HierarchicalVAE),
}


if __name__ == "__main__":
    typer.run(main)
