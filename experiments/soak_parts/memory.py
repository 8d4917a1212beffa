"""Memory and file handles while the library works on and on, with lines through them."""

from __future__ import annotations

import os
import time
from pathlib import Path
from tempfile import TemporaryDirectory

import numpy as np
import pandas as pd
import torch
from scipy.stats import linregress, t

from ppl_vae import check_elbo, compare_elbos, log_evidence
from soak_parts.training import data, trained

MEASURES = ("memory [MB]", "file handles")
# What is reserved once, such as by the first compilation or the allocator's pools, is no leak.
BEGINNING = 0.25
FEWEST = 4


def measured(minutes: float, *, seed: int) -> pd.DataFrame:
    """Train, compare, check and measure evidence for so long; return a row for each round."""
    x, rows, began = data(), [], time.monotonic()
    pair = trained(None, epochs=2)

    def objective(x: torch.Tensor) -> torch.Tensor:
        loc, scale = pair.encode(x)
        z = loc + scale * torch.randn_like(scale)
        standard = torch.distributions.Normal(torch.zeros_like(loc), 1.0)
        kl = torch.distributions.kl_divergence(torch.distributions.Normal(loc, scale), standard)
        return pair.likelihood(z).log_prob(x).sum() - kl.sum()

    while time.monotonic() - began < 60 * minutes or len(rows) < FEWEST:
        number = seed + len(rows)
        with TemporaryDirectory() as folder:
            trained(Path(folder) / "run", epochs=3, seed=number, compile=number % 5 == 0)
        compare_elbos(pair, x[:20], ["trace", "trace-mean-field"], num_replicates=20, seed=number)
        check_elbo(objective, pair, x[:10], kind="elbo", reduction="sum", seed=number)
        log_evidence(pair, x[:20], num_samples=100, seed=number)
        rows.append({"hours": (time.monotonic() - began) / 3600, **now()})
    return pd.DataFrame(rows)


def now() -> dict[str, float]:
    """Return the resident memory and the number of open files of this process (Linux)."""
    pages = int(Path("/proc/self/statm").read_text().split()[1])
    memory = pages * os.sysconf("SC_PAGE_SIZE") / 1e6
    return dict(zip(MEASURES, (memory, len(os.listdir("/proc/self/fd"))), strict=True))


def slopes(table: pd.DataFrame) -> pd.DataFrame:
    """Return the slope of each measure an hour after the beginning, with its 95% interval.

    The interval is that of a line through eight means, since neighbouring rounds are not
    independent.
    """
    rest = table[table["hours"] >= BEGINNING * table["hours"].max()]
    parts = np.array_split(np.arange(len(rest)), min(8, len(rest)))
    means = [rest.iloc[part].mean() for part in parts]
    hours = [mean["hours"] for mean in means]
    rows = []
    for name in MEASURES:
        line = linregress(hours, [mean[name] for mean in means])
        half = t.ppf(0.975, len(means) - 2) * line.stderr
        row = {"measure": name, "slope an hour": line.slope, "low": line.slope - half}
        rows.append({**row, "high": line.slope + half, "rounds": len(table)})
    return pd.DataFrame(rows)
