"""How many wrong ELBOs does check_elbo find, with the right cause, and how often is it wrong?

    python experiments/check_elbo.py

Every entry of the bank, over seeds: data, settings and noise are fresh each time.
"""

from __future__ import annotations

import time
from concurrent.futures import ProcessPoolExecutor
from pathlib import Path
from typing import Annotated, Any

import pandas as pd
import torch
import typer
from objective_bank import PAIRS, RIGHT, WRONG
from scipy.stats import binomtest

from ppl_vae import MODELS, check_elbo, plots

LABELS = ("found", "right cause", "false alarm")


def main(
    wrong_seeds: Annotated[int, typer.Option(help="Checks of each wrong objective.")] = 3,
    right_seeds: Annotated[int, typer.Option(help="Checks of each right objective.")] = 20,
    jobs: Annotated[int, typer.Option(help="Processes.")] = 1,
    seed: Annotated[int, typer.Option(help="Of everything random.")] = 0,
    device: Annotated[str, typer.Option(help="cpu or cuda.")] = "cpu",
    out: Annotated[Path, typer.Option(help="Folder for tables and pictures.")] = Path(
        "out/check_elbo"
    ),
    *,
    smoke: Annotated[bool, typer.Option("--smoke", help="Seconds instead of an hour.")] = False,
) -> None:
    """Run the bank; write one row an entry, the rates, and a figure."""
    out.mkdir(parents=True, exist_ok=True)
    wrong, right = (1, 1) if smoke else (wrong_seeds, right_seeds)
    step = 24 if smoke else 1
    jobs_list = [
        ("wrong", i, seed + s, device) for i in range(0, len(WRONG), step) for s in range(wrong)
    ]
    jobs_list += [
        ("right", i, seed + s, device) for i in range(0, len(RIGHT), step) for s in range(right)
    ]
    if jobs > 1:
        with ProcessPoolExecutor(jobs) as pool:
            rows = list(pool.map(check, jobs_list))
    else:
        rows = [check(job) for job in jobs_list]
    table = pd.DataFrame(rows)
    by_entry = table.groupby(["bank", "pair", "entry", "expected"], sort=False)
    summary = by_entry.agg(
        checks=("failed", "size"),
        failed=("failed", "mean"),
        right_cause=("right cause", "mean"),
        seconds=("seconds", "median"),
        first_finding=("finding", "first"),
    )
    summary.reset_index().to_csv(out / "entries.csv", index=False, float_format="%.3g")
    rates = rate_table(table)
    rates.to_csv(out / "rates.csv", index=False, float_format="%.4g")
    print(rates.to_string(index=False, float_format="{:.4f}".format))
    for _, row in table[table.bank.eq("wrong") & ~table["right cause"]].iterrows():
        print(f"{row.entry} (seed {row.seed}): {row.finding or 'not found'}")
    for _, row in table[table.bank.eq("right") & table.failed].iterrows():
        print(f"false alarm: {row.entry} (seed {row.seed}): {row.finding}")
    draw(rates, out / "rates.png")


def check(job: tuple[str, int, int, str]) -> dict[str, Any]:
    """Check one entry once."""
    torch.set_num_threads(1)
    bank, place, seed, device = job
    entry = (WRONG if bank == "wrong" else RIGHT)[place]
    name, config = PAIRS[entry.pair]
    pair: Any = MODELS[name](**config).to(device)
    toy = entry.pair == "toy"
    x = pair.sample(5, seed=seed, num_datasets=16) if toy else pair.sample(24, seed=seed)
    began = time.process_time()
    result = check_elbo(
        entry.make(pair), pair, x, kind=entry.kind, reduction=entry.reduction, seed=seed
    )
    return {
        "bank": bank,
        "pair": entry.pair,
        "entry": entry.name,
        "expected": "" if entry.finding is None else ": ".join(entry.finding),
        "seed": seed,
        "failed": not result.passed,
        "right cause": entry.finding is not None
        and any(
            (f.kind, f.term) == entry.finding and entry.says in f.message for f in result.findings
        ),
        "seconds": time.process_time() - began,
        "finding": result.findings[0].message if result.findings else "",
    }


def rate_table(table: pd.DataFrame) -> pd.DataFrame:
    """Return each rate with its 95% interval (Clopper and Pearson), by pair and overall."""
    rows = []
    for pair in (*table.pair.unique(), "all"):
        some = table if pair == "all" else table[table.pair == pair]
        wrong, right = some[some.bank == "wrong"], some[some.bank == "right"]
        counts = [wrong.failed, wrong["right cause"], right.failed]
        for label, values in zip(LABELS, counts, strict=True):
            n, k = len(values), int(values.sum())
            if n:
                low, high = binomtest(k, n).proportion_ci()
                row = {"pair": pair, "rate": label, "checks": n, "count": k}
                rows.append(row | {"share": k / n, "low": low, "high": high})
    return pd.DataFrame(rows)


def draw(rates: pd.DataFrame, path: Path) -> None:
    """Draw the three rates with their intervals, by pair."""
    figure, axes = plots.subplots(1, 3, size=(3.6, 3.0))
    for ax, label, colour in zip(axes[0], LABELS, plots.COLOURS, strict=False):
        some = rates[rates.rate == label].reset_index(drop=True)
        error = [some.share - some.low, some.high - some.share]
        ax.errorbar(some.share, some.index, xerr=error, fmt="o", capsize=3, color=colour)
        ax.set_yticks(some.index, some.pair)
        ax.invert_yaxis()
        ax.set(title=label, xlabel="share of checks, 95% interval")
        if label == "false alarm":
            ax.axvline(1e-3, color="grey", lw=1, ls=":")
        else:
            ax.set_xlim(right=1.01)
    figure.savefig(path, dpi=plots.DPI)


if __name__ == "__main__":
    typer.run(main)
