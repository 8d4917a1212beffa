"""More particles: a tighter bound, and what becomes of the gradient.

    python experiments/importance_weighted.py

The importance-weighted bound of K particles rises to the evidence with K. For large K the signal
of its plain gradient (iwae) by the guide's parameters falls as 1 / K, its noise as 1 / sqrt(K), so
that a step teaches the guide ever less (Rainforth and others 2018); the doubly reparameterised
gradient (dreg, Tucker and others 2019) does not have this. Measured on a linear Gaussian pair,
whose evidence is exact and whose guide was moved off the posterior, and on a Bernoulli VAE of the
digits after a little and after more training.

Both gradients have the same mean, and at many particles dreg's is measured far better; so the
signal of iwae is also taken from dreg's row, which is the line among its dots.

How large K must be depends on the spread of the weights. On the linear pair the laws hold from a
few particles on: iwae falls as 1 / sqrt(K) and dreg rises as sqrt(K). On the VAEs, whose weights
have heavier tails the longer they were trained (the bound goes on rising longer), both are milder:
iwae falls more slowly, dreg gains less, and after 50 epochs no more from 16 particles on. It is
better than iwae at every K.
"""

from __future__ import annotations

import math
from pathlib import Path
from typing import Annotated

import numpy as np
import pandas as pd
import torch
import typer
from matplotlib.ticker import NullLocator
from torch import Tensor

from ppl_vae import (
    BernoulliVAE,
    LinearGaussian,
    Pair,
    TraceDReG_ELBO,
    TraceIWAE_ELBO,
    compare_elbos,
    fit,
    load,
    plots,
    seeded,
)

CLASSES = {"iwae": TraceIWAE_ELBO, "dreg": TraceDReG_ELBO}
COLOURS = {"iwae": plots.RED, "dreg": plots.BLUE}
SHARED = "signal_to_noise, signal from dreg"
OFF_LOC, OFF_SCALE = 0.3, 1.2  # the means are off by so many scales, the scales by this factor


def main(
    particles: Annotated[str, typer.Option(help="Numbers of them.")] = "1,2,4,8,16,32,64",
    replicates: Annotated[int, typer.Option(help="Gradients of each estimator.")] = 500,
    examples: Annotated[int, typer.Option(help="In a batch.")] = 64,
    epochs: Annotated[str, typer.Option(help="Of training of the VAE: a column each.")] = "5,50",
    seed: Annotated[int, typer.Option(help="Of everything random.")] = 0,
    device: Annotated[str, typer.Option(help="auto, cpu or cuda.")] = "auto",
    out: Annotated[Path, typer.Option(help="Folder for tables and pictures.")] = Path(
        "out/importance_weighted"
    ),
    *,
    smoke: Annotated[bool, typer.Option("--smoke", help="Seconds instead of minutes.")] = False,
) -> None:
    """Measure bound and signal-to-noise against the number of particles; draw them."""
    out.mkdir(parents=True, exist_ok=True)
    if smoke:
        particles, replicates, examples, epochs = "1,4", 20, 8, "1"
    counts = [int(number) for number in particles.split(",")]
    linear, x = linear_pair(examples, seed)
    evidence = linear.exact.log_evidence(x).mean().item()
    cases: dict[str, tuple[Pair, Tensor]] = {"linear Gaussian": (linear, x)}
    for number in map(int, epochs.split(",")):
        name = f"Bernoulli VAE, {number} epochs"
        cases[name] = bernoulli_pair(examples, number, seed, device)
    table = pd.DataFrame(
        [
            {"pair": name} | row
            for name, (pair, data) in cases.items()
            for count in counts
            for row in measure(pair, data, count, replicates, seed + count, device)
        ]
    )
    table.to_csv(out / "particles.csv", index=False)
    print(table.to_string(index=False, float_format="{:.4g}".format))
    print(f"linear Gaussian: evidence {evidence:.4f} per example")
    for (name, estimator), rows in table.groupby(["pair", "estimator"], sort=False):
        late = rows[rows.particles >= min(8, counts[-2])]
        power = np.polyfit(np.log(late.particles), np.log(late[SHARED]), 1)[0]
        began = late.particles.iloc[0]
        print(f"{name}, {estimator}: signal-to-noise goes as K^{power:+.2f} from K = {began} on")
    draw(table, evidence, replicates, out / "particles.png")


