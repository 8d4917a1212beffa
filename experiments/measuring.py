"""What a measurement costs, against the loop that one would write with Pyro.

    python experiments/measuring.py --data-dir DIR

Replicates of a gradient: `compare_elbos` against a loop over ``loss_and_grads`` that adds up the
gradients and their squares, on the toy, on the digits and on MNIST, 64 images each. The
evidence of MNIST images by 5000 samples: `log_evidence` against a loop over the samples of
each batch of 100 images, timed on a part of them. Pyro's settings are its defaults, and as a
second ratio those without its validation. The two take turns; times are medians.
"""

from __future__ import annotations

import resource
import time
from collections.abc import Callable
from pathlib import Path
from typing import Annotated, Any

import pandas as pd
import pyro
import torch
import typer
from pyro import poutine
from torch import Tensor

from ppl_vae import (
    BernoulliVAE,
    ExponentialNormal,
    Pair,
    compare_elbos,
    load,
    log_evidence,
    plots,
)
from ppl_vae.elbos import ESTIMATORS

SAMPLES, BATCH, EXAMPLES = 5000, 100, 64


def main(
    estimator: Annotated[str, typer.Option(help="Whose gradient.")] = "trace",
    images: Annotated[int, typer.Option(help="Images whose evidence is measured.")] = 1000,
    runs: Annotated[int, typer.Option(help="Timed runs, in turn.")] = 3,
    data_dir: Annotated[Path | None, typer.Option(help="Folder of MNIST.")] = None,
    seed: Annotated[int, typer.Option(help="Of everything random.")] = 0,
    device: Annotated[str, typer.Option(help="cpu or cuda.")] = "cpu",
    out: Annotated[Path, typer.Option(help="Folder for the table.")] = Path("out/measuring"),
    *,
    smoke: Annotated[bool, typer.Option("--smoke", help="Seconds, without MNIST.")] = False,
) -> None:
    """Time every measurement and its loop in turn."""
    out.mkdir(parents=True, exist_ok=True)
    rows = []
    for name, replicates in {"toy": 20_000, "digits": 4000, "mnist": 1000}.items():
        if name == "mnist" and smoke:
            continue
        pair, x = subject(name, data_dir, device, seed)
        count = 500 if smoke else replicates

        def ours(pair: Pair = pair, x: Tensor = x, count: int = count) -> float:
            compare_elbos(pair, x, [estimator], num_replicates=count, seed=seed, device=device)
            return count

        def loop(pair: Pair = pair, x: Tensor = x) -> float:
            return add_up(pair, x, estimator, 20 if smoke else 200)

        rows.append({"measured": f"gradients, {name}", **compared(loop, ours, runs)})
    dataset, count = ("digits", 20) if smoke else ("mnist", images)
    data = load(dataset, split="test", data_dir=data_dir)
    torch.manual_seed(seed)
    x = data.batch(slice(0, count)).to(device)
    pair = BernoulliVAE(data.image_shape, seed=seed).to(device)
    samples = 200 if smoke else SAMPLES

    def all_samples() -> float:
        log_evidence(pair, x, num_samples=samples, seed=seed)
        return count * samples

    def some_samples() -> float:
        return weights_one_by_one(pair, x[:BATCH], 10 if smoke else 200)

    rows.append({"measured": f"evidence, {dataset}", **compared(some_samples, all_samples, runs)})
    table = pd.DataFrame(rows)
    table.to_csv(out / "measuring.csv", index=False, float_format="%.3g")
    print(table.to_string(index=False))
    draw(table, out / "measuring.png")
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 2**20
    print(f"{torch.get_num_threads()} threads; peak memory of the process {peak:.2f} GiB")


def subject(name: str, data_dir: Path | None, device: str, seed: int) -> tuple[Pair, Tensor]:
    """Return a pair and the examples of which it gives gradients."""
    if name == "toy":
        pair = ExponentialNormal().to(device)
        return pair, pair.sample(5, seed=seed)
    data = load(name, split="test", data_dir=data_dir)
    torch.manual_seed(seed)
    x = data.batch(slice(0, EXAMPLES)).to(device)
    return BernoulliVAE(data.image_shape, seed=seed).to(device), x


def add_up(pair: Pair, x: Tensor, estimator: str, count: int) -> float:
    """Add up gradients and their squares; return how many."""
    elbo: Any = ESTIMATORS[estimator].make()
    parameters = list(pair.parameters())
    sums = [torch.zeros_like(p) for p in parameters]
    squares = [torch.zeros_like(p) for p in parameters]
    for _ in range(count):
        pair.zero_grad(set_to_none=True)
        elbo.loss_and_grads(pair.model, pair.guide, x)
        for p, total, square in zip(parameters, sums, squares, strict=True):
            assert p.grad is not None
            total += p.grad
            square += p.grad**2
    return count


@torch.no_grad()
def weights_one_by_one(pair: Pair, x: Tensor, samples: int) -> float:
    """Weigh samples of every example; return how many."""
    found = []
    for _ in range(samples):
        guide = poutine.trace(pair.guide).get_trace(x)
        model = poutine.trace(poutine.replay(pair.model, trace=guide)).get_trace(x)
        for trace in (guide, model):
            trace.compute_log_prob()
        found.append(log_joint(model) - log_joint(guide))
    torch.stack(found).logsumexp(0)
    return samples * len(x)


def log_joint(trace: Any) -> Tensor:  # noqa: ANN401
    """Return the log density of all sites for every example."""
    sites = [node for node in trace.nodes.values() if node["type"] == "sample"]
    return sum(s["log_prob"] for s in sites if "log_prob" in s and s["log_prob"].dim() == 1)  # pyright: ignore


def compared(loop: Callable[[], float], ours: Callable[[], float], runs: int) -> dict[str, float]:
    """Return how many a second, and the ratios."""
    ours()
    rates: dict[str, list[float]] = {"loop": [], "loop, not validated": [], "ours": []}
    for _ in range(runs):
        rates["loop"].append(rate(loop))
        with pyro.validation_enabled(False):  # noqa: FBT003
            rates["loop, not validated"].append(rate(loop))
        rates["ours"].append(rate(ours))
    middle = {f"{way}, a second": float(pd.Series(r).median()) for way, r in rates.items()}
    first, second, mine = middle.values()
    return {**middle, "ratio": mine / first, "not validated": mine / second}


def draw(table: pd.DataFrame, path: Path) -> None:
    """Draw how many times as many a second there are."""
    _, axes = plots.subplots(size=(4.5, 2.4))
    ax = axes[0, 0]
    ax.barh(table.measured, table.ratio, color=plots.ORANGE)
    ax.axvline(1, color=plots.GREY, linestyle="--")
    ax.set(xscale="log", xlabel="times Pyro's loop (dashed: 1)")
    ax.invert_yaxis()
    plots.save(ax, path)


def rate(run: Callable[[], float]) -> float:
    """Return how many a second."""
    began = time.perf_counter()
    count = run()
    if torch.cuda.is_available():
        torch.cuda.synchronize()
    return count / (time.perf_counter() - began)


if __name__ == "__main__":
    typer.run(main)
