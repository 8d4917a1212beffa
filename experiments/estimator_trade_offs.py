"""No estimator has the least gradient variance everywhere: the toy's map.

    python experiments/estimator_trade_offs.py

One data set of the exponential toy has three numbers that matter: how many observations n, their
mean, and the guide's rate r over the best rate r*. The closed form says for each of them which
one-sample gradient has the least variance; every dot is a measurement. A reparameterised gradient
is ``const + a e + b e^2`` with e ~ Exponential(1) and the same b for all three estimators, and
its variance ``b^2 ((a/b + 4)^2 + 4)`` is least at ``-a/b = 4``. That number is ``B r / m`` for the
total derivative, and more by ``lam r / m`` for the analytic KL and by ``r^2 / m`` for sticking the
landing. As long as all three are below 4, the analytic KL wins where r < lam and sticking the
landing where r > lam (their common edge is the slanting one); past 4 the order turns round, and
the total derivative wins. The gaps go down as 1 / n, and with them, for data away from 0, the
reason to choose. The score function's gradient has the factor log p(x, z) - log q(z); on this map
it wins nowhere.
"""

from __future__ import annotations

import math
from pathlib import Path
from typing import Annotated

import numpy as np
import pandas as pd
import torch
import typer
from matplotlib import colors
from matplotlib.lines import Line2D
from torch import Tensor

from ppl_vae import ExponentialNormal, compare_elbos, plots
from ppl_vae.closed_forms import exponential_normal

ESTIMATORS = {
    "trace": plots.BLUE,
    "trace-mean-field": plots.ORANGE,
    "sticking-the-landing": plots.GREEN,
    "score-function": plots.RED,
}
COUNTS = (1, 5, 50)
MEANS, RATIOS = (-0.5, 0.5, 1.5, 3.0, 4.5), (0.5, 1.0, 1.5, 3.0)
MEAN_RANGE, RATIO_RANGE = (-1.0, 5.0), (0.25, 8.0)
COPIES = 100  # of the data set, each with noise of its own: the sum is then nearly Normal
FULL_COLOUR = 2.0  # the runner-up's variance over the least, from which a colour is pure


def main(
    replicates: Annotated[int, typer.Option(help="Gradients at each dot.")] = 300,
    seed: Annotated[int, typer.Option(help="Of everything random.")] = 0,
    device: Annotated[str, typer.Option(help="auto, cpu or cuda.")] = "auto",
    out: Annotated[Path, typer.Option(help="Folder for tables and pictures.")] = Path(
        "out/estimator_trade_offs"
    ),
    *,
    smoke: Annotated[bool, typer.Option("--smoke", help="Seconds, with few dots.")] = False,
) -> None:
    """Measure the estimators on a grid of data and rates; draw the dots on the exact map."""
    out.mkdir(parents=True, exist_ok=True)
    means, ratios = ((0.5, 3.0), (1.0, 4.0)) if smoke else (MEANS, RATIOS)
    replicates = 20 if smoke else replicates
    dots = [(n, mean, ratio) for n in COUNTS for mean in means for ratio in ratios]
    table = pd.DataFrame(
        [
            row
            for number, dot in enumerate(dots)
            for row in measure(*dot, replicates, seed + number, device)
        ]
    )
    table.to_csv(out / "measurements.csv", index=False)
    maps = [closed_form(n) for n in COUNTS]
    draw(maps, table, out / "map.png")
    summarise(maps, table).to_csv(out / "map.csv", index=False)


def data_set(n: int, mean: Tensor | float) -> Tensor:
    """Return n numbers about `mean`, spread as the quantiles of the noise, (*batch, n)."""
    levels = (torch.arange(n, dtype=torch.float64) + 0.5) / n
    quantiles = math.sqrt(2) * torch.special.erfinv(2 * levels - 1)
    return torch.as_tensor(mean, dtype=torch.float64).unsqueeze(-1) + quantiles


def measure(
    n: int, mean: float, ratio: float, replicates: int, seed: int, device: str
) -> list[dict[str, object]]:
    """Return one row per estimator: gradient variance, measured and exact, by log r."""
    x = data_set(n, mean)
    best = exponential_normal.optimal_guide_rate(x).item()
    pair = ExponentialNormal(guide_rate=ratio * best).double()
    result = compare_elbos(
        pair,
        x.expand(COPIES, n),
        list(ESTIMATORS),
        num_replicates=replicates,
        seed=seed,
        device=device,
    )
    rows = []
    for row in result.rows:
        found = row.gradient_variance["overall"]
        exact = row.closed_form_gradient_variance["overall"]
        rows.append(
            {
                "n": n,
                "mean": mean,
                "r/r*": ratio,
                "estimator": row.name,
                "variance": found.mean / COPIES,
                "standard error": found.standard_error / COPIES,
                "closed form": exact / COPIES,
                "z": found.z_score(exact),
            }
        )
    return rows


