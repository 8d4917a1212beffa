"""Which likelihood suits counts of molecules in cells: Poisson, negative binomial, or with a gate?

    python experiments/counts.py

A `CountVAE` of each likelihood, with two and ten latent numbers, trained from five seeds on blood
cells (``load("pbmc")``, its 100 genes of most counts). Held-out log p(x) of a cell by importance
weights, with Pareto k; where the code has two numbers also by quadrature, for four other test
cells in every seed, so that the importance weights can be judged too. Library sizes are the row
sums. Intervals are of 95% over the seeds; what quadrature says has standard errors over its cells.

The cells come with scanpy. Where it is missing, and with ``--smoke``, counts are drawn instead:
negative binomial, of three made-up types of cells. What is printed first says which.
"""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any, NamedTuple

import numpy as np
import pandas as pd
import torch
import typer
from scipy import stats
from torch import Tensor

from ppl_vae import ArrayData, CountVAE, fit, load, log_evidence, plots, seeded

LIKELIHOODS = ("poisson", "negative-binomial", "zero-inflated-negative-binomial")
SHORT = {"poisson": "Poisson", "negative-binomial": "NB", LIKELIHOODS[2]: "ZINB"}
LATENT_DIMS = (2, 10)
BATCH_SIZE, LEARNING_RATE = 64, 3e-3


class Size(NamedTuple):
    """How much is done; `cells` by quadrature in every seed."""

    seeds: int
    epochs: int
    weights: int
    cells: int
    dispersion_rate: float


def main(
    seed: Annotated[int, typer.Option(help="The first of the seeds.")] = 0,
    device: Annotated[str, typer.Option(help="auto, cpu or cuda.")] = "auto",
    epochs: Annotated[int, typer.Option(help="Of training.")] = 50,
    weights: Annotated[int, typer.Option(help="Importance weights per cell.")] = 500,
    dispersion_rate: Annotated[
        float, typer.Option(help="Learning rate of the dispersions; the networks' is 0.003.")
    ] = 0.03,
    genes: Annotated[int, typer.Option(help="How many, those of most counts.")] = 100,
    out: Annotated[Path, typer.Option(help="Folder for tables and the picture.")] = Path(
        "out/counts"
    ),
    *,
    smoke: Annotated[bool, typer.Option("--smoke", help="Seconds, on drawn counts.")] = False,
) -> None:
    """Train and measure every likelihood; write two tables and a figure."""
    out.mkdir(parents=True, exist_ok=True)
    size = Size(5, epochs, weights, 4, dispersion_rate)
    size = size._replace(seeds=2, epochs=2, weights=30, cells=2) if smoke else size
    train, test = drawn_cells(seed) if smoke else cells(seed)
    keep = train["x"].sum(0).argsort(descending=True, stable=True)[:genes].sort().values
    share = float(train["x"][:, keep].sum() / train["x"].sum())
    x, held_out = train["x"][:, keep], test["x"][:, keep]
    print(f"{train.name}: {len(x)} and {len(held_out)} cells of {len(keep)} genes, ", end="")
    print(f"{share:.0%} of all counts; {float((x == 0).float().mean()):.0%} zeros")
    rows: list[dict[str, Any]] = []
    evidence: dict[tuple[str, int], list[Tensor]] = {}
    cell_by_cell, codes = [], None
    for latent_dim in LATENT_DIMS:
        for likelihood in LIKELIHOODS:
            for number in range(seed, seed + size.seeds):
                pair = CountVAE(len(keep), latent_dim, likelihood=likelihood, seed=number)
                some = slice((number - seed) * size.cells, (number - seed + 1) * size.cells)
                row, found, exact = measured(pair, x, held_out, some, size, number, device)
                rows.append({"data": train.name, **row})
                cell_by_cell += exact
                evidence.setdefault((likelihood, latent_dim), []).append(found)
                if (likelihood, latent_dim, number) == ("negative-binomial", 2, seed):
                    with torch.no_grad():
                        codes = pair.cpu().encode(torch.cat([x, held_out]))[0]
    runs = pd.DataFrame(rows)
    runs.to_csv(out / "runs.csv", index=False, float_format="%.3f")
    integrals = pd.DataFrame(cell_by_cell)
    integrals.to_csv(out / "quadrature.csv", index=False, float_format="%.3f")
    table = summary(runs, evidence, integrals)
    table.to_csv(out / "likelihoods.csv", index=False)
    print(table.to_string(index=False))
    assert codes is not None
    draw(runs, integrals, codes, names(train) + names(test), out / "counts.png")


