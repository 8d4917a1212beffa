"""How far are importance weights and annealing from the true evidence of a trained VAE?

    python experiments/evidence.py
    python experiments/evidence.py --data mnist --data-dir DIR

A Bernoulli VAE with two latent dimensions, so that quadrature knows log p(x) of every image.
"""

from __future__ import annotations

import time
from pathlib import Path
from typing import Annotated, Any

import pandas as pd
import typer

from ppl_vae import (
    BernoulliVAE,
    ImageData,
    Pair,
    bidirectional_evidence,
    fit,
    load,
    log_evidence,
    plots,
)


def main(
    data: Annotated[str, typer.Option(help="Data set: digits, mnist, ...")] = "digits",
    data_dir: Annotated[Path | None, typer.Option(help="Folder of downloaded data.")] = None,
    epochs: Annotated[int, typer.Option(help="Of training before.")] = 10,
    examples: Annotated[int, typer.Option(help="Test images.")] = 100,
    seed: Annotated[int, typer.Option(help="Of everything random.")] = 0,
    device: Annotated[str, typer.Option(help="auto, cpu or cuda.")] = "auto",
    out: Annotated[Path, typer.Option(help="Folder for tables and pictures.")] = Path(
        "out/evidence"
    ),
    *,
    smoke: Annotated[bool, typer.Option("--smoke", help="Seconds instead of minutes.")] = False,
) -> None:
    """Compare the estimators with the truth; write two tables and a figure."""
    out.mkdir(parents=True, exist_ok=True)
    weights = (10, 100) if smoke else (2, 10, 100, 1000, 5000)
    temperatures = (2, 5) if smoke else (3, 10, 30, 100)
    epochs, examples = (1, 4) if smoke else (epochs, examples)
    train, test = (load(data, split=part, data_dir=data_dir) for part in ("train", "test"))
    pair = BernoulliVAE(train.image_shape, latent_dim=2, seed=seed)
    fit(pair, train, num_epochs=epochs, seed=seed, device=device, progress=False)
    images = test[slice(0, examples)]
    common = {"seed": seed, "device": device}
    table = against_truth(pair, images, weights, temperatures, common)
    table.to_csv(out / "against_truth.csv", index=False)
    print(table.to_string(index=False, float_format="{:.4g}".format))
    sandwich = both_sides(pair, min(examples, 50), temperatures, common)
    sandwich.to_csv(out / "both_sides.csv", index=False)
    print("\non data that the model has made:")
    print(sandwich.to_string(index=False, float_format="{:.4g}".format))
    draw(table, sandwich, out / "evidence.png")


def against_truth(
    pair: Pair,
    images: ImageData,
    weights: tuple[int, ...],
    temperatures: tuple[int, ...],
    common: dict[str, Any],
) -> pd.DataFrame:
    """Return, for every estimator, how far it is from quadrature, in nats per image."""
    began = time.perf_counter()
    truth = log_evidence(pair, images, method="quadrature", **common)
    print(f"{truth}\n")
    rows = [row("quadrature", truth.num_samples, truth, truth, began)]
    for count in weights:
        began = time.perf_counter()
        found = log_evidence(pair, images, num_samples=count, **common)
        rows.append(row("iwae", count, found, truth, began))
    for count in temperatures:
        began = time.perf_counter()
        found = log_evidence(
            pair, images, method="ais", num_temperatures=count, num_samples=16, **common
        )
        rows.append(row("ais", count, found, truth, began))
    return pd.DataFrame(rows)


def row(name: str, size: int, found: Any, truth: Any, began: float) -> dict[str, Any]:  # noqa: ANN401
    """Return one line of the table."""
    gap = (truth.mean - found.mean).double()
    z = found.per_example().z_score(truth.mean)
    trusted = found.pareto_k < 0.7
    return {
        "estimator": name,
        "size": size,
        "NLL": found.nll.mean,
        "below the truth": gap.mean().item(),
        "its error": found.monte_carlo_error,
        "largest gap": gap.abs().max().item(),
        "largest |z|, k < 0.7": z[trusted].abs().max().item() if bool(trusted.any()) else None,
        "k > 0.7": found.num_unreliable,
        "seconds": time.perf_counter() - began,
    }


def both_sides(
    pair: BernoulliVAE, examples: int, temperatures: tuple[int, ...], common: dict[str, Any]
) -> pd.DataFrame:
    """Return both bounds, less the truth, on simulated images."""
    rows, truth = [], None
    for count in temperatures:
        found = bidirectional_evidence(
            pair, pair.blank(examples), num_temperatures=count, num_samples=16, **common
        )
        if truth is None:  # the same seed makes the same images every time
            truth = log_evidence(pair, found.x, method="quadrature", **common).mean
        record: dict[str, float] = {"temperatures": count}
        for side in ("lower", "upper"):
            gap = (getattr(found, side).mean - truth).double()
            record[side] = gap.mean().item()
            record[f"{side} error"] = gap.std().item() / examples**0.5
        rows.append({**record, "gap": found.gap.mean, "gap error": found.gap.standard_error})
    return pd.DataFrame(rows)


def draw(table: pd.DataFrame, sandwich: pd.DataFrame, path: Path) -> None:
    """Draw how the bounds near the truth."""
    figure, axes = plots.subplots(1, 2, size=(4.6, 3.4))
    left, right = axes[0]
    style: dict[str, Any] = {"marker": "o", "capsize": 3}
    part = table[table.estimator == "iwae"]
    gap, error = -part["below the truth"], part["its error"]
    left.errorbar(part["size"], gap, error, color=plots.BLUE, label="mean over weights", **style)
    left.set(title="test images", xlabel="importance weights per image")
    left.set_ylabel("estimate - log p(x), mean (nats)")
    for side, colour in (("lower", plots.BLUE), ("upper", plots.RED)):
        at = sandwich.temperatures * (0.97 if side == "lower" else 1.03)
        error = sandwich[f"{side} error"]
        right.errorbar(at, sandwich[side], error, color=colour, label=f"{side} bound", **style)
    right.set(title="images made by the model, annealing", xlabel="temperatures")
    for ax in axes[0]:
        ax.axhline(0, color=plots.GREY, linewidth=1, label="truth (quadrature)")
        ax.set_xscale("log")
        ax.legend(frameon=False)
    figure.savefig(path, dpi=plots.DPI)


if __name__ == "__main__":
    typer.run(main)
