"""What several processes gain: steps a second, the all-reduce, and on paper 8 to 1,024 GPUs.

    python experiments/many_processes.py

Measured: the time of a step of `fit` in one process and in two with one thread each, of the same
batch divided (strong) and of a batch for each (weak), turn and turn about, by the clock and by the
processor's time in the first process, which other work on the machine changes less; bytes and time
of the all-reduce that a step makes; how far parameters are apart after 100 steps. On paper: the
time of a step on N GPUs from stated speeds, without overlap of computation and communication.
"""

from __future__ import annotations

import functools
import itertools
import multiprocessing
import os
import socket
import statistics
import sys
import time
import warnings
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Annotated, Any

import numpy as np
import pandas as pd
import torch
import torch.distributed as dist
import typer
from many_processes_parts.on_paper import GPUS, MODELS, draw, on_paper

from ppl_vae import BernoulliVAE, fit, load

# name: image shape, hidden sizes, latent dimensions, batch
SYSTEMS = {
    "digits": ((1, 8, 8), (64,), 2, 128),
    "images": ((1, 28, 28), (400, 400), 20, 256),
}
SIZES = [10**3, 10**4, 10**5, 10**6, 10**7]  # numbers in an all-reduce


def main(
    seed: Annotated[int, typer.Option(help="Of everything random.")] = 0,
    device: Annotated[str, typer.Option(help="cpu: two processes have no two GPUs here.")] = "cpu",
    out: Annotated[Path, typer.Option(help="Folder for tables.")] = Path("out/many_processes"),
    rounds: Annotated[int, typer.Option(help="Runs of each, turn and turn about.")] = 3,
    data: Annotated[str, typer.Option(help="On whose images runs are compared.")] = "digits",
    data_dir: Annotated[Path | None, typer.Option(help="Folder of downloaded data.")] = None,
    *,
    smoke: Annotated[bool, typer.Option("--smoke", help="Seconds, one small system.")] = False,
) -> None:
    """Measure one and two processes, then work out what many would do."""
    out.mkdir(parents=True, exist_ok=True)
    torch.set_num_threads(1)
    names = ["digits"] if smoke else list(SYSTEMS)
    rounds = 1 if smoke else rounds
    found: dict[tuple[str, str], list[list[float]]] = {}
    for _ in range(rounds):
        for name in names:
            ways = {"one": (1, 1), "strong": (2, 1), "weak": (2, 2)}
            for way, (processes, times) in ways.items():
                got = in_processes(processes, train, name, times, seed, device, 2 if smoke else 4)
                found.setdefault((name, way), []).append(got)
    table = pd.DataFrame([row(name, way, found) for name, way in found])
    table.to_csv(out / "scaling.csv", index=False)
    print(table.to_string(index=False))
    reduced = pd.DataFrame(in_processes(2, all_reduces, SIZES[: 2 if smoke else None]))
    reduced.to_csv(out / "all_reduce.csv", index=False)
    print(reduced.to_string(index=False))
    alike = pd.DataFrame(differences(data, data_dir, seed, device, smoke=smoke))
    alike.to_csv(out / "agreement.csv", index=False)
    print(alike.to_string(index=False))
    paper = pd.DataFrame([on_paper(name, gpus) for name in MODELS for gpus in GPUS])
    paper.to_csv(out / "on_paper.csv", index=False)
    print(paper.to_string(index=False))
    draw(paper, out)


def in_processes(size: int, work: Callable[..., Any], *args: object) -> Any:  # noqa: ANN401
    """Return what `work` gives in the first of `size` processes that share a group."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    # A fork has its modules already.
    context: Any = multiprocessing.get_context("fork" if sys.platform == "linux" else "spawn")
    queue = context.Queue()
    started = []
    for rank in range(size):
        process = context.Process(target=member, args=(rank, size, port, queue, work, args))
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", DeprecationWarning)  # of a fork among threads
            process.start()
        started.append(process)
    result = queue.get(timeout=1200)
    for process in started:
        process.join()
    return result


def member(
    rank: int,
    size: int,
    port: int,
    queue: Any,  # noqa: ANN401
    work: Callable[..., Any],
    args: tuple[object, ...],
) -> None:
    """Be one of the processes that torchrun would start."""
    torch.set_num_threads(1)
    if size > 1:
        names = {"RANK": rank, "LOCAL_RANK": rank, "WORLD_SIZE": size, "MASTER_PORT": port}
        os.environ.update({name: str(value) for name, value in names.items()})
        os.environ["MASTER_ADDR"] = "127.0.0.1"
    result = work(*args)
    if rank == 0:
        queue.put(result)


class Timed(torch.optim.Adam):
    """Notes when its steps are taken, by the clock and by the processor's time."""

    def __init__(self, parameters: Iterable[torch.Tensor]) -> None:
        super().__init__(parameters, lr=1e-3)
        self.taken: list[tuple[float, float]] = []

    def step(self, closure: Any = None) -> Any:  # noqa: ANN401
        """Note the times, then step."""
        self.taken.append((time.perf_counter(), time.process_time()))
        return super().step(closure)

    def milliseconds(self) -> list[float]:
        """Return the median time between two steps, by both."""
        pairs = list(itertools.pairwise(self.taken))
        return [1e3 * statistics.median(b[i] - a[i] for a, b in pairs) for i in (0, 1)]