def linear_pair(examples: int, seed: int) -> tuple[LinearGaussian, Tensor]:
    """Return a pair whose guide is off the posterior by a known amount, and data from it."""
    pair = LinearGaussian(data_dim=8, latent_dim=2, noise_scale=0.5, seed=seed).double()
    x = pair.sample(examples, seed=seed)
    with torch.no_grad():
        decoder, encoder = pair.decoder, pair.encoder
        posterior = pair.exact.posterior(x)
        gram = decoder.weight.mT @ decoder.weight + decoder.log_scale.exp() ** 2 * torch.eye(2)
        encoder.weight.copy_(torch.linalg.solve(gram, decoder.weight.mT))
        scale = posterior.variance[0].sqrt()
        encoder.loc.copy_(OFF_LOC * scale)
        encoder.log_scale.copy_((OFF_SCALE * scale).log())
    return pair, x


def bernoulli_pair(
    examples: int, epochs: int, seed: int, device: str
) -> tuple[BernoulliVAE, Tensor]:
    """Return a Bernoulli VAE fitted briefly to the digits, and a batch of test images."""
    train, test = (load("digits", split=split) for split in ("train", "test"))
    pair = BernoulliVAE(train.image_shape, latent_dim=10, hidden=(64,), seed=seed)
    fit(pair, train, num_epochs=epochs, device=device, seed=seed, progress=False)
    with seeded(seed):
        return pair, test.batch(slice(0, examples))


def measure(
    pair: Pair, x: Tensor, count: int, replicates: int, seed: int, device: str
) -> list[dict[str, object]]:
    """Return one row per estimator: bound per example, signal-to-noise of the guide's gradient."""
    estimators = {
        name: cls(count, vectorize_particles=True, max_plate_nesting=1)
        for name, cls in CLASSES.items()
    }
    result = compare_elbos(
        pair, x, estimators, num_replicates=replicates, seed=seed, device=device
    )
    better = result["dreg"]
    signal = better.signal_to_noise["encoder"] * math.sqrt(
        better.gradient_variance["encoder"].mean
    )
    return [
        {
            "particles": count,
            "estimator": row.name,
            "bound": row.value.mean / len(x),
            "standard error": row.value.standard_error / len(x),
            "variance": row.gradient_variance["encoder"].mean,
            "signal_to_noise": row.signal_to_noise["encoder"],
            SHARED: signal / math.sqrt(row.gradient_variance["encoder"].mean),
            "milliseconds": row.milliseconds,
        }
        for row in result.rows
    ]


def draw(table: pd.DataFrame, evidence: float, replicates: int, path: Path) -> None:
    """Draw bounds above, signal-to-noise below; one column a pair."""
    names = list(dict.fromkeys(table.pair))
    figure, axes = plots.subplots(2, len(names), size=(4.0, 3.2))
    for column, name in enumerate(names):
        upper, lower = axes[:, column]
        if column == 0:
            upper.axhline(evidence, color="black", linewidth=0.8, label="evidence, exact")
        for estimator, rows in table[table.pair == name].groupby("estimator", sort=False):
            style = {"color": COLOURS[str(estimator)], "marker": "o", "markersize": 4}
            error = 4.5 * rows["standard error"]
            at = rows.particles * (1.04 if estimator == "dreg" else 1)  # equal values stay visible
            upper.errorbar(at, rows.bound, error, capsize=3, label=estimator, **style)
            seen = rows[rows.signal_to_noise > 0]
            lower.plot(seen.particles, seen.signal_to_noise, linestyle="", **style)
            lower.plot(rows.particles, rows[SHARED], color=style["color"])
        first = table[table.pair == name].iloc[0]
        counts = np.array(sorted(set(table.particles)))
        guide = first.signal_to_noise / np.sqrt(counts)
        lower.plot(counts, guide, ":", color=COLOURS["iwae"], label="falling as 1 / sqrt(K)")
        label = "hardly seen below this"
        lower.axhline(1 / math.sqrt(replicates), color=plots.GREY, linestyle="--", label=label)
        upper.set(title=name, xscale="log")
        lower.set(xscale="log", yscale="log", xlabel="particles K")
        lower.sharey(axes[1, 0])
        for ax in (upper, lower):
            ax.set_xticks(counts, counts)
            ax.xaxis.set_minor_locator(NullLocator())
    axes[0, 0].set_ylabel("bound per example (nats)")
    axes[1, 0].set_ylabel("signal-to-noise, guide's gradient")
    handles = [line for ax in axes[:, 0] for line in ax.get_legend_handles_labels()[0]]
    figure.legend(handles=handles, loc="outside lower center", ncols=5, frameon=False)
    figure.savefig(path, dpi=plots.DPI)


if __name__ == "__main__":
    typer.run(main)