def cells(seed: int) -> tuple[ArrayData, ArrayData]:
    """Return training and test cells: blood cells where scanpy is installed, else drawn ones."""
    try:
        return load("pbmc"), load("pbmc", split="test")
    except ImportError as error:
        print(f"counts are drawn: {error}")
        return drawn_cells(seed)


def drawn_cells(seed: int, count: int = 300, genes: int = 40) -> tuple[ArrayData, ArrayData]:
    """Return negative binomial counts with total count 2, of three types of cells."""
    with seeded(seed):
        labels = torch.arange(count) % 3
        shares = torch.randn(3, genes).softmax(-1)[labels]
        library = 50 + 200 * torch.rand(count, 1)
        noise = torch.distributions.Gamma(2.0, 2.0).sample((count, genes))
        x = torch.poisson(library * shares * noise)
    categories = {"labels": ["type 1", "type 2", "type 3"]}
    whole = ArrayData({"x": x}, beside={"labels": labels}, categories=categories, name="drawn")
    return whole.train_test_split(0.8, seed=seed)


def measured(
    pair: CountVAE,
    x: Tensor,
    held_out: Tensor,
    some: slice,
    size: Size,
    seed: int,
    device: str,
) -> tuple[dict[str, Any], Tensor, list[dict[str, Any]]]:
    """Train a pair; return a row about it, log p(x) of every test cell, and rows of some."""
    common = {"seed": seed, "device": device}
    history = fit(
        pair,
        x,
        optimizer=adam(pair, size.dispersion_rate),
        num_epochs=size.epochs,
        batch_size=BATCH_SIZE,
        compile=False,
        progress=False,
        **common,
    )
    found = log_evidence(pair, held_out, num_samples=size.weights, **common)
    which = {"likelihood": pair.config["likelihood"], "latent_dim": pair.latent_dim, "seed": seed}
    row = which | {
        "train ELBO": history.train_elbo[-1],
        "held-out evidence": found.average.mean,
        "error over cells": found.average.standard_error,
        "median k": float(found.pareto_k.median()),
        "k > 0.7": found.num_unreliable / len(found),
    }
    cells: list[dict[str, Any]] = []
    if pair.latent_dim <= 2:
        exact = log_evidence(pair, held_out[some], method="quadrature", tolerance=0.01, **common)
        columns = (exact.mean, found.mean[some], found.pareto_k[some])
        for number, values in enumerate(zip(*columns, strict=True), some.start):
            numbers = map(float, values)
            named = zip(("quadrature", "importance weights", "k"), numbers, strict=True)
            cells.append(which | {"cell": number} | dict(named))
    return row, found.mean.double().cpu(), cells


def adam(pair: CountVAE, dispersion_rate: float) -> torch.optim.Adam:
    """Return Adam with a rate of their own for the dispersions, a number a gene.

    It moves a number by about its rate a step, and total counts start at 1: at the networks' rate
    they do not get to where the data would have them.
    """
    free = list(pair.observation.parameters())
    others = [p for p in pair.parameters() if all(p is not each for each in free)]
    groups = [{"params": others}, {"params": free, "lr": dispersion_rate}]
    return torch.optim.Adam([each for each in groups if each["params"]], lr=LEARNING_RATE)


