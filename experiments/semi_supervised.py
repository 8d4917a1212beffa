"""Labels for a few images: does the VAE of all of them help to classify?

    python experiments/semi_supervised.py
    python experiments/semi_supervised.py --data mnist --labels 100 --labels 3000 --epochs 100

M2 of Kingma and others (2014) is trained on all images, of which a few have labels, and on the
labelled ones alone. The test error is the classifier's. Every run has a folder of its own, and a
script that was stopped goes on where it was.
"""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import numpy as np
import pandas as pd
import torch
import typer
from torch import Tensor

from ppl_vae import SemiSupervisedVAE, fit, load, plots, seeded

# Kingma, Rezende, Mohamed and Welling 2014, table 1: M2 on MNIST, error in percent.
PUBLISHED = {100: 11.97, 600: 4.94, 3000: 3.92}
BATCH_SIZE = 100
Data = tuple[Tensor, Tensor]


def main(
    data: Annotated[str, typer.Option(help="digits or mnist.")] = "digits",
    labels: Annotated[list[int] | None, typer.Option(help="How many images have labels.")] = None,
    epochs: Annotated[int, typer.Option(help="Of training on all images.")] = 100,
    seeds: Annotated[int, typer.Option(help="Runs, each with other labels and weights.")] = 3,
    data_dir: Annotated[Path | None, typer.Option(help="Folder of downloaded data.")] = None,
    seed: Annotated[int, typer.Option(help="Of the first run.")] = 0,
    device: Annotated[str, typer.Option(help="auto, cpu or cuda.")] = "auto",
    out: Annotated[Path, typer.Option(help="Folder for runs, tables and pictures.")] = Path(
        "out/semi_supervised"
    ),
    *,
    smoke: Annotated[bool, typer.Option("--smoke", help="Seconds instead of minutes.")] = False,
) -> None:
    """Train with and without the images that have no label; write errors and ELBOs."""
    if smoke:
        labels, epochs, seeds = [50], 1, 1
    counts = labels or ([50, 100, 300] if data == "digits" else [*PUBLISHED])
    out.mkdir(parents=True, exist_ok=True)
    train, test = (examples(data, split, data_dir) for split in ("train", "test"))
    rows = []
    for count in counts:
        for run in range(seed, seed + seeds):
            for unlabelled in (True, False):
                options = {"epochs": epochs, "device": device, "seed": run}
                folder = out / "runs" / f"{data}-{count}-{run}-{'all' if unlabelled else 'few'}"
                row = trained(train, test, count, folder, unlabelled=unlabelled, **options)
                rows.append({"data": data, "labels": count, "seed": run, **row})
                print(rows[-1])
    table = pd.DataFrame(rows)
    table.to_csv(out / f"{data}.csv", index=False)
    summary = table.groupby(["labels", "images"])["test error %"].agg(["mean", "std"]).round(2)
    print(summary.to_string())
    draw(table, out / f"{data}.png", published=data == "mnist")


def examples(data: str, split: str, data_dir: Path | None) -> Data:
    """Return binary images and their labels."""
    found = load(data, split=split, data_dir=data_dir, binarize="static", labels=True)
    images, labels = found.batch(slice(None))
    return images, labels


def trained(
    train: Data,
    test: Data,
    count: int,
    folder: Path,
    *,
    unlabelled: bool,
    epochs: int,
    device: str,
    seed: int,
) -> dict[str, object]:
    """Return the test error of a classifier from `count` labels, and what belongs to it."""
    images, labels = train
    known = chosen(labels, count, seed)
    size = 50 if images.shape[-1] > 8 else 10
    pair = SemiSupervisedVAE(
        tuple(images.shape[1:]),
        latent_dim=size,
        hidden=(10 * size,),
        # Kingma's 0.1 times all examples, spread over the labelled ones.
        alpha=0.1 * len(images) / count,
        seed=seed,
    )
    if unlabelled:
        data = {"x": images, "y": labels, "labelled": known}
    else:
        data = {"x": images[known], "y": labels[known]}
        epochs = 3 * epochs
    history = fit(
        pair,
        data,
        validation=test,
        num_epochs=epochs,
        batch_size=min(BATCH_SIZE, len(data["x"])),
        device=device,
        seed=seed,
        run_dir=folder,
        resume=(folder / "config.json").exists(),
        progress=False,
    )
    x, y = (each.to(pair.device) for each in test)
    with torch.no_grad():
        wrong = (pair.classify(x).argmax(-1) != y).double().mean()
    return {
        "images": "all" if unlabelled else "labelled alone",
        "test error %": round(100 * float(wrong), 3),
        "ELBO of test images and labels": round(history.test_elbo[-1], 3),
        "classifier's loss": round(history.auxiliary[-1], 4),
        "epochs": epochs,
        "seconds": round(sum(history.seconds), 1),
    }


def chosen(labels: Tensor, count: int, seed: int) -> Tensor:
    """Return which examples keep their labels: as many of each class, the rest at random."""
    with seeded(seed):
        order = torch.randperm(len(labels))
    rank = torch.empty(len(labels), dtype=torch.long)
    for label in labels.unique():
        places = order[labels[order] == label]
        rank[places] = torch.arange(len(places))
    first = (rank * (1 + int(labels.max())) + labels).argsort()
    known = torch.zeros(len(labels), dtype=torch.bool)
    known[first[:count]] = True
    return known


def draw(table: pd.DataFrame, path: Path, *, published: bool) -> None:
    """Draw the test error against the number of labels."""
    figure, axes = plots.subplots(1, 1, size=(5.0, 3.6))
    ax = axes[0][0]
    for images, group in table.groupby("images"):
        error = group.groupby("labels")["test error %"]
        ax.errorbar(
            error.mean().index,
            error.mean(),
            yerr=2 * (error.std() / np.sqrt(error.size())).fillna(0.0),
            marker="o",
            capsize=3,
            label=f"trained on {images}" + (" images" if images == "all" else ""),
        )
    if published:
        ax.plot(*zip(*PUBLISHED.items(), strict=True), "k+", label="M2 of Kingma and others 2014")
    ax.set_xscale("log")
    ax.set_xlabel("images with a label")
    ax.set_ylabel("test error [%]")
    ax.set_ylim(bottom=0)
    ax.legend(fontsize=8)
    figure.savefig(path, dpi=plots.DPI)


if __name__ == "__main__":
    typer.run(main)
