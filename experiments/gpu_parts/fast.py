"""How long a step takes on the device, beside what it cannot be faster than."""

from __future__ import annotations

import os
import warnings
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import replace
from functools import partial
from pathlib import Path

import torch
from speed_systems import by_hand
from speed_systems.systems import SYSTEMS, Data, System
from speed_systems.timing import OURS, OURS_BF16, clock, products_per_second, timed
from speed_systems.ways import ways_of

from gpu_parts.images import random_images
from gpu_parts.records import Case, Found, Records
from ppl_vae import plots

HAND_BF16, COMPILED_BF16 = "PyTorch, bf16", "torch.compile, bf16"
NUM_IMAGES = 60_000
PRECISIONS = {"float32": "highest", "TF32": "high"}


def systems() -> list[System]:
    """Return what is timed, the most telling first."""
    toy, bernoulli, conv = (SYSTEMS[name] for name in ("toy", "bernoulli, z 2", "conv gaussian"))
    sizes = {n: replace(bernoulli, name=f"bernoulli, batch {n}", batch_size=n) for n in _SIZES}
    return [sizes[100], toy, conv, sizes[10_000], sizes[1000]]


_SIZES = (100, 1000, 10_000)


def run(records: Records, device: torch.device, *, smoke: bool, seed: int, out: Path) -> None:
    """Time what has no row yet, and draw what there is."""
    # NumPyro would take most of the card's memory at its first step.
    os.environ.setdefault("XLA_PYTHON_CLIENT_PREALLOCATE", "false")
    launch = _launch(device)
    chosen = [s for s in systems() if s.name == "toy"] if smoke else systems()
    try:
        records.do(_cases(records, chosen, device, launch, seed, smoke=smoke), device)
    finally:
        _draw(records.rows(), out / "fast.png")


def _cases(
    records: Records,
    chosen: list[System],
    device: torch.device,
    launch: float,
    seed: int,
    *,
    smoke: bool,
) -> Iterator[Case]:
    for precision in PRECISIONS if device.type == "cuda" else ("float32",):
        for system in chosen:
            case = f"{system.name}, {precision}"
            time_it = partial(_time, case, system, precision, device, launch, seed)
            yield case, partial(time_it, records, smoke=smoke)


def _time(
    case: str,
    system: System,
    precision: str,
    device: torch.device,
    launch: float,
    seed: int,
    records: Records,
    *,
    smoke: bool,
) -> Found:
    """Time every way, in turn; keep a row of each; return how ours compares."""
    data, name = _data(system, device, 200 if smoke else NUM_IMAGES), str(device)
    backend = "eager" if smoke else "inductor"
    mode = "reduce-overhead" if device.type == "cuda" else None
    with _products(precision):
        ways, gaps = ways_of(
            system, data, name, backend, seed, mode=mode, rounded=precision != "float32"
        )
        if OURS_BF16 in ways:
            for way, compiled in ((HAND_BF16, False), (COMPILED_BF16, True)):
                ways[way] = by_hand.steps(
                    system, data, name, compile=compiled, mode=mode, bf16=True
                )
                gaps[way] = float("nan")  # the same formula as without
        peak = products_per_second(name, 8192 if device.type == "cuda" else 256)
        seconds, runs = (0.01, 2) if smoke else (0.3, 5)
        rows = timed(system, data, ways, gaps, seconds, runs, peak, name)
        for row in rows:
            way = str(row["way"])
            held = {"launch floor, ms": launch, "peak MB": _peak(ways[way], device)}
            records.add(f"{case}: {way}", precision=precision, **row, **held)
    return _summary(rows, launch)


def _summary(rows: list[dict[str, object]], launch: float) -> Found:
    """Compare ours with the fastest other way of the same precision."""
    times = {str(row["way"]): float(str(row["ms a step"])) for row in rows}
    full = {way: t for way, t in times.items() if "bf16" not in way}
    fastest = min(full, key=lambda way: full[way])
    return {
        "ms a step": times[OURS],
        "fastest": fastest,
        "launch floor, ms": launch,
        "share of launch floor": launch / times[OURS],
    }


def _data(system: System, device: torch.device, count: int) -> Data:
    """Return random images, or the toy's numbers."""
    if system.binarize is None:
        return system.data(str(device), None)
    options = {"pixel_range": (-1.0, 1.0)} if system.binarize == "none" else {}
    made = random_images(count, binarize=system.binarize, **options).to(device)
    return Data(made.images, made)


def _launch(device: torch.device) -> float:
    """Return what one launch takes in ms: the replay of a CUDA graph without kernels."""
    if device.type != "cuda":
        return float("nan")
    graph = torch.cuda.CUDAGraph()
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # that it is empty
        with torch.cuda.graph(graph):
            pass
    count = 1000
    times = [clock(lambda n: [graph.replay() for _ in range(n)], count) for _ in range(5)]
    return 1e3 * min(times) / count


def _peak(take: Callable[[int], object], device: torch.device) -> float:
    """Return the most memory that torch holds in a few steps, in MB; JAX's is not seen."""
    if device.type != "cuda":
        return float("nan")
    torch.cuda.reset_peak_memory_stats(device)
    take(4)
    torch.cuda.synchronize(device)
    return torch.cuda.max_memory_allocated(device) / 1e6


@contextmanager
def _products(precision: str) -> Iterator[None]:
    """Multiply matrices in this precision, in torch and in JAX."""
    old, convolutions = torch.get_float32_matmul_precision(), torch.backends.cudnn.allow_tf32
    torch.set_float32_matmul_precision(PRECISIONS[precision])
    torch.backends.cudnn.allow_tf32 = precision == "TF32"
    with suppress(ImportError):
        import jax

        same = {"float32": "highest", "TF32": "tensorfloat32"}[precision]
        jax.config.update("jax_default_matmul_precision", same)
    try:
        yield
    finally:
        torch.set_float32_matmul_precision(old)
        torch.backends.cudnn.allow_tf32 = convolutions


def _draw(rows: list[Found], path: Path) -> None:
    """Draw the time of a step for each system and precision, and the launch floor."""
    timed_rows = [row for row in rows if row.get("way")]
    names = list(dict.fromkeys((row["system"], row["precision"]) for row in timed_rows))
    if not names:
        return
    columns = min(len(names), 5)
    _, axes = plots.subplots(-(-len(names) // columns), columns, size=(3.2, 2.4))
    for ax in axes.flat[len(names) :]:
        ax.set_axis_off()
    for ax, (system, precision) in zip(axes.flat, names, strict=False):
        here = [r for r in timed_rows if (r["system"], r["precision"]) == (system, precision)]
        times = [float(str(row["ms a step"])) for row in here]
        ways = [str(row["way"]) for row in here]
        colours = [plots.ORANGE if way.startswith(OURS) else plots.BLUE for way in ways]
        ax.barh(ways, times, color=colours)
        floor = float(str(here[0]["launch floor, ms"]))
        if floor > 0:
            ax.axvline(floor, color=plots.GREY, linestyle="--")
        scale = "log" if max(times) > 10 * min(times) else "linear"
        ax.set(title=f"{system}, {precision}", xlabel="ms a step", xscale=scale)
        ax.invert_yaxis()
    plots.save(axes[0, 0], path)
