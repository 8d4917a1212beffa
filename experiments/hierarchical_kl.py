"""Two stochastic layers, and the analytic KL of each: how wrong, and where it leads.

    python experiments/hierarchical_kl.py

The chain z2 -> z1 -> x with a bottom-up guide, z1 ~ Normal(a x + a0, s1) and then
z2 ~ Normal(b z1 + b0, s2). An ELBO with one analytic KL per site takes z1's KL at a z2 that was
drawn from that same z1, and is off by ``-b s1^2`` in value and by its derivative in gradient: it
fines the guide for the very link between the layers that the posterior has.

What happens to training: it converges, smoothly, to the wrong guide. The maximum of the ELBO is
the posterior (b = 1/2, s1^2 = 2/3), and ``trace`` and ``analytic-kl`` reach it, where the ELBO is
the evidence. The per-site KL leads to the maximum of ``ELBO - b s1^2`` instead: s1^2 is
``1 / (2 (1 + b^2))``, below a half, and b is near 0.37, so the lower layer is too narrow and the
upper one listens to it too little. The guide's ELBO there is 0.067 nats per example below the
evidence, and nothing in the loss tells of it: it says 0.23 below, and levels off like any other.
"""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import pandas as pd
import torch
import typer
from torch import Tensor

from ppl_vae import GaussianChain, compare_elbos, fit, plots
from ppl_vae.closed_forms import gaussian_chain

TRAINED = {
    "trace-mean-field": plots.RED,
    "trace": plots.COLOURS[5],
    "analytic-kl": "black",
}
SLOPES, SCALES = (-0.5, -0.25, 0.0, 0.25, 0.5, 0.75, 1.0), (0.4, 0.7, 1.0)
SCALE_COLOURS = (plots.BLUE, plots.COLOURS[4], plots.GREEN)
PARAMETERS = ("a", "s1", "b", "s2")
START = {"a": 0.2, "s1": 0.4, "b": 0.1, "s2": 0.4}
NUM_EXAMPLES, BATCH_SIZE, LEARNING_RATE = 2000, 200, 0.003


def main(
    replicates: Annotated[int, typer.Option(help="Values at each b and s1.")] = 400,
    epochs: Annotated[int, typer.Option(help="Of training, ten steps each.")] = 100,
    seed: Annotated[int, typer.Option(help="Of everything random.")] = 0,
    device: Annotated[str, typer.Option(help="auto, cpu or cuda.")] = "auto",
    out: Annotated[Path, typer.Option(help="Folder for tables and pictures.")] = Path(
        "out/hierarchical_kl"
    ),
    *,
    smoke: Annotated[bool, typer.Option("--smoke", help="Seconds instead of a minute.")] = False,
) -> None:
    """Measure the bias, train with and without it; write tables and a figure."""
    out.mkdir(parents=True, exist_ok=True)
    replicates, epochs = (20, 3) if smoke else (replicates, epochs)
    x = GaussianChain().double().sample(NUM_EXAMPLES, seed=seed)
    bias = pd.DataFrame(
        [
            measure(b, s1, x[:500], replicates, seed + place, device)
            for place, (b, s1) in enumerate((b, s1) for s1 in SCALES for b in SLOPES)
        ]
    )
    bias.to_csv(out / "bias.csv", index=False)
    print(bias.to_string(index=False, float_format="{:.4f}".format))
    print(f"z-scores: deviation {bias.z.std():.2f}, largest {bias.z.abs().max():.2f}\n")
    paths = pd.concat([train(name, x, epochs, seed, device) for name in TRAINED])
    paths.to_csv(out / "training.csv", index=False)
    evidence = gaussian_chain.log_evidence(x).mean().item()
    table = final(paths, x, evidence)
    table.to_csv(out / "trained.csv")
    print(table.to_string(float_format="{:.4f}".format))
    draw(bias, paths, table, evidence, out / "hierarchical_kl.png")


def measure(
    b: float, s1: float, x: Tensor, replicates: int, seed: int, device: str
) -> dict[str, float]:
    """Return the bias of the per-site KL, per example, and its closed form."""
    pair = GaussianChain(guide="bottom-up", initial={"b": b, "s1": s1}).double()
    result = compare_elbos(
        pair, x, ["trace-mean-field"], num_replicates=replicates, seed=seed, device=device
    )
    found = result["trace-mean-field"].bias
    assert found is not None
    exact = gaussian_chain.mean_field_bias(b=b, s1=s1).item()
    return {
        "b": b,
        "s1": s1,
        "bias": found.mean / len(x),
        "standard error": found.standard_error / len(x),
        "closed form": exact,
        "z": found.z_score(exact * len(x)),
    }