def closed_form(n: int) -> np.ndarray:
    """Return the variances over the map, (estimators, ratios, means)."""
    mean = torch.linspace(*MEAN_RANGE, 241, dtype=torch.float64)
    ratio = torch.logspace(*map(math.log2, RATIO_RANGE), 201, base=2, dtype=torch.float64)
    x = data_set(n, mean)
    rate = ratio.unsqueeze(-1) * exponential_normal.optimal_guide_rate(x)
    found = [
        rate.square() * exponential_normal.gradient_variance(x, rate, estimator=name)
        for name in ESTIMATORS
    ]
    return torch.stack(found).numpy()


def draw(maps: list[np.ndarray], table: pd.DataFrame, path: Path) -> None:
    """Colour the map by its least variance, paler where the next is close; add the dots."""
    figure, axes = plots.subplots(1, len(COUNTS), size=(3.9, 3.9))
    palette = np.array([colors.to_rgb(colour) for colour in ESTIMATORS.values()])
    for ax, n, variances in zip(axes[0], COUNTS, maps, strict=True):
        least, second = np.sort(variances, axis=0)[:2]
        strength = (np.log(second / least) / math.log(FULL_COLOUR)).clip(0, 1)[..., None]
        strength = 0.2 + 0.65 * strength
        image = 1 - strength * (1 - palette[variances.argmin(0)])
        height = tuple(map(math.log2, RATIO_RANGE))
        extent = (*MEAN_RANGE, *height)
        ax.imshow(image, origin="lower", extent=extent, aspect="auto", interpolation="nearest")
        ax.axhline(0, color="black", linewidth=0.6, linestyle=":")
        for (mean, ratio), rows in table[table.n == n].groupby(["mean", "r/r*"]):
            winner = rows.loc[rows.variance.idxmin(), "estimator"]
            style = {"color": ESTIMATORS[winner], "markeredgecolor": "black", "markersize": 8}
            ax.plot(mean, math.log2(ratio), "o", **style)
        ticks = np.arange(height[0], height[1] + 1)
        ax.set_yticks(ticks, [f"{2**tick:g}" for tick in ticks])
        ax.set(title=f"n = {n}", xlabel="mean of the observations")
    axes[0, 0].set_ylabel("guide's rate over the best, r / r*")
    found = set(table.loc[table.groupby(["n", "mean", "r/r*"]).variance.idxmin(), "estimator"])
    found |= {name for each in maps for name in np.array(list(ESTIMATORS))[each.argmin(0)].flat}
    style = {"marker": "o", "linestyle": "", "markeredgecolor": "black", "markersize": 8}
    handles = [
        Line2D([], [], color=ESTIMATORS[k], label=k, **style) for k in ESTIMATORS if k in found
    ]
    figure.legend(handles=handles, loc="outside lower center", ncols=4, frameon=False)
    figure.suptitle(
        "least gradient variance: map exact, dots measured; pale where the next is near"
    )
    figure.savefig(path, dpi=plots.DPI)


def summarise(maps: list[np.ndarray], table: pd.DataFrame) -> pd.DataFrame:
    """Print how the measurements agree with the closed form; return what the map holds."""
    dots = ["n", "mean", "r/r*"]
    wide = table.pivot_table(["variance", "closed form"], dots, "estimator")
    measured, exact = wide["variance"], wide["closed form"]
    ordered = np.sort(exact.to_numpy(), axis=1)
    same = (measured.idxmin(axis=1) == exact.idxmin(axis=1)).to_numpy()
    clear = ordered[:, 1] > 1.1 * ordered[:, 0]
    print(table.to_string(index=False, float_format="{:.4g}".format))
    print(
        f"z-scores of {len(table)} measured variances: mean {table.z.mean():+.2f}, "
        f"deviation {table.z.std():.2f}, largest {table.z.abs().max():.2f}"
    )
    print(
        f"the measured winner is the exact one at {same.sum()} of {len(same)} dots, and at "
        f"{same[clear].sum()} of the {clear.sum()} where the next has over 1.1 times its variance"
    )
    rows = []
    for n, variances in zip(COUNTS, maps, strict=True):
        for number, name in enumerate(ESTIMATORS):
            over = variances[number] / variances.min(0)
            rows.append(
                {
                    "n": n,
                    "estimator": name,
                    "least on this share of the map": (over == 1).mean(),
                    "variance over the least: median": np.median(over),
                    "at best": over.min(),
                    "at worst": over.max(),
                }
            )
    result = pd.DataFrame(rows)
    print(result.to_string(index=False, float_format="{:.3g}".format))
    return result


if __name__ == "__main__":
    typer.run(main)
