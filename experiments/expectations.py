"""How is E_q[log p(x given z)] computed: by one sample, by many, by integration?

    python experiments/expectations.py

Error against cost of four ways: Monte Carlo from one sample up; the trapezoidal rule on one fixed
grid for all examples (``trapz``); Gauss-Laguerre or Gauss-Hermite; adaptive cubature. On the toy,
whose answer is exact, and on a Bernoulli VAE with one latent dimension, fitted briefly to the
digits, whose reference is adaptive integration.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from pathlib import Path
from typing import Annotated, NamedTuple

import pandas as pd
import torch
import typer
from torch import Tensor
from torch.distributions import Distribution, Exponential, Normal

from ppl_vae import BernoulliVAE, fit, load, plots, seeded
from ppl_vae.closed_forms import exponential_normal
from ppl_vae.diagnostics import Estimate, expectation

OBSERVATIONS = (1.2, 0.7, 2.1, 1.6, 0.4)
STYLE = {
    "Monte Carlo": (plots.BLUE, "o"),
    "trapezoid": (plots.ORANGE, "s"),
    "Gauss": (plots.GREEN, "^"),
    "adaptive": (plots.RED, "D"),
}


class Case(NamedTuple):
    """A guide, the log-likelihood, the ends of the fixed grid, and the answer, per example."""

    q: Distribution
    log_likelihood: Callable[[Tensor], Tensor]
    ends: tuple[float, float]
    exact: Tensor


def main(
    epochs: Annotated[int, typer.Option(help="Of fitting the VAE.")] = 100,
    repetitions: Annotated[int, typer.Option(help="Of each Monte Carlo estimate.")] = 50,
    seed: Annotated[int, typer.Option(help="Of everything random.")] = 0,
    device: Annotated[str, typer.Option(help="cpu or cuda.")] = "cpu",
    out: Annotated[Path, typer.Option(help="Folder for tables and pictures.")] = Path(
        "out/expectations"
    ),
    *,
    smoke: Annotated[bool, typer.Option("--smoke", help="Seconds instead of a minute.")] = False,
) -> None:
    """Measure error and cost of every way in both cases; write a table and a figure."""
    out.mkdir(parents=True, exist_ok=True)
    epochs, repetitions = (1, 3) if smoke else (epochs, repetitions)
    most, digits = (16, 3) if smoke else (2048, 8)
    vae = bernoulli_vae(seed, device, epochs, digits + 1)
    cases = {"toy": toy(device), "Bernoulli VAE": vae}
    rows = [
        {"case": name, **row}
        for name, case in cases.items()
        for row in measure(case, most, digits, repetitions, seed)
    ]
    table = pd.DataFrame(rows)
    table.to_csv(out / "error_against_cost.csv", index=False)
    print(table.to_string(index=False, float_format="{:.3g}".format))
    draw(table, out / "error_against_cost.png")


def toy(device: str) -> Case:
    """Return the toy with the guide at its best rate."""
    x = torch.tensor(OBSERVATIONS, dtype=torch.float64, device=device)
    rate = exponential_normal.optimal_guide_rate(x)
    # The ELBO and KL(q to p), for the prior Exponential(1).
    exact = exponential_normal.elbo(x, rate) + (rate.log() + 1 / rate - 1)

    def log_likelihood(z: Tensor) -> Tensor:
        return Normal(z.unsqueeze(-1), 1.0).log_prob(x).sum(-1)

    return Case(Exponential(rate), log_likelihood, (0.0, 15.0), exact)


def bernoulli_vae(seed: int, device: str, epochs: int, digits: int) -> Case:
    """Return 32 test digits under a VAE with one latent dimension."""
    train, test = (load("digits", split=split) for split in ("train", "test"))
    pair = BernoulliVAE(train.image_shape, latent_dim=1, hidden=(64, 32), seed=seed)
    fit(pair, train, num_epochs=epochs, device=device, seed=seed, progress=False)
    pair = pair.double().to(device)
    with seeded(seed), torch.no_grad():
        x = test.batch(slice(0, 32)).to(device).double()
        q = Normal(*(v.squeeze(-1) for v in pair.encode(x)))

    @torch.no_grad()
    def log_likelihood(z: Tensor) -> Tensor:
        return pair.likelihood(z.unsqueeze(-1)).log_prob(x.reshape(-1, *pair.image_shape))

    options = {"method": "adaptive", "tolerance": 10.0**-digits, "num_points": 200_000}
    reference = expectation(q, log_likelihood, **options)
    print(
        f"VAE: loc {q.loc.min():.2f} to {q.loc.max():.2f}, scale {q.scale.min():.3f} to "
        f"{q.scale.max():.3f}; reference good to {reference.standard_error.max():.1e} nats, "
        f"{reference.num_samples} evaluations"
    )
    return Case(q, log_likelihood, (-6.0, 6.0), reference.mean)


def measure(case: Case, most: int, digits: int, repetitions: int, seed: int) -> list[dict]:
    """Return one row for each way and effort: least time, root mean square error over examples."""
    rows = []

    def add(way: str, compute: Callable[[int], Estimate], times: int = 10) -> None:
        found, seconds = [], []
        for k in range(times):
            began = time.perf_counter()
            found.append(compute(seed + k))
            seconds.append(time.perf_counter() - began)
        errors = torch.stack([each.mean.detach() - case.exact for each in found])
        reported = torch.stack([each.standard_error for each in found])
        rows.append(
            {
                "way": way,
                "evaluations": found[0].num_samples,
                "milliseconds": 1e3 * min(seconds),
                "error": errors.square().mean().sqrt().item(),
                "reported error": reported.square().mean().sqrt().item(),
            }
        )

    def by(method: str, **options: float) -> Callable[[int], Estimate]:
        q, function = case.q, case.log_likelihood
        return lambda s: expectation(q, function, method=method, seed=s, **options)

    count = 1
    while count <= most:
        add("Monte Carlo", by("monte-carlo", num_points=count), repetitions)
        if count > 1:
            add("trapezoid", lambda _, n=count: trapezoid(case, n))
        if 1 < count <= 256:
            add("Gauss", by("quadrature", num_points=count))
        count *= 2
    for digit in range(1, digits + 1):
        add("adaptive", by("adaptive", tolerance=10.0**-digit), 3)
    return rows


def trapezoid(case: Case, count: int) -> Estimate:
    """Return the integral of q(z) log p(x given z) on one grid for all; it knows no error."""
    like = case.exact
    z = torch.linspace(*case.ends, count, dtype=like.dtype, device=like.device)
    columns = z.reshape(-1, *(1 for _ in like.shape)).expand(count, *like.shape)
    integrand = case.q.log_prob(columns).exp() * case.log_likelihood(columns)
    value = torch.trapezoid(integrand, z, dim=0)
    return Estimate(value, torch.full_like(value, torch.nan), count)


def draw(table: pd.DataFrame, path: Path) -> None:
    """Draw error against evaluations and against time, a row of pictures for each case."""
    cases = list(table.case.unique())
    figure, axes = plots.subplots(len(cases), 2, size=(5.0, 3.4))
    for row, case in zip(axes, cases, strict=True):
        for ax, cost in zip(row, ("evaluations", "milliseconds"), strict=True):
            for way, (colour, marker) in STYLE.items():
                of = table[(table.case == case) & (table.way == way)]
                error = of.error.clip(lower=1e-16)
                ax.plot(of[cost], error, marker=marker, markersize=4, color=colour, label=way)
            ax.set(xscale="log", yscale="log", xlabel=cost, title=case)
        row[0].set_ylabel("error (nats)")
    axes[1, 0].legend(frameon=False)
    figure.savefig(path, dpi=plots.DPI)


if __name__ == "__main__":
    typer.run(main)