def train(name: str, x: Tensor, epochs: int, seed: int, device: str) -> pd.DataFrame:
    """Return guide and exact ELBO after every epoch of training with an estimator."""
    pair = GaussianChain(guide="bottom-up", initial=START).double()
    optimizer = torch.optim.Adam(pair.parameters(), lr=LEARNING_RATE)
    rows = [record(pair, x) | {"estimator": name, "epoch": 0}]
    for epoch in range(1, epochs + 1):
        fit(
            pair,
            x,
            elbo=name,
            optimizer=optimizer,
            num_epochs=1,
            batch_size=BATCH_SIZE,
            device=device,
            seed=seed + epoch,
            progress=False,
        )
        rows.append(record(pair, x) | {"estimator": name, "epoch": epoch})
    return pd.DataFrame(rows)


@torch.no_grad()
def record(pair: GaussianChain, x: Tensor) -> dict[str, float]:
    """Return the guide's parameters, its exact ELBO and what the per-site KL takes it for."""
    x = x.to(pair.device)
    elbo = pair.exact.elbo(x).mean().item()
    found = {name: value.item() for name, value in pair.guide_parameters().items()}
    bias = pair.exact.mean_field_bias(x).mean().item()
    return {name: found[name] for name in PARAMETERS} | {"ELBO": elbo, "ELBO + bias": elbo + bias}


def best(x: Tensor, *, biased: bool) -> dict[str, float]:
    """Return the guide at the maximum of the ELBO, or of the ELBO plus the bias."""
    pair = GaussianChain(guide="bottom-up").double()
    optimizer = torch.optim.LBFGS(pair.parameters(), max_iter=200, line_search_fn="strong_wolfe")

    def loss() -> Tensor:
        optimizer.zero_grad()
        objective = pair.exact.elbo(x).mean()
        if biased:
            objective = objective + pair.exact.mean_field_bias(x).mean()
        (-objective).backward()
        return -objective

    optimizer.step(loss)
    return record(pair, x)


def final(paths: pd.DataFrame, x: Tensor, evidence: float) -> pd.DataFrame:
    """Return where each training ended, as the mean of its last tenth, and the exact maxima."""
    last = paths[paths.epoch > 0.9 * paths.epoch.max()]
    rows = {
        "maximum of the ELBO": best(x, biased=False),
        "maximum of ELBO - b s1^2": best(x, biased=True),
        **last.groupby("estimator", sort=False).mean().drop(columns="epoch").T.to_dict(),
    }
    table = pd.DataFrame.from_dict(rows, orient="index")
    table["evidence - ELBO"] = evidence - table.ELBO
    return table


def draw(
    bias: pd.DataFrame, paths: pd.DataFrame, table: pd.DataFrame, evidence: float, path: Path
) -> None:
    """Draw the bias on its closed form, the exact ELBO along training, and the guide's path."""
    figure, axes = plots.subplots(1, 3, size=(4.2, 3.8))
    left, middle, right = axes[0]
    for number, (s1, rows) in enumerate(bias.groupby("s1")):
        style = {"color": SCALE_COLOURS[number], "label": f"s1 = {s1:g}"}
        left.plot(rows.b, rows["closed form"], linewidth=1, color=style["color"])
        error = 4.5 * rows["standard error"]
        left.errorbar(rows.b, rows.bias, error, fmt="o", markersize=4, capsize=4, **style)
    left.set(xlabel="b", ylabel="bias per example (nats)", title="bias, on the lines -b s1^2")
    left.legend(frameon=False, title="bars: 4.5 standard errors")
    middle.axhline(evidence, color=plots.GREY, linewidth=0.8, label="evidence")
    for name, rows in paths.groupby("estimator", sort=False):
        colour = TRAINED[str(name)]
        above = name == "analytic-kl"  # on the line of trace
        style = {"color": colour, "linewidth": 1 if above else 3, "label": name}
        style["linestyle"] = "--" if above else "-"
        middle.plot(rows.epoch, rows.ELBO, **style)
        right.plot(rows.b, rows.s1, **style)
        if name == "trace-mean-field":
            label = "what it takes for the ELBO"
            middle.plot(rows.epoch, rows["ELBO + bias"], ":", color=colour, label=label)
    middle.set(xlabel="epoch", ylabel="exact ELBO per example (nats)", title="trained with")
    middle.set_ylim(evidence - 0.45, evidence + 0.03)
    middle.legend(frameon=False)
    start = paths.iloc[0]
    right.plot(start.b, start.s1, "o", color=plots.GREY, label="start")
    for (name, row), marker in zip(table.iloc[:2].iterrows(), "*X", strict=True):
        style = {"markersize": 11, "markeredgecolor": "white", "color": "black"}
        right.plot(row.b, row.s1, marker, linestyle="", label=name, **style)
    right.set(xlabel="b", ylabel="s1", title="the guide's path")
    right.legend(frameon=False, fontsize="small")
    figure.savefig(path, dpi=plots.DPI)


if __name__ == "__main__":
    typer.run(main)
