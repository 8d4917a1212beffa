"""The expected gradient of an objective against the right one, by parameter group."""

from __future__ import annotations

import math
from dataclasses import dataclass, field

import torch
from scipy import stats
from torch import Tensor

from ppl_vae.diagnostics.check.features import terms
from ppl_vae.diagnostics.check.gradient_weights import NAMES, regressed
from ppl_vae.diagnostics.check.gradient_words import z_limit
from ppl_vae.diagnostics.check.noise import LAYOUTS, arrange, fresh_noise
from ppl_vae.diagnostics.check.objective import Objective
from ppl_vae.diagnostics.check.recorder import Recorder
from ppl_vae.diagnostics.check.result import GroupGradient
from ppl_vae.diagnostics.check.settings import Setting, Settings
from ppl_vae.diagnostics.check.state import start_streams
from ppl_vae.diagnostics.check.tails import corrected, skewness
from ppl_vae.diagnostics.check.terms import Terms, Truth
from ppl_vae.pair import Pair
from ppl_vae.seeding import derive

PER_BLOCK, PARTICLES = 2, 4
# So many times as many where draws have scores, whose gradients are noisier.
SCORED = 8
NUM_RANDOM, NUM_COORDINATES = 2, 2048
# Until when blocks are added: the noise of a direction, relative; the z-score of a wrong group,
# and the standard errors of its weights.
CLEAR, CLEARLY, TOLD = 0.02, 8.0, 0.1
# What is too small to matter, relative; what rounding may leave of the whole gradient, in units of
# what it may leave of the value, as a gradient is rounded layer by layer, there and back.
MATERIAL, ROUNDINGS = 3e-3, 4.0


@dataclass
class _Rows:
    """One group's numbers at one setting, a row for each block."""

    directions: Tensor | None = None
    sizes: Tensor | None = None
    coordinates: Tensor | None = None
    components: list[Tensor] = field(default_factory=list)
    sampled: list[Tensor] = field(default_factory=list)


