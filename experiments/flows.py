"""A richer posterior or a richer prior: mean field against IAF, and a MAF prior, on images.

    python experiments/flows.py --data mnist --data-dir DIR

One VAE of binary images with the networks of altosaar's variational-autoencoder (a code of 128,
two hidden layers of 512) is trained with a diagonal Normal guide, with an inverse autoregressive
guide (Kingma and others 2016), and with a masked autoregressive prior (Papamakarios and others
2017) by three estimators. Of each the ELBO and the importance-weighted bound of the test images
are written down. Every run has a row of its own; a script that was stopped goes on where it was.
"""

from __future__ import annotations

import functools
from pathlib import Path
from typing import Annotated, Any

import numpy as np
import pandas as pd
import torch
import typer

from ppl_vae import (
    BernoulliVAE,
    FlowPrior,
    IAFPosterior,
    elbos,
    evaluate,
    fit,
    load,
    plots,
)

# Each one's prior and posterior, and the estimator that trains it with how many particles.
RUNS: dict[str, tuple[dict[str, Any], str, int]] = {
    "mean field": ({}, "analytic-kl", 1),
    "IAF posterior": ({"posterior": IAFPosterior(2, hidden=(512,))}, "analytic-kl", 1),
    "MAF prior": ({"prior": FlowPrior("maf", hidden=(128,))}, "analytic-kl", 1),
    "MAF prior, dreg": ({"prior": FlowPrior("maf", hidden=(128,))}, "dreg", 5),
    "MAF prior, generalised-dreg": (
        {"prior": FlowPrior("maf", hidden=(128,))},
        "generalised-dreg",
        5,
    ),
}
LATENT_DIM, HIDDEN = 128, (512, 512)


def main(
    data: Annotated[str, typer.Option(help="A data set of images.")] = "digits",
    data_dir: Annotated[Path | None, typer.Option(help="Folder of downloaded data.")] = None,
    epochs: Annotated[int, typer.Option(help="Of each run.")] = 50,
    samples: Annotated[int, typer.Option(help="Of the bound of a test image.")] = 1000,
    seeds: Annotated[int, typer.Option(help="Runs of each.")] = 3,
    seed: Annotated[int, typer.Option(help="Of the first run.")] = 0,
    device: Annotated[str, typer.Option(help="auto, cpu or cuda.")] = "auto",
    out: Annotated[Path, typer.Option(help="Folder for the table and picture.")] = Path(
        "out/flows"
    ),
    *,
    smoke: Annotated[bool, typer.Option("--smoke", help="Seconds instead of hours.")] = False,
) -> None:
    """Train each; write its ELBO and its bound of the test images."""
    if smoke:
        epochs, samples, seeds = 1, 2, 1
    out.mkdir(parents=True, exist_ok=True)
    path = out / "runs.csv"
    rows = pd.read_csv(path).to_dict("records") if path.exists() else []
    done = {(row["run"], row["data"], row["seed"]) for row in rows}
    for number in range(seed, seed + seeds):
        for name in RUNS:
            if (name, data, number) in done:
                continue
            found = measured(name, data, data_dir, epochs, samples, number, device, smoke=smoke)
            rows.append({"run": name, "data": data, "seed": number, **found})
            print(rows[-1], flush=True)
            pd.DataFrame(rows).to_csv(path, index=False)
    draw(pd.DataFrame(rows), out / "flows.png")


def measured(
    name: str,
    data: str,
    data_dir: Path | None,
    epochs: int,
    samples: int,
    seed: int,
    device: str,
    *,
    smoke: bool,
) -> dict[str, float]:
    """Return one run's ELBO and bound, in nats per test image, and its seconds."""
    options, elbo, particles = RUNS[name]
    train = load(data, data_dir=data_dir)
    test = load(data, split="test", binarize="static", data_dir=data_dir)
    images = test.batch(slice(0, 20) if smoke else slice(None), dtype=torch.get_default_dtype())
    pair = BernoulliVAE(images.shape[1:], LATENT_DIM, HIDDEN, seed=seed, **options)
    history = fit(
        pair,
        train.batch(slice(0, 100)) if smoke else train,
        elbo=elbos.make(elbo, num_particles=particles),
        optimizer=functools.partial(torch.optim.Adam, lr=3e-4),
        num_epochs=epochs,
        device=device,
        seed=seed,
        progress=False,
    )
    found = evaluate(pair, images, num_samples=samples, device=device, seed=seed)
    return {
        "elbo": found.average_elbo.mean,
        "bound": found.evidence.average.mean,
        "seconds": sum(history.seconds),
    }


def draw(table: pd.DataFrame, path: Path) -> None:
    """Draw ELBO and bound of each run, means over the seeds with bars of two standard errors."""
    figure, axes = plots.subplots(1, 1, size=(6.4, 3.6))
    ax, names = axes[0][0], [name for name in RUNS if name in set(table.run)]
    for column, marker in (("elbo", "o"), ("bound", "s")):
        group = table.groupby("run")[column]
        spread = 2 * (group.std() / np.sqrt(group.size())).fillna(0.0)
        mean = group.mean()[names]
        ax.errorbar(mean, range(len(names)), xerr=spread[names], fmt=marker, label=column)
    ax.set_yticks(range(len(names)), names, fontsize=8)
    ax.set_xlabel("nats per test image")
    ax.margins(0.1)
    ax.legend(fontsize=8)
    figure.savefig(path, dpi=plots.DPI)


if __name__ == "__main__":
    typer.run(main)
