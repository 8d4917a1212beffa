"""How surely does check_elbo see a gradient that is wrong where the value is right?

    python experiments/gradient_power.py --jobs 2

Objectives with the value of the ELBO in whose gradient one term, or two pixels of 36, have the
weight 0.5 (the rest is detached), or each pixel has its variance to a power (the beta-NLL of
Seitzer et al., 2022): with the guide's own noise, which the check draws again, and with numpy's,
which it cannot. The checks of a kind go through its objectives and both noises in turn; network,
data, settings and noise are fresh for every seed. A check counts as a find if it fails by a
gradient and by nothing else.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from concurrent.futures import ProcessPoolExecutor
from pathlib import Path
from typing import Annotated, Any

import numpy as np
import pandas as pd
import torch
import typer
from scipy.stats import binomtest
from torch import Tensor, nn
from torch.distributions import Normal

from ppl_vae import BernoulliVAE, Pair, check_elbo, pair_from_modules, plots, seeded

NOISES = ("the guide's", "numpy's")
# From where on check_elbo calls a gradient wrong, with two groups.
LIMIT = 5.0


class Spread(nn.Module):
    """Location and scale of every pixel from a code."""

    def __init__(self, latent: int, pixels: int) -> None:
        super().__init__()
        self.net = nn.Sequential(nn.Linear(latent, 16), nn.Tanh(), nn.Linear(16, 2 * pixels))

    def forward(self, z: Tensor) -> tuple[Tensor, Tensor]:
        """Return both, (batch, pixels)."""
        loc, spread = self.net(z).chunk(2, -1)
        return loc, spread.exp()


def binary(seed: int) -> Pair:
    """Return a VAE with 36 Bernoulli pixels."""
    return BernoulliVAE((1, 6, 6), latent_dim=3, hidden=(16,), seed=seed)


def normal(seed: int) -> Pair:
    """Return a VAE with 16 Normal pixels, each of a scale of its own."""
    with seeded(seed):
        nets = Spread(16, 3), Spread(3, 16)
        return pair_from_modules(
            *nets,
            latent_dim=3,
            likelihood="normal",
            encoder_output="scale",
            decoder_output="loc, scale",
            image_shape=(16,),
        )


def half(term: Tensor) -> Tensor:
    """Return a term with half of its gradient."""
    return 0.5 * term + 0.5 * term.detach()


def weighted(term: Tensor, weight: Tensor) -> Tensor:
    """Return a term with a weight in its gradient alone."""
    return weight * term + ((1 - weight) * term).detach()


# From the log-likelihood of every pixel, log p(z), log q(z | x) and a pixel's scale to the loss.
Join = Callable[[Tensor, Tensor, Tensor, Tensor], Tensor]


def beta_nll(power: float) -> Join:
    """Return the join with each pixel's variance to a power as its weight."""

    def join(pixels: Tensor, p: Tensor, q: Tensor, scale: Tensor) -> Tensor:
        return (q - p - weighted(pixels, scale.detach() ** (2 * power)).sum(-1)).mean()

    return join


TERMS: dict[str, Join] = {
    "log-likelihood": lambda x, p, q, _: (q - p - half(x.sum(-1))).mean(),
    "log p(z)": lambda x, p, q, _: (q - half(p) - x.sum(-1)).mean(),
    "log q(z | x)": lambda x, p, q, _: (half(q) - p - x.sum(-1)).mean(),
    "KL": lambda x, p, q, _: (half(q - p) - x.sum(-1)).mean(),
}
PIXELS: dict[str, Join] = {
    "2 of 36 pixels": lambda x, p, q, _: (q - p - half(x[:, :2]).sum(-1) - x[:, 2:].sum(-1)).mean()
}
BETA = {"beta 0.5": beta_nll(0.5), "beta 1": beta_nll(1.0)}
Case = tuple[str, Callable[[int], Pair], Join, str]
KINDS: dict[str, list[Case]] = {
    kind: [
        (f"{name}, {said} pixels", pair, join, noise)
        for name, join in joins.items()
        for said, pair in pairs.items()
        for noise in NOISES
    ]
    for kind, joins, pairs in (
        ("one term halved", TERMS, {"Bernoulli": binary, "Normal": normal}),
        ("beta-NLL", BETA, {"Normal": normal}),
        ("2 of 36 pixels halved", PIXELS, {"Bernoulli": binary}),
    )
}


