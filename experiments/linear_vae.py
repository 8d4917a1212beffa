"""Proof that training works: the linear VAE reaches the exact maximum of its likelihood.

    python experiments/linear_vae.py --data-dir DIR

The maximum over all weights, means and noise scales is known in closed form (Tipping and Bishop
1999), and the ELBO of a diagonal guide reaches the evidence there. Two trainings for each data
set, by SVI with a decaying step: all parameters, with few latent units; and the noise scale held,
with more units than there are eigenvalues above the noise variance, so that the rest must fall
silent. Printed: how far the trained evidence and ELBO are below the exact maximum, per example,
and the units that are active (posterior means with a variance above 0.01) beside the exact count.
"""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import pandas as pd
import pyro
import torch
import typer
from torch import Tensor

from ppl_vae import History, LinearGaussian, active_units, fit, load, plots
from ppl_vae.closed_forms import linear_gaussian

# latent units; held noise scale or None; batch size; epochs; learning rate
RUNS = {
    ("digits", "noise learned"): (10, None, 1437, 3000, 0.05),
    ("digits", "noise held"): (24, 0.23, 1437, 3000, 0.05),
    ("mnist", "noise learned"): (20, None, 500, 1000, 0.02),
    ("mnist", "noise held"): (40, 0.8, 1000, 150, 0.05),
}


def main(
    data: Annotated[str, typer.Option(help="digits, mnist, or both.")] = "digits,mnist",
    data_dir: Annotated[Path | None, typer.Option(help="Folder of MNIST.")] = None,
    elbo: Annotated[str, typer.Option(help="The estimator.")] = "sticking-the-landing",
    seed: Annotated[int, typer.Option(help="Of everything random.")] = 0,
    device: Annotated[str, typer.Option(help="auto, cpu or cuda.")] = "auto",
    out: Annotated[Path, typer.Option(help="Folder for the table.")] = Path("out/linear_vae"),
    *,
    smoke: Annotated[bool, typer.Option("--smoke", help="Seconds, on a few digits.")] = False,
) -> None:
    """Train on every data set, with the noise scale learned and held."""
    out.mkdir(parents=True, exist_ok=True)
    rows, curves = [], {}
    chosen = ("digits",) if smoke else data.split(",")
    for (name, kind), (latent_dim, held, batch_size, epochs, rate) in RUNS.items():
        if name in chosen:
            images = load(name, data_dir=data_dir, binarize="none")
            x = images.batch(slice(None), dtype=torch.float32).flatten(1)
            epochs = 20 if smoke else epochs
            best, weight, noise_scale = optimum(x, latent_dim, held)
            pair = LinearGaussian(x.shape[1], latent_dim, noise_scale=held or 0.3, seed=seed)
            with torch.no_grad():
                pair.decoder.loc.copy_(x.mean(0))
            pair.decoder.log_scale.requires_grad_(held is None)
            history = train(pair, x, elbo, batch_size, epochs, rate, seed=seed, device=device)
            pair = pair.double().cpu()
            with torch.no_grad():
                evidence = pair.exact.log_evidence(x.double()).mean().item()
                bound = pair.exact.elbo(x.double()).mean().item()
            above = linear_gaussian.expected_active_units(x, noise_scale, latent_dim=latent_dim)
            curves[f"{name}, {kind}"] = best - torch.tensor(history.train_elbo)
            rows.append(
                {
                    "data": name,
                    "noise": kind.removeprefix("noise "),
                    "latent units": latent_dim,
                    "noise scale": round(pair.decoder.log_scale.exp().item(), 4),
                    "exact noise scale": round(noise_scale, 4),
                    "maximum": round(best, 4),
                    "evidence below it": round(best - evidence, 4),
                    "ELBO below it": round(best - bound, 4),
                    "active": active_units(pair, x.double(), seed=seed)["z"].count,
                    "eigenvalues above noise": int(above),
                    "weight's rank": rank(weight),
                }
            )
    table = pd.DataFrame(rows)
    table.to_csv(out / "maximum_likelihood.csv", index=False)
    print(table.to_string(index=False))
    draw(curves, out)


def optimum(x: Tensor, latent_dim: int, held: float | None) -> tuple[float, Tensor, float]:
    """Return the greatest mean evidence, and the weight and noise scale it has."""
    weight, loc, noise_scale = linear_gaussian.maximum_likelihood(
        x.double(), latent_dim, noise_scale=held
    )
    best = linear_gaussian.log_evidence(x.double(), weight, loc, noise_scale).mean()
    return best.item(), weight, float(noise_scale)


def rank(weight: Tensor) -> int:
    """Return how many columns of the exact weight are not 0."""
    return int((weight.square().sum(0) > 0).sum())


def train(
    pair: LinearGaussian,
    x: Tensor,
    elbo: str,
    batch_size: int,
    epochs: int,
    rate: float,
    *,
    seed: int,
    device: str,
) -> History:
    """Run SVI with Adam, its step decaying to a thousandth along a cosine."""
    optimizer = pyro.optim.CosineAnnealingLR(
        {
            "optimizer": torch.optim.Adam,
            "optim_args": {"lr": rate},
            "T_max": epochs,
            "eta_min": rate / 1000,
        }
    )
    return fit(
        pair,
        x,
        elbo=elbo,
        optimizer=optimizer,
        num_epochs=epochs,
        batch_size=batch_size,
        seed=seed,
        device=device,
        progress=False,
    )


def draw(curves: dict[str, Tensor], out: Path) -> None:
    """Draw how far the estimated ELBO is below the maximum, over the course of training."""
    _, axes = plots.subplots(size=(6.5, 3.6))
    ax = axes[0, 0]
    for name, gap in curves.items():
        done = torch.arange(1, len(gap) + 1) / len(gap)
        ax.plot(done, gap.clamp_min(1e-3), label=name)
    ax.axhline(0.01, color=plots.GREY, linestyle=":", label="0.01 nats")
    ax.set_yscale("log")
    ax.set_xlabel("share of the training")
    ax.set_ylabel("estimated ELBO below the exact maximum\nof the evidence, nats per example")
    ax.legend(loc="upper left", bbox_to_anchor=(1, 1))
    plots.save(ax, out / "gap.png")


if __name__ == "__main__":
    typer.run(main)
