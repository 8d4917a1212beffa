"""How far is the mixture of all q(z | x) from the prior, and how much does a code tell?

    python experiments/aggregate_posterior.py

The mean of KL(q(z | x_i) || p), which the ELBO pays, is the mutual information of code and example
plus the KL of their mixture, the aggregate posterior. The mixture's KL is often taken to be that
of a Normal with its moments, which is less. First 200 random mixtures show the order of the three;
then a Bernoulli VAE is watched while it trains.
"""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import pandas as pd
import torch
import typer

from ppl_vae import BernoulliVAE, fit, load, plots
from ppl_vae.diagnostics import AggregatePosterior, aggregate_normals, aggregate_posterior

STYLES = {
    "mean KL": (plots.BLUE, "o"),
    "aggregate KL": (plots.ORANGE, "s"),
    "moment-matched KL": (plots.GREEN, "^"),
    "mutual information": (plots.RED, "D"),
}


def main(
    data: Annotated[str, typer.Option(help="digits or mnist.")] = "digits",
    data_dir: Annotated[Path | None, typer.Option(help="Folder of MNIST.")] = None,
    latent_dim: Annotated[int, typer.Option(help="Of the Bernoulli VAE.")] = 16,
    epochs: Annotated[str, typer.Option(help="When to measure.")] = "0,1,5,20,50,100,200",
    mixtures: Annotated[int, typer.Option(help="Random mixtures.")] = 200,
    seed: Annotated[int, typer.Option(help="Of everything random.")] = 0,
    device: Annotated[str, typer.Option(help="auto, cpu or cuda.")] = "auto",
    out: Annotated[Path, typer.Option(help="Folder for tables and pictures.")] = Path(
        "out/aggregate_posterior"
    ),
    *,
    smoke: Annotated[bool, typer.Option("--smoke", help="Seconds instead of a minute.")] = False,
) -> None:
    """Measure random mixtures, then a VAE along training; write tables and figures."""
    out.mkdir(parents=True, exist_ok=True)
    if smoke:
        epochs, mixtures = "0,1,2", 20
    rows = random_mixtures(mixtures, seed)
    rows.to_csv(out / "random_mixtures.csv", index=False)
    draw_mixtures(rows, out / "random_mixtures.png")
    slack = 4.5 * rows["standard error"] + 1e-9
    lower = rows["moment-matched KL"] <= rows["aggregate KL"] + slack
    upper = rows["aggregate KL"] <= rows["mean KL"] + slack
    print(f"moment-matched <= mixture <= mean in {(lower & upper).sum()} of {len(rows)} mixtures")
    share = (rows["moment-matched KL"] / rows["aggregate KL"]).median()
    print(f"moment-matched over mixture, median: {share:.3f}")

    train = load(data, data_dir=data_dir)
    pair = BernoulliVAE(train.image_shape, latent_dim=latent_dim, seed=seed)
    optimizer = torch.optim.Adam(pair.parameters(), lr=1e-3)
    done, found = 0, {}
    for end in map(int, epochs.split(",")):
        if end > done:
            fit(
                pair,
                train,
                optimizer=optimizer,
                num_epochs=end - done,
                device=device,
                seed=seed + end,
                progress=False,
            )
        done = end
        found[end] = aggregate_posterior(pair, train, seed=seed, device=device)
    table = pd.DataFrame([{"epochs": n} | record(result) for n, result in found.items()])
    table.to_csv(out / "along_training.csv", index=False)
    last = found[done].to_dataframe().sort_values("mean_kl", ascending=False)
    last.to_csv(out / "dimensions.csv")
    draw_training(table, last, found[done], out / "along_training.png", f"{data}, {done} epochs")
    print(table.to_string(index=False, float_format="{:.4g}".format))
    print(found[done])


def record(result: AggregatePosterior) -> dict[str, float]:
    """Return the joint numbers as a row."""
    return {
        "mean KL": result.mean_kl,
        "aggregate KL": result.aggregate_kl.mean,
        "moment-matched KL": result.moment_matched_kl,
        "mutual information": result.mutual_information.mean,
        "standard error": result.aggregate_kl.standard_error,
        "ceiling": result.ceiling,
        "active units": result.active_units,
    }


