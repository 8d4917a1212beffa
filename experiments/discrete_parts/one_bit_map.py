"""One bit: which estimator has the least variance, in closed form and measured."""

from __future__ import annotations

import math
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pandas as pd
import pyro
import pyro.distributions as dist
import torch
from matplotlib import colors
from matplotlib.lines import Line2D
from torch import Tensor

from ppl_vae import (
    compare_elbos,
    plots,
)
from ppl_vae.closed_forms import one_bit

BIT_ESTIMATORS = {
    "score-function": plots.RED,
    "leave-one-out": plots.BLUE,
    "disarm": plots.GREEN,
    "arm": plots.ORANGE,
}
EVALUATIONS = {"score-function": 1}  # of f in an estimate; the others take two
CHANCES, RATIOS = (0.1, 0.3, 0.5, 0.8), (-3.0, -0.5, 0.5, 2.0)
RATIO_RANGE = (-6.0, 6.0)
COPIES = 100  # of the bit, with noise of its own
FULL_COLOUR = 2.0  # the runner-up's variance over the least, from which a colour is pure


def dots(replicates: int, seed: int, device: str, *, smoke: bool) -> pd.DataFrame:
    """Measure the estimators of the package on one bit, f scaled so that f(1) is 1."""
    chances, ratios = ((0.3,), (-3.0, 2.0)) if smoke else (CHANCES, RATIOS)
    rows = []
    for chance in chances:
        for ratio in ratios:
            logit = torch.tensor(chance, dtype=torch.float64).logit()
            measured = compare_elbos(
                bit(logit, ratio),
                torch.zeros(COPIES, dtype=torch.float64),
                [name for name in BIT_ESTIMATORS if name != "arm"],
                num_replicates=max(replicates, 10),
                seed=seed,
                device="cpu",
            )
            for row in measured.rows:
                found = row.gradient_variance["overall"]
                exact = one_bit.gradient_variance(logit, ratio, 1.0, estimator=row.name).item()
                rows.append(
                    {
                        "p": chance,
                        "f0/f1": ratio,
                        "estimator": row.name,
                        "variance": found.mean / COPIES,
                        "standard error": found.standard_error / COPIES,
                        "closed form": exact,
                        "z": found.z_score(exact * COPIES),
                    }
                )
    return pd.DataFrame(rows)


def bit(logit: Tensor, ratio: float) -> tuple[Callable[..., None], Callable[..., None]]:
    """Return a program whose log p - log q is `ratio` at 0 and 1 at 1."""

    def model(x: Tensor) -> None:
        with pyro.plate("data", len(x)):
            b = pyro.sample("b", dist.Bernoulli(logits=logit))
            pyro.factor("f", torch.where(b > 0, 1.0, ratio))

    def guide(x: Tensor) -> None:
        free = pyro.param("logit", logit.clone())
        with pyro.plate("data", len(x)):
            pyro.sample("b", dist.Bernoulli(logits=free))

    return model, guide


def draw_map(table: pd.DataFrame, out: Path) -> None:
    """Draw who has the least variance, for one estimate and for as many evaluations of f."""
    chance = torch.linspace(0.005, 0.995, 199, dtype=torch.float64)
    ratio = torch.linspace(*RATIO_RANGE, 241, dtype=torch.float64)[:, None]
    one = torch.stack(
        [
            one_bit.gradient_variance(chance.logit(), ratio, 1.0, estimator=name)
            for name in BIT_ESTIMATORS
        ]
    ).numpy()
    shares = np.array([EVALUATIONS.get(name, 2) / 2 for name in BIT_ESTIMATORS])
    panels = {"an estimate each": one, "two evaluations of f each": one * shares[:, None, None]}
    figure, axes = plots.subplots(1, 2, size=(4.4, 3.9))
    palette = np.array([colors.to_rgb(colour) for colour in BIT_ESTIMATORS.values()])
    rows = []
    for ax, (title, variances) in zip(axes[0], panels.items(), strict=True):
        least, second = np.sort(variances, axis=0)[:2]
        with np.errstate(divide="ignore", invalid="ignore"):
            strength = np.log(second / least) / math.log(FULL_COLOUR)
        strength = 0.2 + 0.65 * np.nan_to_num(strength, posinf=1.0).clip(0, 1)[..., None]
        image = 1 - strength * (1 - palette[variances.argmin(0)])
        extent = (0.0, 1.0, *RATIO_RANGE)
        ax.imshow(image, origin="lower", extent=extent, aspect="auto", interpolation="nearest")
        for (p, f), found in table.groupby(["p", "f0/f1"]):
            spent = found.estimator.map(lambda name: EVALUATIONS.get(name, 2) / 2)
            value = found.variance * (spent if variances is not one else 1)
            colour = BIT_ESTIMATORS[found.estimator[value.idxmin()]]
            ax.plot(p, f, "o", color=colour, markeredgecolor="black", markersize=7)
        ax.set(title=title, xlabel="p, the chance of 1")
        for number, name in enumerate(BIT_ESTIMATORS):
            with np.errstate(divide="ignore", invalid="ignore"):
                over = variances[number] / least
            wins = variances.argmin(0) == number
            rows.append(
                {"cost": title, "estimator": name, "least on this share": wins.mean()}
                | {"median over the least": np.nanmedian(over)}
            )
    axes[0, 0].set_ylabel("f(0) / f(1)")
    style = {"marker": "o", "linestyle": "", "markeredgecolor": "black", "markersize": 8}
    winners = {row["estimator"] for row in rows if row["least on this share"] > 0}
    handles = [
        Line2D([], [], color=colour, label=name, **style)
        for name, colour in BIT_ESTIMATORS.items()
        if name in winners
    ]
    figure.legend(handles=handles, loc="outside lower center", ncols=4, frameon=False)
    figure.suptitle("one bit, least gradient variance: map exact, dots measured")
    figure.savefig(out / "map.png", dpi=plots.DPI)
    table.to_csv(out / "dots.csv", index=False)
    shares_table = pd.DataFrame(rows)
    shares_table.to_csv(out / "map.csv", index=False)
    print(shares_table.to_string(index=False, float_format="{:.3g}".format))
    print(
        f"z-scores of {len(table)} measured variances: mean {table.z.mean():+.2f}, "
        f"largest {table.z.abs().max():.2f}"
    )


# Pictures
