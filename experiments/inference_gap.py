"""What does a VAE's ELBO lose to the family of its guide, and what to its network?

    python experiments/inference_gap.py --data mnist --data-dir DIR

A Bernoulli VAE with two latent dimensions, so that log p(x) is known by quadrature, on training
and on test images: approximation and amortisation gap (Cremer, Li and Duvenaud 2018), for the best
diagonal and the best full Gaussian of every image.
"""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import pandas as pd
import typer

from ppl_vae import BernoulliVAE, fit, inference_gap, load, plots

QUANTITIES = ("log_evidence", "best_elbo", "elbo", "total", "approximation", "amortisation")
GAPS = QUANTITIES[3:]


def main(
    data: Annotated[str, typer.Option(help="digits or mnist.")] = "digits",
    data_dir: Annotated[Path | None, typer.Option(help="Folder of MNIST.")] = None,
    epochs: Annotated[int, typer.Option(help="Of training.")] = 10,
    images: Annotated[int, typer.Option(help="Of each part, of which the gaps are taken.")] = 100,
    seed: Annotated[int, typer.Option(help="Of everything random.")] = 0,
    device: Annotated[str, typer.Option(help="auto, cpu or cuda.")] = "auto",
    out: Annotated[Path, typer.Option(help="Folder for tables and pictures.")] = Path(
        "out/inference_gap"
    ),
    *,
    smoke: Annotated[bool, typer.Option("--smoke", help="Seconds instead of minutes.")] = False,
) -> None:
    """Train, split the gap on train and test images, draw the worst posteriors."""
    if smoke:
        data, epochs, images = "digits", 2, 6
    out.mkdir(parents=True, exist_ok=True)
    parts = {split: load(data, split=split, data_dir=data_dir) for split in ("train", "test")}
    hidden = (16,) if smoke else (256, 128)
    pair = BernoulliVAE(parts["train"].image_shape, latent_dim=2, hidden=hidden, seed=seed)
    history = fit(
        pair, parts["train"], validation=parts["test"], num_epochs=epochs, device=device, seed=seed
    )
    print(f"ELBO of the last epoch: {history.train_elbo[-1]:.2f} {history.test_elbo[-1]:.2f}")
    rows, bars = [], {}
    for split, part in parts.items():
        for family in ("diagonal", "full"):
            gap = inference_gap(pair, part[:images], family=family, seed=seed, device=device)
            print(f"\n{split}")
            gap.print()
            row: dict[str, object] = {"images": split, "family": family, "count": len(gap)}
            for name in QUANTITIES:
                mean = gap.average(name)
                row |= {name: mean.mean, f"{name} error": mean.standard_error}
                row[f"{name} median"] = float(getattr(gap, name).mean.median())
            row["not converged"] = int((~gap.converged).sum())
            rows.append(row)
            bars[f"{split}\n{family}"] = row
            if split == "test":
                gap.to_dataframe().round(4).to_csv(out / f"worst_{family}.csv")
                axes = gap.plot_posteriors(count=3 if smoke else 6)
                plots.save(axes[0], out / f"posteriors_{family}.png")
                plots.save(gap.plot(), out / f"worst_{family}.png")
    table = pd.DataFrame(rows).round(4)
    table.to_csv(out / "gaps.csv", index=False)
    print()
    shown = ["images", "family", *GAPS, *(f"{name} median" for name in GAPS)]
    print(table[shown].to_string(index=False, float_format="{:.3f}".format))
    heights = {name: [row[name] for row in bars.values()] for name in GAPS[1:]}
    errors = {name: [row[f"{name} error"] for row in bars.values()] for name in GAPS[1:]}
    title = f"{data}, means of {images} images"
    ax = plots.evidence_gap(heights, errors=errors, labels=list(bars), title=title, xlabel="")
    plots.save(ax, out / "gaps.png")


if __name__ == "__main__":
    typer.run(main)
