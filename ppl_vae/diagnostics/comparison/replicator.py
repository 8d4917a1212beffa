"""Independent replicates of an estimator's value and gradient."""

from __future__ import annotations

import time
from typing import Any

import pyro
import torch
from pyro.infer import ELBO
from torch import Tensor

from ppl_vae import devices
from ppl_vae.batch import Data
from ppl_vae.diagnostics.comparison.gradient_graph import GradientGraph
from ppl_vae.diagnostics.comparison.gradient_rows import Dense, Rows
from ppl_vae.diagnostics.comparison.replicates import (
    OVERALL,
    Replicates,
    directions,
    gradient_of,
    num_blocks,
    split_like,
)
from ppl_vae.diagnostics.memory import peak_bytes
from ppl_vae.inference.compilation.tracing.constants import UntraceableError
from ppl_vae.inference.steps.deferred import deferred
from ppl_vae.pair import Pair
from ppl_vae.seeding import derive, reseed, seeded

WORTH_TRACING = 500
TIMED = 50
BLOCK_BYTES = 64 * 2**20


class Replicator:
    """Estimates value and gradient of the ELBO at `x` again and again, block by block.

    Replicate i starts from the same random stream for every estimator, so that estimators which
    draw alike see the same noise. Many replicates are worth a traced graph of the estimator, in
    which the noise of many is passed through at once; few, and estimators that cannot be traced,
    are run one by one, on the same noise. Only sums over a block's gradients are kept.

    Args:
        pair: model and guide; its parameters' ``grad`` is overwritten.
        elbo: the estimator.
        x: the data.
        seed: of all the noise.
        traced: whether to try a graph.
    """

    def __init__(self, pair: Pair, elbo: ELBO, x: Data, *, seed: int, traced: bool) -> None:
        self._pair, self._x = pair, x
        # Pyro's ELBO does not declare loss_and_grads, though each of its classes has it.
        self._elbo: Any = deferred(elbo)
        self._groups = {g: list(named.values()) for g, named in pair.parameter_groups().items()}
        self._directions = {
            g: split_like(d, self._groups[g]) for g, d in directions(pair, seed).items()
        }
        self._values: list[Tensor] = []
        self._components: list[Tensor] = []
        self._variances: dict[str, list[Tensor]] = {group: [] for group in self._groups}
        self._totals = {
            g: [torch.zeros_like(d, dtype=torch.float64) for d in each]
            for g, each in self._directions.items()
        }
        self._seconds: list[float] = []
        with seeded(seed, pair.device), pyro.validation_enabled(False):  # noqa: FBT003
            self._gradient()
            self._peak_bytes = peak_bytes(self._gradient)
            self._graph = self._traced() if traced else None

    def time(self) -> None:
        """Time one gradient."""
        device = self._pair.device
        with seeded(0, device), pyro.validation_enabled(False):  # noqa: FBT003
            devices.synchronize(device)
            began = time.perf_counter()
            self._gradient()
            devices.synchronize(device)
            self._seconds.append(time.perf_counter() - began)

    def run(self, seeds: Tensor) -> None:
        """Add values and gradients, one for each seed, cut into blocks."""
        blocks = seeds.tensor_split(num_blocks(len(seeds)))
        fitting = BLOCK_BYTES // max(1, self._gradient_bytes())
        if self._graph is not None:
            fitting = min(fitting, self._graph.at_once)
        at_once = max(1, fitting // len(blocks[0]))
        for start in range(0, len(blocks), at_once):
            some = blocks[start : start + at_once]
            losses, rows = self._replicates(torch.cat(some).tolist())
            self._values.append(-losses.double())
            sizes = [len(block) for block in some]
            along = []
            for group, members in self._groups.items():
                mine, rows = rows[: len(members)], rows[len(members) :]
                along.append(self._add(group, mine, sizes))
            self._components.append(torch.stack(along, dim=-1))

    def _add(self, group: str, rows: list[Rows], sizes: list[int]) -> Tensor:
        """Add gradients of a group's parameters; return their components along its direction."""
        along = torch.zeros((), device=self._pair.device)
        variances = []
        for each, direction, total in zip(
            rows, self._directions[group], self._totals[group], strict=True
        ):
            along = along - each.along(direction)
            moments = [block.moments() for block in each.split(sizes)]
            for found, _ in moments:
                total += found
            variances.append(torch.stack([variance for _, variance in moments]))
        self._variances[group] += torch.stack(variances).sum(0).unbind()
        return along

    def _replicates(self, seeds: list[int]) -> tuple[Tensor, list[Rows]]:
        """Return losses, (seeds,), and every parameter's gradients."""
        device = self._pair.device
        with seeded(0, device), pyro.validation_enabled(False):  # noqa: FBT003
            if self._graph is not None:
                return self._graph(seeds)
            rows = []
            for number in seeds:
                reseed(number, device)
                rows.append(self._gradient())
        losses, *gradients = (torch.stack(column) for column in zip(*rows, strict=True))
        return losses, [Dense(each) for each in gradients]

    def _traced(self) -> GradientGraph | None:
        parameters = [p for members in self._groups.values() for p in members]
        try:
            return GradientGraph(self._gradient, parameters, self._peak_bytes, self._pair.device)
        except (UntraceableError, RuntimeError):
            return None

    def _gradient_bytes(self) -> int:
        return sum(d.nbytes for each in self._directions.values() for d in each)

    def result(self) -> Replicates:
        """Return what the replicates so far add up to."""
        values = torch.cat(self._values).cpu()
        count = len(values)
        variances = {g: torch.stack(v).double().cpu() for g, v in self._variances.items()}
        squares = {
            g: sum(float((total / count).square().sum()) for total in totals)
            - float(variances[g].mean()) / count
            for g, totals in self._totals.items()
        }
        levels = torch.tensor([0.25, 0.5, 0.75], dtype=torch.float64)
        spread = torch.tensor(self._seconds, dtype=torch.float64).quantile(levels)
        lower, median, upper = (1e3 * spread).tolist()
        variances[OVERALL] = torch.stack(list(variances.values())).sum(0)
        squares[OVERALL] = sum(squares.values())
        return Replicates(
            values=values,
            components=torch.cat(self._components).double().cpu(),
            block_variances=variances,
            squared_means=squares,
            milliseconds=median,
            quartiles=(lower, upper),
            peak_bytes=self._peak_bytes,
        )

    def _gradient(self) -> list[Tensor]:
        """Return the loss and every parameter's gradient."""
        pair = self._pair
        for parameter in pair.parameters():
            parameter.grad = None
        with torch.enable_grad():
            loss = self._elbo.loss_and_grads(pair.model, pair.guide, self._x)
        members = (p for group in self._groups.values() for p in group)
        return [torch.as_tensor(loss).detach(), *map(gradient_of, members)]


def replicate(
    pair: Pair, estimators: dict[str, ELBO], x: Data, *, num_replicates: int, seed: int
) -> dict[str, Replicates]:
    """Return `num_replicates` values and gradients of every estimator.

    One gradient at a time is timed, the estimators in turn, so that a machine whose speed drifts
    slows them alike.
    """
    traced = num_replicates >= WORTH_TRACING
    running = {
        name: Replicator(pair, elbo, x, seed=seed, traced=traced)
        for name, elbo in estimators.items()
    }
    for _ in range(min(num_replicates, TIMED)):
        for replicator in running.values():
            replicator.time()
    numbers = torch.Generator().manual_seed(derive(seed, "replicates"))
    seeds = torch.randint(2**62, (num_replicates,), generator=numbers)
    for replicator in running.values():
        replicator.run(seeds)
    return {name: replicator.result() for name, replicator in running.items()}


def exact_components(pair: Pair, x: Data, seed: int) -> Tensor:
    """Return the exact gradient's components along `directions`, (groups,)."""
    groups, along = pair.parameter_groups(), directions(pair, seed)
    members = [p for named in groups.values() for p in named.values()]
    elbo = pair.exact.elbo(x).sum()
    slopes = iter(torch.autograd.grad(elbo, members, materialize_grads=True))
    components = [
        torch.cat([next(slopes).flatten() for _ in named]) @ along[group]
        for group, named in groups.items()
    ]
    return torch.stack(components).double().cpu()
