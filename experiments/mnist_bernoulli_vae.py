"""The Bernoulli VAE on MNIST: the original protocol, its estimators side by side, its pictures.

    python experiments/mnist_bernoulli_vae.py --data-dir DIR

Encoder 784-256-128 to two locs and two log-variances, decoder 2-128-256-784, ReLU; images
binarised afresh at every use; batches of 100; plain SGD at 5e-3 on the loss per example, 20
epochs, with Adam at 1e-3 beside it. Every estimator and optimiser asked for is a run.
"""

from __future__ import annotations

import functools
from pathlib import Path
from typing import Annotated

import pandas as pd
import torch
import typer

from ppl_vae import BernoulliVAE, History, ImageData, fit, load, plots, seeded

OPTIMIZERS = {
    "sgd": functools.partial(torch.optim.SGD, lr=5e-3),
    "adam": functools.partial(torch.optim.Adam, lr=1e-3),
}


def main(
    data: Annotated[str, typer.Option(help="mnist or digits.")] = "mnist",
    data_dir: Annotated[Path | None, typer.Option(help="Folder of MNIST.")] = None,
    elbo: Annotated[str, typer.Option(help="Estimators, commas between.")] = (
        "trace,trace-mean-field"
    ),
    optimizer: Annotated[str, typer.Option(help="sgd, adam, or both.")] = "sgd,adam",
    epochs: Annotated[int, typer.Option(help="Passes over the data.")] = 20,
    seed: Annotated[int, typer.Option(help="Of everything random.")] = 0,
    device: Annotated[str, typer.Option(help="auto, cpu or cuda.")] = "auto",
    out: Annotated[Path, typer.Option(help="Folder for tables and pictures.")] = Path(
        "out/mnist_bernoulli_vae"
    ),
    *,
    smoke: Annotated[bool, typer.Option("--smoke", help="Seconds, on a few digits.")] = False,
) -> None:
    """Train the Bernoulli VAE with every estimator and optimiser asked for; draw its pictures."""
    if smoke:
        data, epochs = "digits", 2
    out.mkdir(parents=True, exist_ok=True)
    train, test = (load(data, split=split, data_dir=data_dir) for split in ("train", "test"))
    histories: dict[str, History] = {}
    for rule in optimizer.split(","):
        for name in elbo.split(","):
            pair = BernoulliVAE(train.image_shape, latent_dim=2, hidden=(256, 128), seed=seed)
            histories[f"{rule}, {name}"] = fit(
                pair,
                train,
                validation=test,
                elbo=name,
                optimizer=OPTIMIZERS[rule],
                num_epochs=epochs,
                batch_size=100,
                device=device,
                seed=seed,
            )
            folder = out / f"{rule}-{name}"
            folder.mkdir(exist_ok=True)
            draw(pair, test, folder, seed)
    table = pd.DataFrame(
        {
            "run": list(histories),
            "epochs": epochs,
            "train loss": [-h.train_elbo[-1] for h in histories.values()],
            "test loss": [-h.test_elbo[-1] for h in histories.values()],
        }
    ).round(2)
    table.to_csv(out / "losses.csv", index=False)
    print(table.to_string(index=False))
    curves = {
        f"{run}, {part}": values
        for run, h in histories.items()
        for part, values in (("train", h.train_elbo), ("test", h.test_elbo))
    }
    ax = plots.elbo_history(curves, title=f"Bernoulli VAE on {data}, {epochs} epochs")
    plots.save(ax, out / "elbo.png")


def draw(pair: BernoulliVAE, test: ImageData, folder: Path, seed: int) -> None:
    """Draw inputs, one of them binarised, reconstructions, samples, the plane and the codes."""
    grey = ImageData(test.images, test.labels, binarize="none").batch(slice(0, 100))
    with seeded(seed), torch.no_grad():
        x = test.batch(slice(None)).to(pair.device)
        codes = pair.encode(x)[0].cpu()
    pair.cpu()
    x = x.cpu()
    plots.save(plots.image_grid(grey, columns=10), folder / "inputs.png")
    one = torch.cat([grey[:1], x[:1]])
    plots.save(
        plots.image_grid(one, columns=2, title="grey, and one binary draw"),
        folder / "binarised.png",
    )
    rows = plots.reconstructions(x[:16], pair.reconstruct(x[:16]))
    plots.save(rows, folder / "reconstructions.png")
    with torch.no_grad(), seeded(seed):
        samples = pair.likelihood(torch.randn(64, 2).to(x)).mean
        title = "means of p(x | z), z from the prior"
        plots.save(plots.image_grid(samples, title=title), folder / "samples.png")
        walk = plots.latent_walk(lambda z: pair.likelihood(torch.as_tensor(z).to(x)).mean)
    plots.save(walk, folder / "latent_walk.png")
    scatter = plots.latent_scatter(codes, test.labels, title="codes of the test images")
    plots.save(scatter, folder / "latent_scatter.png")


if __name__ == "__main__":
    typer.run(main)