class Gradients:
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
        self._rows = [{group: _Rows() for group in self._groups} for _ in self._visited]
        self._lengths: dict[str, list[Tensor]] = {}
        self._finite: dict[str, list[Tensor]] = {group: [] for group in self._groups}
        self.num_blocks = 0

    def more(self, blocks: int) -> None:
        """Add so many blocks at every setting."""
        for number, setting in enumerate(self._visited):
            start_streams(
                derive(self._seed, "gradient", number, self.num_blocks), self._pair.device
            )
            with self._settings.at(setting) as x:
                if self.num_blocks == 0:
                    self._aim(number, *self._block(x))
                for _ in range(blocks):
                    self._add(number, *self._block(x))
        self.num_blocks += blocks

    def is_clear(self) -> bool:
        """Return whether a few percent in a term's gradient would be seen, or where much is."""
        wrong = [group for group in self.result().values() if group.z_score > CLEARLY]
        if wrong:
            errors = [w.standard_error for group in wrong for w in group.weights.values()]
            return all(error < TOLD for error in errors)
        for rows in self._rows:
            for row in rows.values():
                assert row.sizes is not None
                noise = torch.stack(row.components).std(0) / math.sqrt(self.num_blocks)
                if bool((noise > CLEAR * row.sizes + 1e-12)[NUM_RANDOM:].any()):
                    return False
        return True

    def is_doubtful(self) -> bool:
        """Return whether a group is seen to be wrong, and not by far."""
        limit = z_limit(len(self._groups))
        return any(limit < group.z_score < CLEARLY for group in self.result().values())

    def result(self) -> dict[str, GroupGradient]:
        """Return what the blocks so far say, by group."""
        return {group: self._group(group) for group in self._groups}

    def _group(self, group: str) -> GroupGradient:
        worst = max(self._distance(rows[group]) for rows in self._rows)
        table = torch.cat([torch.stack(rows[group].sampled) for rows in self._rows], -1).cpu()
        ratio, weights = regressed(table, self._weights)
        missing = self._missing(group)
        is_part = 0 < len(missing) < len(self._groups[group])
        is_finite = bool(torch.stack(self._finite[group]).all())
        worst = worst if is_finite else math.inf
        return GroupGradient(group, ratio, weights, worst, missing, is_part, is_finite)

    def _distance(self, row: _Rows) -> float:
        """Return the largest z-score over the directions; of a size that matters, else 0."""
        assert row.sizes is not None
        components, sizes = torch.stack(row.components).cpu(), row.sizes.cpu()
        mean = components.mean(0)
        error = components.std(0) / math.sqrt(len(components))
        noisy = components[:, error > self._rounding * sizes.max()]
        skew = skewness(noisy.T.numpy()) if noisy.shape[1] else 0.0
        beyond = (mean.abs() - MATERIAL * sizes - self._rounding * sizes.max()).clamp_min(0.0)
        t = torch.where(beyond > 0, beyond / error, torch.zeros_like(beyond)).max()
        t = corrected(t.numpy(), skew, len(components))
        log_p = float(stats.t.logsf(float(t), len(components) - 1))
        return float(stats.norm.isf(math.exp(log_p))) if log_p > -600 else math.inf

    def _missing(self, group: str) -> tuple[str, ...]:
        found = []
        for name, _ in self._groups[group]:
            own, right = torch.stack(self._lengths[name]).sum(0).tolist()
            if own == 0 and right > 0:
                found.append(name)
        return tuple(found)

    def _block(self, x: Tensor) -> tuple[list[Tensor], list[list[Tensor]]]:
        """Return the objective's gradient and those of the three terms, flat by group."""
        values, noises = [], []
        for _ in range(PER_BLOCK):
            with Recorder() as recorder:
                values.append(self._objective(x))
            if self._layout is not None:
                noises.append(self._noise(recorder, x))
        right = self._run(x, noises)
        own = torch.stack(values).mean()
        if self._noise_weights:
            columns = terms(right, with_ratios=True)
            own = own - sum(c * columns[n].mean() for n, c in self._noise_weights.items())
        return self._slopes(own), [self._slopes(term.mean()) for term in right.three_with_scores()]

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

    def _aim(self, number: int, own: list[Tensor], right: list[list[Tensor]]) -> None:
        """Choose the directions along which gradients are compared, from a block of their own."""
        for place, (group, named) in enumerate(self._groups.items()):
            terms = torch.stack([flat[place] for flat in right])
            size = terms.shape[1]
            random = torch.randint(0, 2, (NUM_RANDOM, size), device=terms.device) * 2.0 - 1
            aims = torch.cat([random.to(terms) / math.sqrt(size), terms])
            length = aims.norm(dim=1, keepdim=True)
            row = self._rows[number][group]
            row.directions = torch.where(length > 0, aims / length, torch.zeros_like(aims))
            whole = (self._weights.to(terms) @ terms).norm()
            row.sizes = torch.cat([whole.expand(NUM_RANDOM), length[NUM_RANDOM:, 0]])
            chosen = torch.randperm(size, device=terms.device)[:NUM_COORDINATES]
            row.coordinates = chosen
            for name, _ in named:
                self._lengths.setdefault(name, [])

    def _add(self, number: int, own: list[Tensor], right: list[list[Tensor]]) -> None:
        for place, (group, named) in enumerate(self._groups.items()):
            row = self._rows[number][group]
            assert row.directions is not None and row.coordinates is not None  # noqa: PT018
            terms = torch.stack([flat[place] for flat in right])
            expected = self._weights.to(terms) @ terms
            self._finite[group].append(own[place].isfinite().all())
            flat = own[place].nan_to_num(0.0, 0.0, 0.0)
            row.components.append(row.directions @ (flat - expected))
            row.sampled.append(torch.cat([flat[None], terms])[:, row.coordinates])
            sizes = [p.numel() for _, p in named]
            parts = zip(named, flat.split(sizes), expected.split(sizes), strict=True)
            for (name, _), mine, wanted in parts:
                self._lengths[name].append(torch.stack([mine.norm(), wanted.norm()]).cpu())


def _few(settings: list[Setting]) -> list[Setting]:
    """Return the parameters as they are and two states with nothing scaled down."""
    others = [s for s in settings[2:] if all(gain == 1.0 for gain in s.gains.values())]
    return [settings[0], *(others or settings[2:])[:2]]
