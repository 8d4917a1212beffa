"""Bits as latents: which estimator of the gradient is least noisy, and which trains fastest?

    python experiments/discrete_latents.py
    python experiments/discrete_latents.py --data mnist --data-dir DIR --epochs 100

Three sigmoid belief networks are trained: 8 bits, whose states can be summed, and 200 bits with
linear networks or with two hidden layers of 200. Every estimator has the fewest particles that it
takes. A table has each one's gradient variance by group of parameters, its time, and the product
of both. The curves are of the test images' ELBO over the seconds of training: of the processor,
or the clock where a GPU computes. Runs have folders; a script that was stopped goes on.

A map shows the variances of a single bit in closed form, with measured dots. b is 1 with chance p
and f is the objective. Leave-one-out and the antithetic pairs see only f(1) - f(0), and the score
function only (1 - p) f(1) + p f(0): it wins where that happens to be near 0.
"""

from __future__ import annotations

import math
from pathlib import Path
from typing import Annotated

import numpy as np
import pandas as pd
import typer
from discrete_parts.one_bit_map import dots, draw_map
from discrete_parts.pictures import ESTIMATORS, draw_curves, draw_noise
from discrete_parts.training import BATCH_SIZE, PAIRS, examples, trained, untrained, warm_up

from ppl_vae import compare_elbos, load_pair

WITHIN = 0.5  # nats of the best ELBO: the goal whose time is measured


def main(
    data: Annotated[str, typer.Option(help="digits or mnist.")] = "digits",
    epochs: Annotated[int, typer.Option(help="Of each run.")] = 40,
    seeds: Annotated[int, typer.Option(help="Runs of each estimator.")] = 2,
    replicates: Annotated[int, typer.Option(help="Gradients of which variances are.")] = 100,
    data_dir: Annotated[Path | None, typer.Option(help="Folder of downloaded data.")] = None,
    seed: Annotated[int, typer.Option(help="Of the first run.")] = 0,
    device: Annotated[str, typer.Option(help="auto, cpu or cuda.")] = "auto",
    out: Annotated[Path, typer.Option(help="Folder for runs, tables and pictures.")] = Path(
        "out/discrete_latents"
    ),
    *,
    smoke: Annotated[bool, typer.Option("--smoke", help="Seconds instead of minutes.")] = False,
) -> None:
    """Map the noise of one bit; train each pair by each estimator, and measure the gradients."""
    if smoke:
        epochs, seeds, replicates = 1, 1, 10
    out.mkdir(parents=True, exist_ok=True)
    draw_map(dots(replicates, seed, device, smoke=smoke), out)
    curves, variances = [], []
    warm_up(device)
    for name in ["8 bits"] if smoke else PAIRS:
        chosen = ["trace", "leave-one-out", "exact"] if smoke else serving(name)
        for run in range(seed, seed + seeds):
            for estimator in chosen:
                folder = out / "runs" / f"{data}-{name.replace(' ', '-')}-{estimator}-{run}"
                curve = trained(
                    name, estimator, data, folder, epochs=epochs, seed=run,
                    data_dir=data_dir, device=device,
                )  # fmt: skip
                curves.append(curve.assign(pair=name, estimator=estimator, seed=run))
                print(curves[-1].tail(1).to_string(header=False, index=False), flush=True)
        last = out / "runs" / f"{data}-{name.replace(' ', '-')}-leave-one-out-{seed}"
        variances += noise(name, chosen, data, last, replicates, seed, data_dir, device)
    table = pd.concat(curves, ignore_index=True)
    table.to_csv(out / f"{data}.csv", index=False)
    found = pd.DataFrame(variances)
    found.to_csv(out / f"{data}_variances.csv", index=False)
    print(found.to_string(index=False, float_format="{:.3g}".format))
    summary = summarise(table)
    summary.to_csv(out / f"{data}_summary.csv", index=False)
    print(summary.to_string(index=False, float_format="{:.2f}".format))
    draw_curves(table, out / f"{data}.png")
    draw_noise(found, out / f"{data}_variances.png")


def serving(pair: str) -> list[str]:
    """Return the estimators that serve a pair: only of 8 bits all states can be summed."""
    return [name for name in ESTIMATORS if name != "exact" or pair == "8 bits"]


def summarise(table: pd.DataFrame) -> pd.DataFrame:
    """Return the ELBO after equal times, the time to a common goal, and the last ELBO."""
    rows = []
    for name, of_pair in table.groupby("pair", sort=False):
        runs = ["estimator", "seed"]
        budget = of_pair.groupby(runs).seconds.max().min()
        ends = of_pair.groupby(runs).elbo.last().groupby("estimator").mean()
        goal = ends.max() - WITHIN
        for estimator, own in of_pair.groupby("estimator", sort=False):
            each = [run for _, run in own.groupby("seed")]
            at_budget = [run.elbo[run.seconds <= budget].iloc[-1] for run in each]
            to_goal = [run.seconds[run.elbo >= goal].min() for run in each]
            last = own.groupby("seed").last()
            rows.append(
                {
                    "pair": name,
                    "estimator": estimator,
                    "seconds an epoch": np.median([run.seconds.diff().median() for run in each]),
                    "budget": budget,
                    "ELBO at the budget": np.mean(at_budget),
                    "goal": goal,
                    "seconds to the goal": np.mean(to_goal),  # NaN if a run did not reach it
                    "last ELBO": last.elbo.mean(),
                    "spread": last.elbo.std() if len(each) > 1 else math.nan,
                    "log evidence": last["log evidence"].mean(),
                }
            )
    return pd.DataFrame(rows)


def noise(
    name: str,
    estimators: list[str],
    data: str,
    folder: Path,
    replicates: int,
    seed: int,
    data_dir: Path | None,
    device: str,
) -> list[dict[str, object]]:
    """Return a row for each estimator and group, at the first parameters and at the last."""
    x = examples(data, "test", data_dir)[: 2 * BATCH_SIZE]
    shape = tuple(x.shape[1:])
    rows = []
    for state in ("untrained", "trained"):
        pair = untrained(name, shape, seed) if state == "untrained" else load_pair(folder)
        found = compare_elbos(
            pair, x, estimators, num_replicates=replicates, seed=seed, device=device
        )
        for row in found.rows:
            for group, variance in row.gradient_variance.items():
                rows.append(
                    {
                        "pair": name,
                        "state": state,
                        "estimator": row.name,
                        "bound": row.bound,
                        "group": group,
                        "variance": variance.mean,
                        "standard error": variance.standard_error,
                        "milliseconds": row.milliseconds,
                        "variance x time": variance.mean * row.milliseconds / 1000,
                        "gradient's bias in z": row.gradient_bias_z_score,
                    }
                )
    return rows


if __name__ == "__main__":
    typer.run(main)
