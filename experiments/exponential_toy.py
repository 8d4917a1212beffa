"""The exponential toy: posterior and guide, the ELBO against the rate, SGD running into the best.

    python experiments/exponential_toy.py

Five observations of a positive number. The posterior, the best rate r* and the ELBO are exact; a
grid on [0, 15], as is often plotted, cuts off the guide's tail: what is left of the KL divergence
tends to 0 with r, so that its minimum is in the wrong place. SGD with 128 particles, learning
rate 1e-4 and 1000 steps is one setting; ten times as many steps are convergence.
"""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import pandas as pd
import torch
import typer
from pyro.infer import SVI, Trace_ELBO, TraceMeanField_ELBO
from pyro.optim import SGD
from torch import Tensor
from torch.distributions import Exponential

from ppl_vae import ExponentialNormal, plots, seeded
from ppl_vae.closed_forms import exponential_normal

OBSERVATIONS = (1.2, 0.7, 2.1, 1.6, 0.4)
ESTIMATORS = {"trace": Trace_ELBO, "trace-mean-field": TraceMeanField_ELBO}
GRID_END = 15.0


def main(
    seed: Annotated[int, typer.Option(help="Of everything random.")] = 0,
    device: Annotated[str, typer.Option(help="cpu or cuda.")] = "cpu",
    out: Annotated[Path, typer.Option(help="Folder for tables and pictures.")] = Path(
        "out/exponential_toy"
    ),
    *,
    smoke: Annotated[bool, typer.Option("--smoke", help="Seconds instead of a minute.")] = False,
) -> None:
    """Draw posterior, ELBO, KL and the paths of SGD; print where each ends."""
    out.mkdir(parents=True, exist_ok=True)
    steps = (20, 40) if smoke else (1000, 10_000)
    x = torch.tensor(OBSERVATIONS, dtype=torch.float64, device=device)
    best = exponential_normal.optimal_guide_rate(x).item()
    figure, axes = plots.subplots(2, 2)
    draw_densities(x, best, axes[0, 0])
    wrong = draw_rates(x, best, axes[0, 1], axes[1, 0])
    paths = {name: path(x, name, steps[1], seed) for name in ESTIMATORS}
    for number, (name, rates) in enumerate(paths.items()):
        axes[1, 1].plot(rates, color=plots.COLOURS[number], label=name)
    axes[1, 1].axhline(best, color="black", linewidth=0.8, label="r*")
    axes[1, 1].axvline(steps[0], color=plots.GREY, linestyle=":", label=f"{steps[0]} steps")
    axes[1, 1].set(xlabel="step", ylabel="guide's rate r", title="SGD, 128 particles, lr 1e-4")
    axes[1, 1].legend(frameon=False)
    figure.savefig(out / "toy.png", dpi=plots.DPI)
    rows = [{"rate": "best, exact", "r": best}]
    rows.append({"rate": f"least KL by a grid on [0, {GRID_END:g}]", "r": wrong})
    for name, rates in paths.items():
        rows += [{"rate": f"{name}, {n} steps", "r": rates[n - 1]} for n in steps]
    table = pd.DataFrame(rows)
    table["error"] = table.r / best - 1
    table.to_csv(out / "rates.csv", index=False)
    print(table.to_string(index=False, float_format="{:.4f}".format))


def draw_densities(x: Tensor, best: float, ax: plots.Axes) -> None:
    """Draw the exact posterior, the same by a grid, and the guide at its best rate."""
    z = torch.linspace(0, 4, 400, dtype=x.dtype)
    cpu = x.cpu()
    exact = exponential_normal.posterior(cpu).log_prob(z).exp()
    log_joint = torch.distributions.Normal(z[:, None], 1.0).log_prob(cpu).sum(-1) - z
    grid = log_joint.exp() / torch.trapezoid(log_joint.exp(), z)
    guide = Exponential(torch.tensor(best, dtype=x.dtype)).log_prob(z).exp()
    densities = {"posterior": exact, "posterior, grid": grid, f"guide at r* = {best:.3f}": guide}
    plots.posterior_against_guide(z, densities, ax, title="five observations")
    ax.lines[0].set_linestyle("--")


def draw_rates(x: Tensor, best: float, elbo_ax: plots.Axes, kl_ax: plots.Axes) -> float:
    """Draw ELBO and KL against the rate; return where the truncated grid has its least KL."""
    cpu = x.cpu()
    rates = torch.logspace(-5, 1, 3001, dtype=x.dtype)
    elbo = exponential_normal.elbo(cpu, rates)
    evidence = exponential_normal.log_evidence(cpu).item()
    elbo_ax.plot(rates, elbo, color=plots.BLUE, label="ELBO")
    elbo_ax.axhline(evidence, color=plots.GREY, label="evidence")
    elbo_ax.axvline(best, color="black", linewidth=0.8, label="r*")
    elbo_ax.set(xlabel="guide's rate r", ylabel="nats", ylim=(evidence - 12, evidence + 1))
    elbo_ax.set(xscale="log", xlim=(0.2, 10))
    elbo_ax.set_title("the ELBO has its maximum at r*")
    elbo_ax.legend(frameon=False)
    z = torch.linspace(0, GRID_END, 3001, dtype=x.dtype)
    log_q = Exponential(rates[:, None]).log_prob(z)
    log_p = exponential_normal.posterior(cpu).log_prob(z)
    truncated = torch.trapezoid(log_q.exp() * (log_q - log_p), z)
    wrong = rates[truncated.argmin()].item()
    exact = exponential_normal.kl_to_posterior(cpu, rates)
    kl_ax.plot(rates, exact, color=plots.BLUE, label="exact")
    label = f"grid on [0, {GRID_END:g}]"
    kl_ax.plot(rates, truncated, color=plots.RED, linestyle="--", label=label)
    kl_ax.axvline(best, color="black", linewidth=0.8, label="r*")
    kl_ax.plot([wrong], [truncated.min()], "o", color=plots.RED)
    kl_ax.set(xlabel="guide's rate r", ylabel="KL(q || posterior), nats", ylim=(-0.3, 8))
    kl_ax.set(xscale="log", title="a truncated grid moves the minimum to r = 0")
    kl_ax.legend(frameon=False)
    return wrong


def path(x: Tensor, name: str, num_steps: int, seed: int) -> list[float]:
    """Return the guide's rate after every step of SGD, by Pyro's own SVI."""
    pair = ExponentialNormal(guide_rate=1.0).to(x)
    loss = ESTIMATORS[name](num_particles=128, vectorize_particles=True, max_plate_nesting=0)
    svi = SVI(pair.model, pair.guide, SGD({"lr": 1e-4}), loss=loss)
    rates = []
    with seeded(seed, x.device):
        for _ in range(num_steps):
            svi.step(x)
            rates.append(pair.log_rate.detach().exp().clone())
    return torch.stack(rates).tolist()


if __name__ == "__main__":
    typer.run(main)
