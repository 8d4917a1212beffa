"""Two sweeps of a VAE of the digits: evidence over latent dimensions, and by estimator.

    python experiments/estimator_sweep.py

Each is a file that `ppl-vae sweep` takes, with a run for every seed. The first asks how many
latent dimensions the digits need, the second which estimator of the gradient, at equally many
particles, ends with the most evidence. A script that was stopped goes on where it was.
"""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path
from typing import Annotated, Any

import pandas as pd
import typer

from ppl_vae import plots

ESTIMATORS = ["trace", "sticking-the-landing", "iwae", "dreg"]
DIMENSIONS = [1, 2, 4, 8, 16, 32]


def main(
    epochs: Annotated[int, typer.Option(help="Of every run.")] = 30,
    seeds: Annotated[int, typer.Option(help="Runs of every setting.")] = 5,
    seed: Annotated[int, typer.Option(help="Of the first run.")] = 0,
    device: Annotated[str, typer.Option(help="auto, cpu or cuda.")] = "auto",
    backend: Annotated[str, typer.Option(help="loky, ray or dask.")] = "loky",
    workers: Annotated[int, typer.Option(help="Runs at a time.")] = 1,
    out: Annotated[Path, typer.Option(help="Folder for tables and pictures.")] = Path(
        "out/estimator_sweep"
    ),
    *,
    smoke: Annotated[bool, typer.Option("--smoke", help="Seconds instead of minutes.")] = False,
) -> None:
    """Run both sweeps; draw the evidence by setting."""
    dimensions, estimators, samples = DIMENSIONS, ESTIMATORS, 1000
    if smoke:
        # Two of each: the summary has a column for what differs.
        dimensions, estimators, samples, epochs, seeds = [1, 2], ["trace", "iwae"], 10, 1, 1
    common = {
        "data": "digits",
        "seeds": list(range(seed, seed + seeds)),
        "epochs": epochs,
        "evidence_samples": samples,
    }
    pairs = [pair(dimension) for dimension in dimensions]
    sweeps = {
        "latent_dim": {"pairs": pairs, "elbos": ["analytic-kl"], **common},
        "estimators": {"pairs": [pair(8)], "elbos": estimators, "particles": 8, **common},
    }
    out.mkdir(parents=True, exist_ok=True)
    for name, settings in sweeps.items():
        file = out / f"{name}.toml"
        file.write_text("".join(f"{key} = {as_toml(value)}\n" for key, value in settings.items()))
        command = [sys.executable, "-m", "ppl_vae", "sweep", str(file), "--device", device]
        command += ["--backend", backend, "--workers", str(workers)]
        subprocess.run(command, check=True)
    draw(out)


def pair(latent_dim: int) -> dict[str, Any]:
    """Return what a sweep's file says of the pair."""
    return {"name": "bernoulli-vae", "latent_dim": latent_dim, "hidden": [64]}


def as_toml(value: object) -> str:
    """Return a number, a text, a list or a table as TOML has them."""
    if isinstance(value, dict):
        return "{" + ", ".join(f"{key} = {as_toml(each)}" for key, each in value.items()) + "}"
    if isinstance(value, list):
        return "[" + ", ".join(map(as_toml, value)) + "]"
    return json.dumps(value)


def draw(out: Path) -> None:
    """Draw log p(x) of the test images by setting, with 95% intervals over seeds."""
    figure, axes = plots.subplots(1, 2, size=(4.6, 3.8))
    for ax, (name, setting) in zip(
        axes[0], {"latent_dim": "latent_dim", "estimators": "elbo"}.items(), strict=True
    ):
        table = pd.read_csv(out / name / "summary.csv")
        bounds = [f"log_evidence{each}" for each in ("", "_low", "_high")]
        # Of one seed there is no interval.
        points = tuple(table.reindex(columns=[setting, *bounds]).to_numpy().T)
        plots.means_with_intervals(
            {"log p(x)": (table[setting], *(each.astype(float) for each in points[1:]))},
            ax,
            x_label="latent dimensions" if name == "latent_dim" else "estimator",
            y_label="log p(x) per example (nats)" if name == "latent_dim" else "",
        )
    figure.savefig(out / "estimator_sweep.png", dpi=plots.DPI)


if __name__ == "__main__":
    typer.run(main)
