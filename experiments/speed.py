"""How fast is a training step, and does the fast one do the same?

    python experiments/speed.py --data-dir DIR

Pyro's SVI, a hand-written PyTorch loop, that loop under torch.compile, NumPyro's jitted epoch
(extra [bench]) and the compiled step, in turn on the same data with the same number of threads. A
speed is printed only if, in the same run, the compiled step gave Pyro's losses under the same
noise and the others Pyro's loss at the first parameters.
"""

from __future__ import annotations

import os
from pathlib import Path
from typing import Annotated

import pandas as pd
import torch
import typer
from speed_systems.growth import grow
from speed_systems.pictures import draw, draw_growth
from speed_systems.systems import SYSTEMS
from speed_systems.timing import products_per_second, timed
from speed_systems.ways import ways_of


def main(
    rows: Annotated[str, typer.Option(help="Part of the systems' names; all if empty.")] = "",
    seconds: Annotated[float, typer.Option(help="Length of one timed run, about.")] = 1.0,
    runs: Annotated[int, typer.Option(help="Timed runs of each way, in turn.")] = 5,
    threads: Annotated[int, typer.Option(help="Threads of every way; 0 is all cores.")] = 0,
    data_dir: Annotated[Path | None, typer.Option(help="Folder of MNIST.")] = None,
    seed: Annotated[int, typer.Option(help="Of everything random.")] = 0,
    device: Annotated[str, typer.Option(help="cpu or cuda.")] = "cpu",
    out: Annotated[Path, typer.Option(help="Folder for table and picture.")] = Path("out/speed"),
    *,
    growth: Annotated[bool, typer.Option(help="Also vary batch, latents, particles.")] = True,
    smoke: Annotated[bool, typer.Option("--smoke", help="Small, uncompiled, seconds.")] = False,
) -> None:
    """Time all steps in turn; write tables and figures."""
    out.mkdir(parents=True, exist_ok=True)
    backend, dataset = ("eager", "digits") if smoke else ("inductor", "mnist")
    if smoke:
        seconds, runs, threads = 0.02, 2, 1
    use_threads(threads)
    peak = products_per_second(device)
    print(f"{torch.get_num_threads()} threads; one large matrix product: {peak / 1e9:.0f} GFLOP/s")
    found = []
    for system in [
        s for s in SYSTEMS.values() if rows in s.name and (s.name == "toy" or not smoke)
    ]:
        data = system.data(device, data_dir)
        ways, gaps = ways_of(system, data, device, backend, seed)
        peak = max(peak, products_per_second(device))  # another process may have been busy
        found += timed(system, data, ways, gaps, seconds, runs, peak, device)
        print(
            pd.DataFrame([r for r in found if r["system"] == system.name]).to_string(index=False)
        )
        frame = pd.DataFrame(found)
        frame.to_csv(out / "speed.csv", index=False, float_format="%.4g")
        draw(frame, out / "speed.png")
    if growth:
        for table in grow(seconds, runs, device, data_dir, backend, dataset, seed, smoke=smoke):
            table.to_csv(out / "growth.csv", index=False, float_format="%.4g")
            draw_growth(table, out / "growth.png")
            print(table.tail(2).to_string(index=False))


def use_threads(threads: int) -> None:
    """Give every way the same cores; XLA counts those that the process may use."""
    cores = os.cpu_count() or 1
    threads = min(threads or cores, cores)
    if hasattr(os, "sched_setaffinity"):
        threads = min(threads, len(os.sched_getaffinity(0)))
        os.sched_setaffinity(0, sorted(os.sched_getaffinity(0))[:threads])
    torch.set_num_threads(threads)


if __name__ == "__main__":
    typer.run(main)
