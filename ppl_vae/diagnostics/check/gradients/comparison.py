"""The expected gradient of an objective against the right one, by parameter group."""

from __future__ import annotations

import math
from dataclasses import dataclass, field

import torch
from torch import Tensor

from ppl_vae.diagnostics.check.formulas import terms
from ppl_vae.diagnostics.check.gradients.directions import Directions
from ppl_vae.diagnostics.check.gradients.term_weights import NAMES, regressed
from ppl_vae.diagnostics.check.objective import (
    LAYOUTS,
    Objective,
    Recorder,
    arrange,
    fresh_noise,
    start_streams,
)
from ppl_vae.diagnostics.check.settings import Setting, Settings
from ppl_vae.diagnostics.check.statistics import Z_LIMIT
from ppl_vae.diagnostics.check.truth import Terms, Truth
from ppl_vae.diagnostics.check.verdict import GroupGradient
from ppl_vae.pair import Pair
from ppl_vae.seeding import derive

PER_BLOCK, PARTICLES = 2, 4
# So many times as many where draws have scores, whose gradients are noisier.
SCORED = 8
NUM_COORDINATES = 2048
# Until when blocks are added: the z-score of a group that may be wrong and of one that is, and the
# standard errors of its weights.
DOUBTFUL, CLEARLY, TOLD = 3.0, 8.0, 0.1
# What rounding may leave of the whole gradient, in units of what it may leave of the value, as a
# gradient is rounded layer by layer, there and back.
ROUNDINGS = 4.0


@dataclass
class _Rows:
    """One group's numbers at one setting, a row for each block."""

    directions: Directions
    coordinates: Tensor
    sampled: list[Tensor] = field(default_factory=list)


