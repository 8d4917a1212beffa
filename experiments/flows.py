"""A richer posterior or a richer prior: mean field against IAF, and a MAF prior, on images.

    python experiments/flows.py --data mnist --data-dir DIR

One VAE of binary images with the networks and the training of altosaar's variational-autoencoder
(a code of 128, two hidden layers of 256, centred RMSprop, images binarised once, the last sixth
of them for validation) is trained with a diagonal Normal guide, whose KL is a closed form or
sampled; with an inverse autoregressive guide (Kingma and others 2016); with a masked
autoregressive prior (Papamakarios and others 2017); and with a prior of coupling layers by `dreg`
and by `generalised-dreg`, which draws from the prior again: a masked autoregressive one would take
a pass for each of the 128 dimensions. Of each the ELBO and the importance-weighted bound of the
test images are written down, with the parameters of the best epoch. Every run has a folder and a
row: a script that was stopped goes on where it was, and more epochs go on with the runs of fewer.
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
    load_pair,
    plots,
    seeded,
)

LATENT_DIM, HIDDEN = 128, (256, 256)
COUPLING = {"prior": FlowPrior("nice", hidden=(128,))}
# Each one's prior and posterior, and the estimator that trains it with how many particles.
RUNS: dict[str, tuple[dict[str, Any], str, int]] = {
    "mean field": ({}, "analytic-kl", 1),
    "mean field, sampled KL": ({}, "trace", 1),
    "IAF posterior": ({"posterior": IAFPosterior(2, hidden=(256, 256))}, "analytic-kl", 1),
    "MAF prior": ({"prior": FlowPrior("maf", hidden=(128,))}, "analytic-kl", 1),
    "coupling prior, dreg": (COUPLING, "dreg", 5),
    "coupling prior, generalised-dreg": (COUPLING, "generalised-dreg", 5),
}


def main(
    data: Annotated[str, typer.Option(help="A data set of images.")] = "digits",
    data_dir: Annotated[Path | None, typer.Option(help="Folder of downloaded data.")] = None,
    run: Annotated[list[str] | None, typer.Option(help="Which; all by default.")] = None,
    epochs: Annotated[int, typer.Option(help="Of each run.")] = 50,
    samples: Annotated[int, typer.Option(help="Of the bound of a test image.")] = 128,
    seeds: Annotated[int, typer.Option(help="Runs of each.")] = 3,
    seed: Annotated[int, typer.Option(help="Of the first run.")] = 0,
    device: Annotated[str, typer.Option(help="auto, cpu or cuda.")] = "auto",
    out: Annotated[Path, typer.Option(help="Folder for runs, table and picture.")] = Path(
        "out/flows"
    ),
    *,
    smoke: Annotated[bool, typer.Option("--smoke", help="Seconds instead of hours.")] = False,
) -> None:
    """Train each; write its ELBO and its bound of the test images."""
    if smoke:
        epochs, samples, seeds = 1, 2, 1
    out.mkdir(parents=True, exist_ok=True)
    path = out / f"{data}.csv"
    rows = {}
    if path.exists():
        rows = {(r["run"], r["seed"]): r for r in pd.read_csv(path).to_dict("records")}
    for number in range(seed, seed + seeds):
        for name in run or RUNS:
            if rows.get((name, number), {"epochs": 0})["epochs"] < epochs:
                words = name.replace(",", "").replace(" ", "-")
                folder = out / "runs" / f"{data}-{words}-{number}"
                found = measured(
                    name, data, data_dir, folder, epochs, samples, number, device, smoke=smoke
                )
                rows[name, number] = {"run": name, "seed": number, "epochs": epochs, **found}
                print(rows[name, number], flush=True)
                pd.DataFrame(list(rows.values())).to_csv(path, index=False)
    draw(pd.DataFrame(list(rows.values())), out / f"{data}.png")


def measured(
    name: str,
    data: str,
    data_dir: Path | None,
    folder: Path,
    epochs: int,
    samples: int,
    seed: int,
    device: str,
    *,
    smoke: bool,
) -> dict[str, float]:
    """Return a run's best epoch, its ELBO and bound in nats per test image, and its seconds."""
    options, elbo, particles = RUNS[name]
    images, test = (examples(data, split, data_dir, smoke=smoke) for split in ("train", "test"))
    kept = len(images) * 5 // 6
    pair = BernoulliVAE(images.shape[1:], LATENT_DIM, HIDDEN, seed=seed, **options)
    history = fit(
        pair,
        images[:kept],
        validation=images[kept:],
        keep="best",
        elbo=elbos.make(elbo, num_particles=particles),
        optimizer=functools.partial(torch.optim.RMSprop, lr=1e-3, centered=True),
        num_epochs=epochs,
        device=device,
        seed=seed,
        run_dir=folder,
        resume=(folder / "checkpoint.safetensors").exists(),
        progress=False,
    )
    found = evaluate(load_pair(folder), test, num_samples=samples, device=device, seed=seed)
    return {
        "best epoch": history.best_epoch or epochs,
        "ELBO": found.average_elbo.mean,
        "bound": found.evidence.average.mean,
        "seconds": sum(history.seconds),
    }


def examples(data: str, split: str, data_dir: Path | None, *, smoke: bool) -> torch.Tensor:
    """Return images, binarised once."""
    with seeded(0):
        found = load(data, split=split, data_dir=data_dir, binarize="static")
        return found.batch(slice(0, 60) if smoke else slice(None))


def draw(table: pd.DataFrame, path: Path) -> None:
    """Draw ELBO and bound of each run, means over the seeds with bars of two standard errors."""
    figure, axes = plots.subplots(1, 1, size=(6.4, 3.6))
    ax, names = axes[0][0], [name for name in RUNS if name in set(table.run)]
    for column, marker in (("ELBO", "o"), ("bound", "s")):
        group = table.groupby("run")[column]
        spread = 2 * (group.std() / np.sqrt(group.size())).fillna(0.0)
        mean = group.mean()[names]
        ax.errorbar(mean, range(len(names)), xerr=spread[names], fmt=marker, label=column)
    ax.set_yticks(range(len(names)), names, fontsize=8)
    ax.set_xlabel("nats per test image")
    ax.locator_params(axis="x", nbins=6)
    ax.margins(0.1)
    ax.legend(fontsize=8)
    figure.savefig(path, dpi=plots.DPI)


if __name__ == "__main__":
    typer.run(main)