def summary(
    runs: pd.DataFrame, evidence: dict[tuple[str, int], list[Tensor]], integrals: pd.DataFrame
) -> pd.DataFrame:
    """Return one row per likelihood and dimension."""
    lines = []
    exact = integrals.pivot_table(index="cell", columns="likelihood", values="quadrature")
    for (likelihood, latent_dim), found in evidence.items():
        at_dim = runs[runs.latent_dim == latent_dim].set_index(["likelihood", "seed"])
        values = at_dim["held-out evidence"].unstack("seed")
        lead = torch.stack(found) - torch.stack(evidence["poisson", latent_dim])
        over_cells = lead.mean(0).std() / lead.shape[1] ** 0.5
        line = {
            "latent numbers": latent_dim,
            "likelihood": SHORT[likelihood],
            "log p(x)": with_half(values.loc[likelihood]),
            "over Poisson": with_half(lead.mean(1)),
            "its error over cells": f"{over_cells:.2f}",
            "best in": f"{int((values.idxmax() == likelihood).sum())} of {values.shape[1]} seeds",
            "k > 0.7": f"{at_dim.loc[likelihood]['k > 0.7'].mean():.0%}",
        }
        if latent_dim <= 2:
            part = integrals[integrals.likelihood == likelihood]
            short = part["quadrature"] - part["importance weights"]
            line |= {
                "by quadrature": f"{exact[likelihood].mean():.2f}",
                "over Poisson by it": with_error(exact[likelihood] - exact["poisson"]),
                "best by it": f"{int((exact.idxmax(axis=1) == likelihood).sum())} of {len(exact)}",
                "importance weights below it": with_error(short),
                "most": f"{short.max():.2f}",
            }
        if likelihood == "poisson":
            line |= {key: "" for key in line if "over" in key}
        lines.append(line)
    return pd.DataFrame(lines).fillna("")


def with_half(values: Any) -> str:  # noqa: ANN401
    """Return the mean over the seeds and half of its 95% interval (Student's t)."""
    values = np.asarray(values, dtype=float)
    error = values.std(ddof=1) / len(values) ** 0.5
    return f"{values.mean():.2f} ± {stats.t.ppf(0.975, len(values) - 1) * error:.2f}"


def with_error(values: pd.Series) -> str:
    """Return the mean over cells and its standard error."""
    return f"{values.mean():.2f} ± {values.std() / len(values) ** 0.5:.2f}"


def names(data: ArrayData) -> list[str]:
    """Return the type of every cell, in words."""
    return [str(data.categories["labels"][code]) for code in data["labels"].tolist()]


def draw(
    runs: pd.DataFrame, integrals: pd.DataFrame, codes: Tensor, labels: list[str], path: Path
) -> None:
    """Draw the latent plane, evidence by likelihood, and what importance weights miss by k."""
    _, axes = plots.subplots(1, 3, size=(5.0, 3.9))
    plane, middle, right = axes[0]
    plots.latent_scatter(codes.numpy(), labels, plane, title="guide means, negative binomial")
    for shift, latent_dim, colour in zip((-0.1, 0.1), LATENT_DIMS, plots.COLOURS, strict=False):
        part = runs[runs.latent_dim == latent_dim]
        where = part.likelihood.map(LIKELIHOODS.index) + shift
        label = f"{latent_dim} latent numbers"
        middle.scatter(where, part["held-out evidence"], s=16, color=colour, label=label)
    middle.set_xticks(range(len(LIKELIHOODS)), [SHORT[name] for name in LIKELIHOODS])
    middle.set(ylabel="log p(x), nats a cell", title="held-out evidence, a point a seed")
    middle.legend(frameon=False)
    for likelihood, colour in zip(LIKELIHOODS, plots.COLOURS, strict=False):
        part = integrals[integrals.likelihood == likelihood]
        short = part["quadrature"] - part["importance weights"]
        right.scatter(part["k"], short, s=12, color=colour, label=SHORT[likelihood])
    right.axvline(0.7, color=plots.GREY, linestyle=":", label="k = 0.7")
    right.set(xlabel="Pareto k", ylabel="quadrature - importance weights, nats")
    right.set(title="2 latent numbers, a point a cell")
    right.legend(frameon=False)
    plots.save(plane, path)


if __name__ == "__main__":
    typer.run(main)