class GradientComparison:
    """Collects blocks of gradients at a few settings.

    Args:
        pair: the pair, whose state `as_found` keeps.
        objective: what is checked.
        truth: the right terms.
        settings: which gives the pair's parameters and the batches.
        visited: settings of which some are visited, the pair's own first.
        weights: with which coefficients the terms enter the objective's value.
        layout: of the noise, if the objective's is that of the guide; None if not.
        noise: columns with an expectation of zero to the weight with which they enter the
            objective; the gradient of these is taken off, draw by draw.
        tolerance: what rounding may leave of the value, relative to the terms.
        seed: of all noise.
    """

    def __init__(
        self,
        pair: Pair,
        objective: Objective,
        truth: Truth,
        settings: Settings,
        *,
        weights: dict[str, float],
        visited: list[Setting],
        layout: int | None,
        noise: dict[str, float],
        tolerance: float,
        seed: int,
    ) -> None:
        self._noise_weights, self._rounding = noise, ROUNDINGS * tolerance
        self._pair, self._objective, self._truth = pair, objective, truth
        self._settings, self._layout, self._seed = settings, layout, seed
        self._weights = torch.tensor([weights[name] for name in NAMES], dtype=torch.float64)
        self._groups = {g: list(named.items()) for g, named in pair.parameter_groups().items()}
        self._members = [p for named in self._groups.values() for _, p in named]
        self._visited = _few(visited)
        self._rows: list[dict[str, _Rows]] = [{} for _ in self._visited]
        self._lengths: dict[str, list[Tensor]] = {}
        self._finite: dict[str, list[Tensor]] = {group: [] for group in self._groups}
        self.num_blocks = 0

    def more(self, blocks: int, *, in_doubt: bool = False) -> None:
        """Add so many blocks at every setting, or only where a group may be wrong, and not by far.

        The terms' gradients are taken one by one at first, and where a group is wrong.
        """
        apart = not in_doubt and (self.num_blocks == 0 or not self._is_told(Z_LIMIT))
        for number, setting in enumerate(self._visited):
            rows = self._rows[number].values()
            if in_doubt and not any(_is_doubtful(row.directions) for row in rows):
                continue
            stream = derive(self._seed, "gradient", number, self.num_blocks)
            start_streams(stream, self._pair.device)
            with self._settings.at(setting) as x:
                if self.num_blocks == 0:
                    self._aim(number, self._apart(*self._block(x))[1])
                for _ in range(blocks):
                    own, right = self._block(x)
                    if apart:
                        self._add(number, *self._apart(own, right))
                    else:
                        expected = sum(
                            w * term.mean() for w, term in zip(self._weights, right, strict=True)
                        )
                        self._compare(number, self._slopes(own - expected))
        self.num_blocks += blocks

    def is_clear(self) -> bool:
        """Return whether a few percent in a term's gradient would be seen, or where much is."""
        if any(group.z_score > CLEARLY for group in self.result().values()):
            return self._is_told(CLEARLY)
        known = all(row.directions.is_clear() for rows in self._rows for row in rows.values())
        return known and not self.is_doubtful()

    def _is_told(self, limit: float) -> bool:
        """Return whether the weights of groups beyond a z-score are known."""
        wrong = [group for group in self.result().values() if group.z_score > limit]
        errors = [w.standard_error for group in wrong for w in group.weights.values()]
        return all(error < TOLD for error in errors)

    def is_doubtful(self) -> bool:
        """Return whether a group may be wrong, and not by far."""
        return any(map(_is_doubtful, self.result().values()))

    def result(self) -> dict[str, GroupGradient]:
        """Return what the blocks so far say, by group."""
        return {group: self._group(group) for group in self._groups}

    def _group(self, group: str) -> GroupGradient:
        worst = max(rows[group].directions.z_score for rows in self._rows)
        table = torch.cat([torch.stack(rows[group].sampled) for rows in self._rows], -1).cpu()
        ratio, weights = regressed(table, self._weights)
        missing = self._missing(group)
        is_part = 0 < len(missing) < len(self._groups[group])
        is_finite = bool(torch.stack(self._finite[group]).all())
        worst = worst if is_finite else math.inf
        return GroupGradient(group, ratio, weights, worst, missing, is_part, is_finite)

    def _missing(self, group: str) -> tuple[str, ...]:
        found = []
        for name, _ in self._groups[group]:
            own, right = torch.stack(self._lengths[name]).sum(0).tolist()
            if own == 0 and right > 0:
                found.append(name)
        return tuple(found)

    def _block(self, x: Tensor) -> tuple[Tensor, tuple[Tensor, ...]]:
        """Return the objective's mean over some draws, and the three terms."""
        values, noises = [], []
        for _ in range(PER_BLOCK):
            if self._layout is None:
                values.append(self._objective(x))
                continue
            with Recorder() as recorder:
                values.append(self._objective(x))
            noises.append(self._noise(recorder, x))
        right = self._run(x, noises)
        own = torch.stack(values).mean()
        if self._noise_weights:
            columns = terms(right, with_ratios=True)
            own = own - sum(c * columns[n].mean() for n, c in self._noise_weights.items())
        return own, right.three_with_scores()

    def _apart(
        self, own: Tensor, right: tuple[Tensor, ...]
    ) -> tuple[list[Tensor], list[list[Tensor]]]:
        """Return the gradients of the objective and of each term, flat by group."""
        return self._slopes(own), [self._slopes(term.mean()) for term in right]

    def _noise(self, recorder: Recorder, x: Tensor) -> dict[str, Tensor]:
        assert self._truth.latents is not None and self._layout is not None  # noqa: PT018
        batch = self._pair.num_examples(x) if self._truth.has_plate else 0
        found = arrange(recorder.draws, self._truth.latents, batch, LAYOUTS[self._layout])
        return found or fresh_noise(self._truth.latents, 1, batch, x)

    def _run(self, x: Tensor, noises: list[dict[str, Tensor]]) -> Terms:
        if not noises:
            many = SCORED if self._truth.has_scores else 1
            return self._truth.run(x, num_particles=many * PARTICLES * PER_BLOCK)
        joined = {name: torch.cat([noise[name] for noise in noises]) for name in noises[0]}
        return self._truth.run(x, noise=joined)

    def _slopes(self, output: Tensor) -> list[Tensor]:
        slopes: list[Tensor | None] = [None] * len(self._members)
        if output.requires_grad:
            slopes = list(
                torch.autograd.grad(output, self._members, retain_graph=True, allow_unused=True)
            )
        filled = [
            torch.zeros_like(p) if s is None else s.detach()
            for p, s in zip(self._members, slopes, strict=True)
        ]
        flat, start = [], 0
        for named in self._groups.values():
            some = filled[start : start + len(named)]
            flat.append(torch.cat([s.flatten() for s in some]).double())
            start += len(named)
        return flat

    def _aim(self, number: int, right: list[list[Tensor]]) -> None:
        """Choose the directions along which gradients are compared, from a block of their own."""
        for place, (group, named) in enumerate(self._groups.items()):
            terms = torch.stack([flat[place] for flat in right])
            directions = Directions(terms, self._weights.to(terms), self._rounding)
            chosen = torch.randperm(terms.shape[1], device=terms.device)[:NUM_COORDINATES]
            self._rows[number][group] = _Rows(directions, chosen)
            for name, _ in named:
                self._lengths.setdefault(name, [])

    def _add(self, number: int, own: list[Tensor], right: list[list[Tensor]]) -> None:
        differences = []
        for place, (group, named) in enumerate(self._groups.items()):
            row = self._rows[number][group]
            terms = torch.stack([flat[place] for flat in right])
            expected = self._weights.to(terms) @ terms
            differences.append(own[place] - expected)
            flat = own[place].nan_to_num(0.0, 0.0, 0.0)
            row.sampled.append(torch.cat([flat[None], terms])[:, row.coordinates])
            sizes = [p.numel() for _, p in named]
            parts = zip(named, flat.split(sizes), expected.split(sizes), strict=True)
            for (name, _), mine, wanted in parts:
                self._lengths[name].append(torch.stack([mine.norm(), wanted.norm()]).cpu())
        self._compare(number, differences)

    def _compare(self, number: int, differences: list[Tensor]) -> None:
        for group, difference in zip(self._groups, differences, strict=True):
            self._finite[group].append(difference.isfinite().all())
            flat = difference.nan_to_num(0.0, 0.0, 0.0)
            self._rows[number][group].directions.add(flat)


def _is_doubtful(group: Directions | GroupGradient) -> bool:
    return DOUBTFUL < group.z_score < CLEARLY


def _few(settings: list[Setting]) -> list[Setting]:
    """Return the parameters as they are and two states with nothing scaled down."""
    others = [s for s in settings[2:] if all(gain == 1.0 for gain in s.gains.values())]
    return [settings[0], *(others or settings[2:])[:2]]
