"""The convolutional VAE on grey images: what the scale of its Normal pixels does.

    python experiments/conv_gaussian_vae.py --data-dir DIR

Pixels scaled to [-1, 1], 32 latent dimensions, Normal pixels of unit scale, and of a learned one.
At unit scale a pixel that is wrong by 1, half of the whole range, costs half a nat, so few details
pay for the nats of their code, and reconstructions are blurred. The learned scale nears the root
mean squared error of a pixel; measured in it, the same details are worth many more nats.
"""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import pandas as pd
import torch
import typer
from torch import Tensor

from ppl_vae import (
    ConvGaussianVAE,
    aggregate_posterior,
    explain_elbo,
    fit,
    load,
    plots,
    seeded,
)

KINDS = {"unit scale": False, "learned scale": True}
RANGE = {"vmin": -1.0, "vmax": 1.0}


def main(
    data: Annotated[str, typer.Option(help="mnist, fashion-mnist, kmnist or digits.")] = "mnist",
    data_dir: Annotated[Path | None, typer.Option(help="Folder of the data.")] = None,
    epochs: Annotated[int, typer.Option(help="Passes over the data.")] = 10,
    batch_size: Annotated[int, typer.Option(help="Images a step.")] = 128,
    elbo: Annotated[str, typer.Option(help="The estimator.")] = "trace-mean-field",
    seed: Annotated[int, typer.Option(help="Of everything random.")] = 0,
    device: Annotated[str, typer.Option(help="auto, cpu or cuda.")] = "auto",
    out: Annotated[Path, typer.Option(help="Folder for table and pictures.")] = Path(
        "out/conv_gaussian_vae"
    ),
    *,
    smoke: Annotated[bool, typer.Option("--smoke", help="Seconds, on a few digits.")] = False,
) -> None:
    """Train with unit and with learned scale; write a table and pictures."""
    if smoke:
        data, epochs, batch_size = "digits", 1, 500
    out.mkdir(parents=True, exist_ok=True)
    options = ConvGaussianVAE.data_options
    train, test = (load(data, split=s, data_dir=data_dir, **options) for s in ("train", "test"))
    rows, curves = [], {}
    for kind, learn_scale in KINDS.items():
        pair = ConvGaussianVAE(32, learn_scale, image_shape=train.image_shape, seed=seed)
        history = fit(
            pair,
            train,
            validation=test,
            elbo=elbo,
            num_epochs=epochs,
            batch_size=batch_size,
            seed=seed,
            device=device,
        )
        curves[f"{kind}, test"] = history.test_elbo
        x = test.batch(slice(0, 1000), dtype=pair.dtype).to(pair.device)
        rows.append({"pixels": kind, "epochs": epochs} | measure(pair, x, seed))
        rows[-1]["test ELBO"] = round(history.test_elbo[-1], 2)
        draw(pair, x, out, kind, seed)
    table = pd.DataFrame(rows)
    table.to_csv(out / "scales.csv", index=False)
    print(table.to_string(index=False))
    ax = plots.elbo_history(curves, title=f"convolutional VAE on {data}")
    plots.save(ax, out / "elbo.png")


def measure(pair: ConvGaussianVAE, x: Tensor, seed: int) -> dict[str, object]:
    """Return the scale, the error of a pixel, the KL and the active units, on test images."""
    error = (pair.reconstruct(x) - x).square().mean().sqrt()
    ledger = explain_elbo("trace-mean-field", pair, x, num_draws=10, seed=seed)
    found = aggregate_posterior(pair, x, seed=seed)
    return {
        "scale": round(pair.log_scale.exp().item(), 3),
        "root mean squared error of a pixel": round(error.item(), 3),
        "log-likelihood": round(ledger["x"].value.mean / len(x), 2),
        "KL": round(found.mean_kl, 2),
        "active units": f"{found.active_units} of {pair.latent_dim}",
    }


def draw(pair: ConvGaussianVAE, x: Tensor, out: Path, kind: str, seed: int) -> None:
    """Draw 16 reconstructions under their inputs, and 64 means of draws from the prior."""
    name = kind.replace(" ", "_")
    rows = plots.reconstructions(
        x[:16].cpu(), pair.reconstruct(x[:16]).cpu(), title=f"reconstructions, {kind}", **RANGE
    )
    plots.save(rows, out / f"reconstructions_{name}.png")
    with seeded(seed, pair.device), torch.no_grad():
        z = torch.randn(64, pair.latent_dim, dtype=pair.dtype, device=pair.device)
        means = pair.decode(z).cpu()
    grid = plots.image_grid(means, title=f"means of p(x | z), z from the prior, {kind}", **RANGE)
    plots.save(grid, out / f"samples_{name}.png")


if __name__ == "__main__":
    typer.run(main)
