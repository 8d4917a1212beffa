"""The expected gradient of an objective against the right one, by parameter group."""

from __future__ import annotations

import math
from dataclasses import dataclass, field

import torch
from torch import Tensor

from ppl_vae.batch import Data
from ppl_vae.diagnostics.check.formulas import terms
from ppl_vae.diagnostics.check.gradients.directions import Directions
from ppl_vae.diagnostics.check.gradients.term_weights import NAMES, regressed
from ppl_vae.diagnostics.check.objective import (
    LAYOUTS,
    Recorder,
    arrange,
    fresh_noise,
    start_streams,
)
from ppl_vae.diagnostics.check.replicates import SequentialTest
from ppl_vae.diagnostics.check.settings import Setting
from ppl_vae.diagnostics.check.statistics import NOISE, Z_LIMIT
from ppl_vae.diagnostics.check.verdict import GroupGradient
from ppl_vae.seeding import derive

PER_BLOCK, PARTICLES = 2, 4
# The factor on the particles where draws have scores, whose gradients are noisier.
SCORED = 8
NUM_COORDINATES = 2048
# The weight from which noise without an expectation counts as entering.
ENTERS = 0.02
# Blocks are added until no z-score is between that of a group that may be wrong and that of one
# that is, and the standard errors of its weights are as small as the last.
DOUBTFUL, CLEARLY, KNOWN = 3.0, 8.0, 0.1
# What rounding may leave of the whole gradient, in units of what it may leave of the value, as a
# gradient is rounded layer by layer, there and back.
ROUNDINGS = 4.0


@dataclass
class _Rows:
    """One group's numbers at one setting, a row for each block."""

    directions: Directions
    coordinates: Tensor
    sampled: list[Tensor] = field(default_factory=list)
    # Norms of the two gradients by each parameter, (parameters, 2).
    lengths: list[Tensor] = field(default_factory=list)
    finite: list[Tensor] = field(default_factory=list)


