"""Every estimator on every pair with exact answers: the measured columns of the README's table.

    python experiments/estimator_claims.py

The contract test holds the same claims to the same bound; this script writes the numbers down.
Each estimate has the fewest particles that the estimator takes; bounds of two particles are
compared with each other. Bias is counted where an estimator's condition holds, and listed where it
does not; of a gradient that is claimed to be biased it is left out. Variance and time are relative
to Pyro's Trace_ELBO, on a Bernoulli VAE fitted to the digits for five epochs.
"""

from __future__ import annotations

import warnings
from pathlib import Path
from typing import Annotated

import pandas as pd
import typer

from ppl_vae import (
    ESTIMATORS,
    AmortizedExponentialNormal,
    BernoulliVAE,
    BinaryLatentVAE,
    ExponentialNormal,
    GaussianChain,
    LinearGaussian,
    compare_elbos,
    fit,
    load,
    seeded,
)

PAIRS = {
    "toy": lambda: ExponentialNormal(2.0, 0.5, guide_rate=1.5),
    "amortised toy": lambda: AmortizedExponentialNormal(seed=1),
    "linear": lambda: LinearGaussian(4, 2, noise_scale=0.7, seed=1),
    "chain, top-down": lambda: GaussianChain(2),
    "chain, bottom-up": lambda: GaussianChain(2, guide="bottom-up"),
    "belief network": lambda: BinaryLatentVAE((1, 2, 2), 4, seed=1),
}
BOUNDS = [name for name, entry in ESTIMATORS.items() if entry.bound != "elbo"]


def main(
    replicates: Annotated[int, typer.Option(help="Gradients of each estimator.")] = 1000,
    seed: Annotated[int, typer.Option(help="Of everything random.")] = 0,
    device: Annotated[str, typer.Option(help="auto, cpu or cuda.")] = "auto",
    out: Annotated[Path, typer.Option(help="Folder for tables and pictures.")] = Path(
        "out/estimator_claims"
    ),
    *,
    smoke: Annotated[bool, typer.Option("--smoke", help="Seconds instead of minutes.")] = False,
) -> None:
    """Measure every claim; write one row an estimator."""
    replicates = 10 if smoke else replicates
    warnings.filterwarnings("ignore", message="Failed to verify mean field")
    table = pd.DataFrame(index=pd.Index(ESTIMATORS, name="estimator"))
    table["largest |z|"] = 0.0
    table["biased on"] = ""
    for name, make in PAIRS.items():
        pair = make()
        x = pair.sample(5, seed=seed)
        options = {"num_replicates": replicates, "seed": seed, "device": device}
        rows = compare_elbos(pair, x, **options).rows
        if any(row.name == "iwae" for row in rows):
            rows += compare_elbos(pair, x, BOUNDS, num_particles=2, **options).rows
        for row in rows:
            if not row.reference:
                continue
            largest = abs(row.bias_z_score)
            if ESTIMATORS[row.name].gradient != "biased":
                largest = max(largest, row.gradient_bias_z_score)
            if row.invalid_sites:
                table.loc[row.name, "biased on"] = f"{name} ({row.bias} nats)"
            else:
                table.loc[row.name, "largest |z|"] = max(
                    table.loc[row.name, "largest |z|"], largest
                )
    train, test = load("digits"), load("digits", split="test")
    vae = BernoulliVAE(train.image_shape, seed=seed)
    fit(vae, train, num_epochs=1 if smoke else 5, device=device, seed=seed, progress=False)
    with seeded(seed):
        x = test.batch(slice(0, 64))
    result = compare_elbos(vae, x, num_replicates=replicates, seed=seed, device=device)
    trace = result["trace"]
    for row in result.rows:
        for group in ("encoder", "decoder"):
            ratio = row.gradient_variance[group].mean / trace.gradient_variance[group].mean
            table.loc[row.name, f"{group} variance"] = ratio
        table.loc[row.name, "time"] = row.milliseconds / trace.milliseconds
    out.mkdir(parents=True, exist_ok=True)
    table.to_csv(out / "claims.csv", float_format="%.4g")
    result.save(out)
    print(table.to_string(float_format="{:.3g}".format))


if __name__ == "__main__":
    typer.run(main)