def train(name: str, times: int, seed: int, device: str, epochs: int) -> list[float]:
    """Return the milliseconds of a step, by the clock and by the processor's time."""
    shape, hidden, latent_dim, batch = SYSTEMS[name]
    if name == "digits":
        x = load("digits", binarize="static").batch(slice(None), dtype=torch.float32)
    else:
        x = torch.rand(12 * batch, *shape, generator=torch.Generator().manual_seed(seed)).round()
    pair = BernoulliVAE(shape, latent_dim=latent_dim, hidden=hidden, seed=seed)
    optimizer = Timed(pair.parameters())
    fit(
        pair,
        x,
        elbo="trace-mean-field",
        optimizer=optimizer,
        num_epochs=epochs,
        batch_size=batch * times,
        device=device,
        compile=False,
        seed=seed,
        progress=False,
    )
    return optimizer.milliseconds()


def differences(
    data: str, data_dir: Path | None, seed: int, device: str, *, smoke: bool
) -> list[dict[str, object]]:
    """Return how far float32 parameters are from those of one process after 100 steps.

    Beside it stands one process whose first parameters were rounded once more.
    """
    num_steps, rows = 10 if smoke else 100, []
    x = load(data, data_dir=data_dir, binarize="static").batch(slice(None), dtype=torch.float32)
    x = x[: 100 * num_steps]
    for name in ("Adam", "SGD"):
        one = in_processes(1, parameters_after, x, name, num_steps, seed, device, 0.0)
        ways = {"2 processes": (2, 0.0), "4 processes": (4, 0.0), "1 process, rounded": (1, 6e-8)}
        for way, (processes, rounded) in ways.items():
            args = (x, name, num_steps, seed, device, rounded)
            off = np.abs(np.subtract(in_processes(processes, parameters_after, *args), one))
            row = {
                "largest": f"{off.max():.1e}",
                "over 1e-5": round(float((off > 1e-5).mean()), 2),
            }
            rows.append({"optimiser": name, "way": way, **row})
    return rows


def parameters_after(
    x: torch.Tensor, optimizer: str, num_steps: int, seed: int, device: str, rounded: float
) -> Any:  # noqa: ANN401
    """Return a pair's parameters after so many steps, its first ones changed by this share."""
    pair = BernoulliVAE(tuple(x.shape[1:]), latent_dim=20, hidden=(400, 400), seed=seed)
    stream = torch.Generator().manual_seed(seed)
    with torch.no_grad():
        for parameter in pair.parameters():
            signs = torch.randint(-1, 2, parameter.shape, generator=stream)
            parameter.mul_(1 + rounded * signs)
    rate = {"Adam": 1e-3, "SGD": 1e-4}[optimizer]
    fit(
        pair,
        x,
        elbo="trace-mean-field",
        optimizer=functools.partial(getattr(torch.optim, optimizer), lr=rate),
        num_epochs=-(-100 * num_steps // len(x)),
        batch_size=100,
        device=device,
        compile=False,
        seed=seed,
        progress=False,
    )
    return torch.cat([p.detach().flatten() for p in pair.parameters()]).cpu().numpy()


def row(name: str, way: str, found: dict[tuple[str, str], list[Any]]) -> dict[str, object]:
    """Return a line of the table: each run beside that of one process in the same round."""
    times = 2 if way == "weak" else 1
    mine, one = found[name, way], found[name, "one"]
    gains = [
        statistics.median(times * b[i] / a[i] for a, b in zip(mine, one, strict=True))
        for i in (0, 1)
    ]
    shape, hidden, latent_dim, batch = SYSTEMS[name]
    pair = BernoulliVAE(shape, latent_dim=latent_dim, hidden=hidden)
    numbers = sum(p.numel() for p in pair.parameters()) + 2  # the loss, and whether to stop
    return {
        "system": name,
        "way": way,
        "processes": 1 if way == "one" else 2,
        "batch": batch * times,
        "ms a step": round(statistics.median(each[0] for each in mine), 1),
        "of the processor": round(statistics.median(each[1] for each in mine), 1),
        "gain": round(gains[0], 2),
        "gain by processor": round(gains[1], 2),
        "bytes reduced": 0 if way == "one" else 4 * numbers,
    }


def all_reduces(sizes: list[int]) -> list[dict[str, object]]:
    """Return the milliseconds of an all-reduce by gloo, for each count of float32 numbers."""
    dist.init_process_group("gloo")
    rows = []
    for size in sizes:
        numbers, taken = torch.ones(size), []
        for _ in range(23):
            began = time.perf_counter()
            dist.all_reduce(numbers)
            taken.append(1e3 * (time.perf_counter() - began))
            numbers.fill_(1)
        rows.append({"bytes": 4 * size, "median ms": round(statistics.median(taken[3:]), 3)})
    dist.destroy_process_group()
    return rows


if __name__ == "__main__":
    typer.run(main)
