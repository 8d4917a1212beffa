"""Steps by Pyro's SVI and by the compiled one, and whether they are the same steps."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pyro
import torch
from pyro.infer import SVI, Trace_ELBO, TraceMeanField_ELBO
from pyro.optim import SGD, Adam
from torch import Tensor

from ppl_vae import CompiledSVI
from speed_systems.systems import RATE, Data, System

Steps = Callable[[int], object]
LOSSES = {"trace": Trace_ELBO, "trace-mean-field": TraceMeanField_ELBO}
NUM_COMPARED = 4


def by_pyro(system: System, data: Data, device: str) -> Steps:
    """Return steps by Pyro's SVI, validation off."""
    svi = _svi(SVI, system, device)

    def take(steps: int) -> None:
        with pyro.validation_enabled(False):  # noqa: FBT003
            for _ in range(steps):
                svi.step(data.random(system.batch_size))

    return take


def by_graph(
    system: System, data: Data, device: str, backend: str, precision: str | None = None
) -> Steps:
    """Return steps by the compiled step."""
    svi = _svi(CompiledSVI, system, device, backend=backend, precision=precision)
    if data.images is None:
        return lambda steps: svi.run(data.values[0], num_steps=steps)
    return lambda steps: svi.epoch(data.images, system.batch_size, num_steps=steps)


def difference(
    system: System,
    data: Data,
    device: str,
    backend: str,
    seed: int,
    precision: str | None = None,
) -> float:
    """Return the largest relative difference of some losses from Pyro's under the same noise.

    What is timed is tried, compiled: steps of an epoch, or for the toy steps on its data; there
    the noise of several steps is drawn at once, so that the mean loss at fixed parameters is
    compared with the exact one as well. Steps on a batch that is handed over are tried as the
    traced operations, one by one.
    """
    x = data.batch(torch.arange(system.batch_size, device=device))
    toy = data.images is None
    expected = _svi(SVI, system, device)
    options = {"backend": backend if toy else "eager", "precision": precision}
    ours = _svi(CompiledSVI, system, device, **options)
    gaps = [_gap(seed, lambda svi: [svi.step(x) for _ in range(NUM_COMPARED)], expected, ours)]
    if toy:
        gaps.append(_gap_of_means(system, x, device, backend, seed))
    else:
        expected = _svi(SVI, system, device)
        ours = _svi(CompiledSVI, system, device, backend=backend, precision=precision)
        gaps.append(_gap(seed, lambda svi: _epoch(svi, system, data), expected, ours))
    if not ours.is_compiled:
        raise SystemExit(f"{system.name}: not compiled: {ours.why_eager}")
    return max(gaps)


def _svi(cls: Any, system: System, device: str, **options: str | None) -> Any:  # noqa: ANN401
    pair = system.make().to(device)
    many = system.num_particles > 1
    loss = LOSSES[system.elbo](
        num_particles=system.num_particles,
        vectorize_particles=many,
        max_plate_nesting=1 if many else float("inf"),
    )
    return cls(pair.model, pair.guide, Adam({"lr": RATE}), loss, **options)


def _gap(seed: int, losses: Callable[[Any], Any], *svis: Any) -> float:  # noqa: ANN401
    found = []
    for svi in svis:
        torch.manual_seed(seed)
        with pyro.validation_enabled(False):  # noqa: FBT003
            found.append(torch.as_tensor(losses(svi), dtype=torch.float64).cpu())
    return float(((found[1] - found[0]) / found[0]).abs().max())


def _epoch(svi: Any, system: System, data: Data) -> list[float] | Tensor:  # noqa: ANN401
    """Return losses of the first steps of an epoch, also by Pyro, which has no such call."""
    if isinstance(svi, CompiledSVI):
        return svi.epoch(data.images, system.batch_size, num_steps=NUM_COMPARED)
    order = torch.randperm(len(data.values), device=data.values.device)
    batches = order.split(system.batch_size)[:NUM_COMPARED]
    return [svi.step(data.batch(index)) for index in batches]


def _gap_of_means(system: System, x: Tensor, device: str, backend: str, seed: int) -> float:
    """Return 0 if the toy's mean loss is within 4.5 standard errors of the exact one, else 1."""
    pair: Any = system.make().to(device)
    optim = SGD({"lr": 0.0})
    svi = CompiledSVI(pair.model, pair.guide, optim, Trace_ELBO(), backend=backend)
    torch.manual_seed(seed)
    losses = svi.run(x, num_steps=2000)
    error = losses.mean() + pair.exact.elbo(x)
    return float(error.abs() > 4.5 * losses.std() / len(losses) ** 0.5)
