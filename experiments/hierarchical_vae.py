"""Two stochastic layers: both guides, every valid estimator, and what each layer carries.

    python experiments/hierarchical_vae.py --data-dir DIR

For the bottom-up and the top-down guide, which estimators are valid (the ledger says so site by
site: one analytic KL per site is not, bottom-up), the noise of their gradients at the trained
guide, and the ELBO and evidence to which each of them trains (``iwae`` and ``dreg`` with five
particles). Then the bound layer by layer: the nats that each layer costs,
``E_q[log q(z_i | ...) - log p(z_i | ...)]``, and its active units.
"""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import numpy as np
import pandas as pd
import typer
from torch import Tensor

from ppl_vae import (
    HierarchicalVAE,
    ImageData,
    TraceDReG_ELBO,
    TraceIWAE_ELBO,
    active_units,
    compare_elbos,
    explain_elbo,
    fit,
    load,
    log_evidence,
    plots,
    seeded,
)

PARTICLES = 5
GUIDES = ("bottom-up", "top-down")
ESTIMATORS = (
    "trace",
    "trace-mean-field",
    "analytic-kl",
    "sticking-the-landing",
    "iwae",
    "dreg",
)


def main(
    data: Annotated[str, typer.Option(help="mnist, fashion-mnist, kmnist or digits.")] = "mnist",
    data_dir: Annotated[Path | None, typer.Option(help="Folder of the data.")] = None,
    epochs: Annotated[int, typer.Option(help="Passes over the data, for each run.")] = 3,
    samples: Annotated[int, typer.Option(help="Importance samples of the evidence.")] = 500,
    replicates: Annotated[int, typer.Option(help="Gradients of each estimator.")] = 100,
    seed: Annotated[int, typer.Option(help="Of everything random.")] = 0,
    device: Annotated[str, typer.Option(help="auto, cpu or cuda.")] = "auto",
    out: Annotated[Path, typer.Option(help="Folder for tables and pictures.")] = Path(
        "out/hierarchical_vae"
    ),
    *,
    smoke: Annotated[bool, typer.Option("--smoke", help="Seconds, on a few digits.")] = False,
) -> None:
    """Train both guides with every valid estimator; write what they reach, layer by layer."""
    sizes, images = ((100, 50), 500)
    if smoke:
        data, epochs, samples, replicates, sizes, images = "digits", 1, 20, 10, (6, 3), 20
    out.mkdir(parents=True, exist_ok=True)
    train, test = (load(data, split=split, data_dir=data_dir) for split in ("train", "test"))
    with seeded(seed):
        x = test.batch(slice(0, images))
    runs, layers, noise = [], [], []
    for guide in GUIDES:
        for elbo in valid(guide, x[:5], sizes):
            pair = HierarchicalVAE(train.image_shape, sizes, guide, seed=seed)
            pair.decoder.start_at(train.images.float().mean(0) / 255)
            run = train_one(pair, train, elbo, epochs, seed=seed, device=device)
            found = bound(pair, x.to(pair.device), samples, seed)
            runs.append({"guide": guide, "estimator": elbo, "epochs": epochs} | run | found[0])
            if elbo == "analytic-kl":
                layers += [{"guide": guide} | row for row in found[1]]
                compared = compare_elbos(
                    pair,
                    x[:32].to(pair.device),
                    valid(guide, x[:5], sizes),
                    num_replicates=replicates,
                ).to_dataframe()
                compared.insert(0, "guide", guide)
                noise.append(compared)
    for name, table in {"runs": pd.DataFrame(runs), "layers": pd.DataFrame(layers)}.items():
        table.to_csv(out / f"{name}.csv", index=False)
        print(table.to_string(index=False), end="\n\n")
    pd.concat(noise).to_csv(out / "estimators.csv")
    draw(pd.DataFrame(runs), pd.DataFrame(layers), out)


def valid(guide: str, x: Tensor, sizes: tuple[int, ...]) -> list[str]:
    """Return the estimators whose every site is treated validly with this guide."""
    pair = HierarchicalVAE(tuple(x.shape[1:]), sizes, guide, seed=0)
    return [e for e in ESTIMATORS if explain_elbo(e, pair, x, num_draws=2).is_valid]


def train_one(
    pair: HierarchicalVAE, train: ImageData, elbo: str, epochs: int, *, seed: int, device: str
) -> dict[str, object]:
    """Train with one estimator; return its own training value and its time."""
    several = {"iwae": TraceIWAE_ELBO, "dreg": TraceDReG_ELBO}
    options = {"num_particles": PARTICLES, "vectorize_particles": True, "max_plate_nesting": 1}
    chosen = several[elbo](**options) if elbo in several else elbo
    history = fit(
        pair, train, elbo=chosen, num_epochs=epochs, batch_size=50, seed=seed, device=device
    )
    return {
        "its training value": round(history.train_elbo[-1], 2),
        "seconds an epoch": round(float(np.median(history.seconds)), 1),
    }


def bound(
    pair: HierarchicalVAE, x: Tensor, samples: int, seed: int
) -> tuple[dict[str, object], list[dict[str, object]]]:
    """Return ELBO and evidence per example, and the bound's parts layer by layer."""
    ledger = explain_elbo("trace", pair, x, num_draws=20, seed=seed)
    units = active_units(pair, x, seed=seed)
    evidence = log_evidence(pair, x, num_samples=samples, seed=seed)
    parts = [
        {
            "layer": row.treatment.site,
            "nats": round(row.value.mean / len(x), 2),
            "standard error": round(row.value.standard_error / len(x), 3),
            "active units": str(units.get(row.treatment.site, "")),
        }
        for row in ledger.rows
    ]
    return {
        "test ELBO": round(ledger.value.mean / len(x), 2),
        f"test evidence ({samples} samples)": round(evidence.mean.double().mean().item(), 2),
    }, parts


def draw(runs: pd.DataFrame, layers: pd.DataFrame, out: Path) -> None:
    """Draw what each run reaches, and how many nats each layer costs."""
    _, axes = plots.subplots(1, 2, size=(5.2, 3.4))
    left, right = axes[0]
    names = list(dict.fromkeys(runs["estimator"]))
    for place, (guide, colour) in enumerate(zip(GUIDES, (plots.BLUE, plots.ORANGE), strict=True)):
        part = runs[runs["guide"] == guide]
        heights = [names.index(name) + 0.2 * (2 * place - 1) for name in part["estimator"]]
        left.scatter(part["test ELBO"], heights, color=colour, label=f"{guide}, ELBO")
        evidence = part.iloc[:, -1]
        left.scatter(
            evidence, heights, facecolors="none", edgecolors=colour, label=f"{guide}, evidence"
        )
        costs = layers[(layers["guide"] == guide) & (layers["layer"] != "x")]
        costs = costs.sort_values("layer")
        bars = right.bar(
            np.arange(len(costs)) + 0.4 * place - 0.2, -costs["nats"], 0.38, color=colour
        )
        bars.set_label(guide)
        right.bar_label(bars, labels=[f"{n} active" for n in costs["active units"]], fontsize=7)
        right.set_xticks(np.arange(len(costs)), costs["layer"])
    left.set_yticks(range(len(names)), names)
    left.set_xlabel("nats per test image")
    left.legend(loc="lower center", bbox_to_anchor=(0.5, 1.0), ncols=2, fontsize=7)
    right.set_ylabel("nats that the layer costs, per test image")
    right.legend(loc="lower center", bbox_to_anchor=(0.5, 1.0), ncols=2, fontsize=7)
    plots.save(left, out / "hierarchical_vae.png")


if __name__ == "__main__":
    typer.run(main)