def objective(pair: Any, join: Join, noise: str) -> Callable[[Tensor], Tensor]:  # noqa: ANN401
    """Return the loss."""

    def loss(x: Tensor) -> Tensor:
        loc, scale = pair.encode(x)
        if noise == NOISES[0]:
            draw = torch.randn_like(scale)
        else:
            draw = torch.as_tensor(np.random.standard_normal(scale.shape)).to(scale)  # noqa: NPY002
        z = loc + scale * draw
        fn = pair.likelihood(z)
        while hasattr(fn, "base_dist"):
            fn = fn.base_dist
        pixels = fn.log_prob(x).flatten(1)
        log_p = Normal(0.0, 1.0).log_prob(z).sum(-1)
        log_q = Normal(loc, scale).log_prob(z).sum(-1)
        return join(pixels, log_p, log_q, getattr(fn, "scale", torch.ones(())).expand_as(x))

    return loss


def check(job: tuple[str, int]) -> dict[str, Any]:
    """Check one objective once."""
    torch.set_num_threads(1)
    kind, seed = job
    name, make, join, noise = KINDS[kind][seed % len(KINDS[kind])]
    pair = make(seed)
    x = pair.sample(24, seed=seed)
    began = time.process_time()
    result = check_elbo(objective(pair, join, noise), pair, x, seed=seed)
    return {
        "kind": kind,
        "objective": name,
        "noise": noise,
        "seed": seed,
        "found": {finding.kind for finding in result.findings} == {"gradient"},
        "failed": not result.passed,
        "z": max(group.z_score for group in result.gradient.values()),
        "seconds": time.process_time() - began,
    }


def rates(table: pd.DataFrame) -> pd.DataFrame:
    """Return the share of finds by kind and noise, with its 95% interval (Clopper, Pearson)."""
    whole = table.assign(noise="both")
    found = (
        pd.concat([table, whole])
        .groupby(["kind", "noise"], sort=False)
        .agg(
            checks=("found", "size"),
            found=("found", "sum"),
            failed=("failed", "sum"),
            least_z=("z", "min"),
            seconds=("seconds", "median"),
        )
        .reset_index()
    )
    counts = zip(found.found, found.checks, strict=True)
    found[["low", "high"]] = [binomtest(k, n).proportion_ci() for k, n in counts]
    return found


def draw(table: pd.DataFrame, path: Path) -> None:
    """Draw every check's largest z-score, against that from which a gradient is wrong."""
    figure, axes = plots.subplots(1, 1, size=(6.0, 3.2))
    ax = axes[0, 0]
    kinds = list(table.kind.unique())
    jitter = np.random.default_rng(0).uniform(-0.15, 0.15, len(table))
    for i, (noise, colour) in enumerate(zip(NOISES, plots.COLOURS, strict=False)):
        some = (table.noise == noise).to_numpy()
        place = np.array([kinds.index(k) for k in table.kind[some]])
        height = place + 0.2 * (2 * i - 1) + jitter[some]
        ax.scatter(table.z[some].clip(0.5, 50), height, s=8, color=colour, label=noise)
    ax.axvline(LIMIT, color="grey", lw=1, ls=":")
    ax.set_yticks(range(len(kinds)), kinds)
    ax.invert_yaxis()
    ax.set(xscale="log", xlabel="largest z-score of a group; dotted: from where on it is wrong")
    ax.set_xticks([5, 10, 20, 50], ["5", "10", "20", "50+"])
    ax.minorticks_off()
    ax.legend(title="noise", loc="upper left", bbox_to_anchor=(1.0, 1.0))
    figure.savefig(path, dpi=plots.DPI)


def main(
    seeds: Annotated[int, typer.Option(help="Checks of each kind.")] = 200,
    jobs: Annotated[int, typer.Option(help="Processes.")] = 1,
    seed: Annotated[int, typer.Option(help="The first seed.")] = 0,
    device: Annotated[str, typer.Option(help="cpu, where numpy draws.")] = "cpu",
    out: Annotated[Path, typer.Option(help="Folder for the table and the picture.")] = Path(
        "out/gradient_power"
    ),
    *,
    smoke: Annotated[bool, typer.Option("--smoke", help="Seconds: a few checks.")] = False,
) -> None:
    """Check every objective over seeds; write the shares, and a figure."""
    if device != "cpu":
        raise typer.BadParameter("numpy's noise is made on the cpu")
    out.mkdir(parents=True, exist_ok=True)
    todo = [(kind, seed + i) for kind in KINDS for i in range(1 if smoke else seeds)]
    if jobs > 1:
        with ProcessPoolExecutor(jobs) as pool:
            rows = list(pool.map(check, todo))
    else:
        rows = [check(job) for job in todo]
    table = pd.DataFrame(rows)
    table.to_csv(out / "checks.csv", index=False, float_format="%.4g")
    found = rates(table)
    found.to_csv(out / "rates.csv", index=False, float_format="%.4g")
    print(found.to_string(index=False, float_format="{:.3g}".format))
    for _, row in table[~table.found].iterrows():
        print(f"not found: {row.objective}, noise of {row.noise} (seed {row.seed}), z {row.z:.2f}")
    draw(table, out / "rates.png")


if __name__ == "__main__":
    typer.run(main)