class GradientComparison:
    """Collects blocks of gradients at a few settings.

    Args:
        rounds: of replicates of the value, at the settings to choose from, the pair's own first.
        weights: with which coefficients the terms enter the objective's value.

    Attributes:
        num_blocks: so far, at each setting.
    """

    def __init__(self, rounds: SequentialTest, weights: dict[str, float]) -> None:
        self._task, self._layout = rounds.task, rounds.collector.layout
        self._rounding = ROUNDINGS * rounds.collector.seen.tolerance
        nearest = rounds.nearest
        noise = {name: nearest[name] for name in nearest.names if name.startswith(NOISE)}
        # The gradient of what enters without an expectation is taken off, draw by draw.
        self._noise_weights = {n: weight for n, weight in noise.items() if abs(weight) > ENTERS}
        self._weights = torch.tensor([weights[name] for name in NAMES], dtype=torch.float64)
        self._groups = self._task.pair.parameter_groups()
        self._members = [p for members in self._groups.values() for p in members.values()]
        self._visited = _few([sample.setting for sample in rounds.table.samples])
        self._rows: list[dict[str, _Rows]] = [{} for _ in self._visited]
        self.num_blocks = 0

    def more(self, blocks: int, *, in_doubt: bool = False) -> None:
        """Add blocks at every setting, or (`in_doubt`) where a group may be wrong by a little.

        The terms' gradients are taken one by one at first, and where a group is wrong.
        """
        apart = not in_doubt and (self.num_blocks == 0 or not self._are_weights_known(Z_LIMIT))
        for number, setting in enumerate(self._visited):
            rows = self._rows[number]
            if in_doubt and not any(_is_doubtful(row.directions) for row in rows.values()):
                continue
            stream = derive(self._task.seed, "gradient", number, self.num_blocks)
            start_streams(stream, self._task.pair.device)
            with self._task.settings.at(setting) as x:
                if self.num_blocks == 0:
                    self._aim(rows, self._block(x)[1])
                for _ in range(blocks):
                    own, right = self._block(x)
                    if apart:
                        self._add(rows, own, right)
                    else:
                        expected = sum(
                            w * term.mean() for w, term in zip(self._weights, right, strict=True)
                        )
                        self._compare(rows, self._slopes(own - expected))
        self.num_blocks += blocks

    def is_clear(self) -> bool:
        """Return whether a few percent in a term's gradient would show, or a mistake is known."""
        if any(group.z_score > CLEARLY for group in self.result().values()):
            return self._are_weights_known(CLEARLY)
        known = all(row.directions.is_clear() for rows in self._rows for row in rows.values())
        return known and not self.is_doubtful()

    def _are_weights_known(self, limit: float) -> bool:
        """Return whether the weights of groups beyond a z-score are known."""
        wrong = [group for group in self.result().values() if group.z_score > limit]
        errors = [w.standard_error for group in wrong for w in group.weights.values()]
        return all(error < KNOWN for error in errors)

    def is_doubtful(self) -> bool:
        """Return whether a group may be wrong by a little."""
        return any(map(_is_doubtful, self.result().values()))

    def result(self) -> dict[str, GroupGradient]:
        """Return what the blocks so far say, by group."""
        return {group: self._group(group) for group in self._groups}

    def _group(self, group: str) -> GroupGradient:
        rows = [by_group[group] for by_group in self._rows]
        table = torch.cat([torch.stack(row.sampled) for row in rows], -1).cpu()
        ratio, weights = regressed(table, self._weights)
        lengths = torch.stack([length for row in rows for length in row.lengths]).sum(0).tolist()
        named = zip(self._groups[group], lengths, strict=True)
        missing = tuple(name for name, (own, right) in named if own == 0 and right > 0)
        is_part = 0 < len(missing) < len(self._groups[group])
        is_finite = bool(torch.stack([each for row in rows for each in row.finite]).all())
        worst = max(row.directions.z_score for row in rows) if is_finite else math.inf
        return GroupGradient(group, ratio, weights, worst, missing, is_part, is_finite)

    def _block(self, x: Data) -> tuple[Tensor, tuple[Tensor, ...]]:
        """Return the objective's mean over some draws, and the three terms."""
        truth, latents = self._task.truth, self._task.truth.latents
        values: list[Tensor] = []
        noises: list[dict[str, Tensor]] = []
        for _ in range(PER_BLOCK):
            if self._layout is None or latents is None:
                values.append(self._task.objective(x))
                continue
            with Recorder() as recorder:
                values.append(self._task.objective(x))
            batch = truth.batch_size(x)
            noise = arrange(recorder.draws, latents, batch, LAYOUTS[self._layout])
            noises.append(noise or fresh_noise(latents, 1, batch, x))
        if noises:
            joined = {name: torch.cat([noise[name] for noise in noises]) for name in noises[0]}
            right = truth.run(x, noise=joined)
        else:
            factor = SCORED if truth.has_scores else 1
            right = truth.run(x, num_particles=factor * PARTICLES * PER_BLOCK)
        own = torch.stack(values).mean()
        if self._noise_weights:
            columns = terms(right, with_ratios=True)
            own = own - sum(c * columns[n].mean() for n, c in self._noise_weights.items())
        return own, right.three_with_scores()

    def _slopes(self, output: Tensor) -> dict[str, Tensor]:
        """Return the gradient of a number, flat by group; zeros where it does not reach."""
        slopes: list[Tensor | None] = [None] * len(self._members)
        if output.requires_grad:
            slopes = list(
                torch.autograd.grad(output, self._members, retain_graph=True, allow_unused=True)
            )
        filled = iter(
            (torch.zeros_like(p) if s is None else s.detach()).flatten()
            for p, s in zip(self._members, slopes, strict=True)
        )
        return {
            group: torch.cat([next(filled) for _ in members]).double()
            for group, members in self._groups.items()
        }

    def _term_slopes(self, right: tuple[Tensor, ...]) -> dict[str, Tensor]:
        """Return the gradients of the terms by group, (terms, size)."""
        slopes = [self._slopes(term.mean()) for term in right]
        return {group: torch.stack([each[group] for each in slopes]) for group in self._groups}

    def _aim(self, rows: dict[str, _Rows], right: tuple[Tensor, ...]) -> None:
        """Choose the directions along which gradients are compared, from a block of their own."""
        for group, slopes in self._term_slopes(right).items():
            directions = Directions(slopes, self._weights.to(slopes), self._rounding)
            chosen = torch.randperm(slopes.shape[1], device=slopes.device)[:NUM_COORDINATES]
            rows[group] = _Rows(directions, chosen)

    def _add(self, rows: dict[str, _Rows], own: Tensor, right: tuple[Tensor, ...]) -> None:
        differences, own_slopes = {}, self._slopes(own)
        for group, slopes in self._term_slopes(right).items():
            row = rows[group]
            expected = self._weights.to(slopes) @ slopes
            differences[group] = own_slopes[group] - expected
            finite = own_slopes[group].nan_to_num(0.0, 0.0, 0.0)
            row.sampled.append(torch.cat([finite[None], slopes])[:, row.coordinates])
            sizes = [p.numel() for p in self._groups[group].values()]
            parts = zip(finite.split(sizes), expected.split(sizes), strict=True)
            lengths = [torch.stack([a.norm(), b.norm()]) for a, b in parts]
            row.lengths.append(torch.stack(lengths).cpu())
        self._compare(rows, differences)

    def _compare(self, rows: dict[str, _Rows], differences: dict[str, Tensor]) -> None:
        for group, difference in differences.items():
            rows[group].finite.append(difference.isfinite().all())
            rows[group].directions.add(difference.nan_to_num(0.0, 0.0, 0.0))


def _is_doubtful(group: Directions | GroupGradient) -> bool:
    return DOUBTFUL < group.z_score < CLEARLY


def _few(settings: list[Setting]) -> list[Setting]:
    """Return the parameters as they are and two states with nothing scaled down."""
    others = [s for s in settings[2:] if all(gain == 1.0 for gain in s.gains.values())]
    return [settings[0], *(others or settings[2:])[:2]]