def random_mixtures(count: int, seed: int) -> pd.DataFrame:
    """Measure mixtures of 2 to 64 Normals in 1 to 8 dimensions."""
    generator = torch.Generator().manual_seed(seed)
    rows = []
    for _ in range(count):
        size = int(2 ** (1 + 5 * torch.rand((), generator=generator)))
        dim = int(torch.randint(1, 9, (), generator=generator))
        width, depth = torch.rand(2, generator=generator, dtype=torch.float64)
        shape = (size, dim)
        loc = 3 * width * torch.randn(shape, generator=generator, dtype=torch.float64)
        scale = (-2 * depth * torch.rand(shape, generator=generator, dtype=torch.float64)).exp()
        result = aggregate_normals(loc, scale, num_samples=2000, seed=generator)
        rows.append({"components": size, "dimensions": dim} | record(result))
    return pd.DataFrame(rows)


def draw_mixtures(rows: pd.DataFrame, path: Path) -> None:
    """Draw the KLs against the mean KL, and the mutual information against its ceiling."""
    figure, axes = plots.subplots(1, 2, size=(4.6, 3.9))
    left, right = axes[0]
    mean = rows["mean KL"]
    pair = ("aggregate KL", "moment-matched KL")
    left.vlines(mean, *(rows[name] / mean for name in pair), color=plots.GREY, linewidth=0.5)
    for name in pair:
        colour, marker = STYLES[name]
        left.plot(mean, rows[name] / mean, marker, color=colour, markersize=3, label=name)
    left.axhline(1, color="black", linewidth=0.8)
    left.set(xscale="log", ylim=(0, 1.3), xlabel="mean KL (nats)", ylabel="share of the mean KL")
    left.set_title(f"{len(rows)} random mixtures, each a column")
    left.legend(frameon=False, loc="upper left")
    colour, marker = STYLES["mutual information"]
    right.plot(
        rows.ceiling, rows["mutual information"], marker, color=colour, markersize=3, alpha=0.6
    )
    ends = [0, rows.ceiling.max()]
    right.plot(ends, ends, color="black", linewidth=0.8, label="its ceiling")
    right.set(xlabel="log of the number of components", ylabel="mutual information (nats)")
    right.set_title("mean KL less aggregate KL")
    right.legend(frameon=False)
    figure.savefig(path, dpi=plots.DPI)


def draw_training(
    table: pd.DataFrame, last: pd.DataFrame, result: AggregatePosterior, path: Path, title: str
) -> None:
    """Draw the joint numbers along training, and every dimension's at its end."""
    figure, axes = plots.subplots(1, 2, size=(5.4, 3.7))
    left, right = axes[0]
    at = range(len(table))
    for name, (colour, marker) in STYLES.items():
        left.plot(at, table[name], marker=marker, markersize=4, color=colour, label=name)
    left.axhline(
        result.ceiling, color="black", linestyle=":", label=f"ceiling, log {result.num_examples}"
    )
    active = [
        f"{n}\n{units}" for n, units in zip(table.epochs, table["active units"], strict=True)
    ]
    left.set_xticks(at, active)
    left.set(xlabel="epochs, and active units below", ylabel="nats", title="along training")
    left.legend(frameon=False, fontsize="small", loc="upper left", bbox_to_anchor=(1.01, 1))
    at = range(len(last))
    for name, base in (("mutual information", None), ("aggregate KL", "mutual_information")):
        height, bottom = last[name.lower().replace(" ", "_")], 0 if base is None else last[base]
        right.bar(at, height, bottom=bottom, color=STYLES[name][0], label=name)
    right.set_xticks(at, last.index, fontsize="small")
    right.set(xlabel="latent dimension", ylabel="nats", title=f"each dimension: {title}")
    right.legend(frameon=False, title="together the mean KL")
    figure.savefig(path, dpi=plots.DPI)


if __name__ == "__main__":
    typer.run(main)
