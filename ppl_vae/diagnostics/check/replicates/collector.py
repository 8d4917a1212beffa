"""Draws of an objective and of the right terms, setting by setting, at the same noise."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import nullcontext

import numpy as np
import torch
from torch import Tensor

from ppl_vae.batch import Data
from ppl_vae.diagnostics.check.objective import (
    LAYOUTS,
    NORMAL,
    Recorder,
    Transform,
    Values,
    fresh_noise,
    start_streams,
)
from ppl_vae.diagnostics.check.replicates.noise_matching import explaining, variances
from ppl_vae.diagnostics.check.replicates.observed_noise import ObservedNoise
from ppl_vae.diagnostics.check.replicates.repeated_calls import RepeatedCalls
from ppl_vae.diagnostics.check.settings import Columns, Draws, Sample, Task, Visit
from ppl_vae.diagnostics.check.truth import Terms
from ppl_vae.seeding import derive

PARTICLES_PER_REPLICATE = 3
NUMBERS_AT_ONCE = 2**22
# The noise is taken for the guide's if the terms at it leave less than this share of the
# objective's variance.
MATCHED_BELOW = 0.7
# Discrete draws need more particles: a rare value that none of them has leaves no trace in their
# noise.
MORE_IF_DISCRETE = 16
# Where masks hide every term, in nats.
SMALLEST_SCALE = 1e-12

Rows = dict[str, np.ndarray]


class Collector:
    """Evaluates objective and truth at all settings, round by round.

    Args:
        task: what is compared.

    Attributes:
        task: likewise.
        matched: whether the columns are at the objective's own noise; None before the first round.
        num_replicates: so far, at each setting.
        skipped: the number of settings at which the objective was not finite.
        seen: what noise the objective draws.
    """

    def __init__(self, task: Task) -> None:
        self.task = task
        self._visits = [Visit(setting) for setting in task.settings.all]
        self._layout = 0
        self.matched: bool | None = None
        self.num_replicates = 0
        self.skipped = 0
        self.seen = ObservedNoise(task.truth)

    def more(self, replicates: int) -> None:
        """Add this number of replicates at every setting."""
        for number, visit in enumerate(self._visits):
            start_streams(self._stream(number, self.num_replicates), self.task.pair.device)
            with self.task.settings.at(visit.setting) as x:
                self._evaluate(visit, x, replicates)
        kept = [v for v in self._visits if bool(torch.stack(v.values).isfinite().all())]
        self.skipped += len(self._visits) - len(kept)
        self._visits = kept
        self.num_replicates += replicates
        if self.matched is None:
            self.matched = self._choose_layout()

    @torch.no_grad()
    def samples(self, columns: Columns, *, limit: int | None = None) -> list[Sample]:
        """Return the numbers so far, with `columns` of the truth's draws.

        Args:
            columns: what is to be read from the truth's draws.
            limit: the most replicates whose draws are taken.
        """
        return [
            self._sample(number, visit, columns, limit)
            for number, visit in enumerate(self._visits)
        ]

    @property
    def layout(self) -> int | None:
        """How the objective lays out its noise, or None if that is not the guide's."""
        return self._layout if self.matched and not self.seen.shares else None

    @property
    def num_particles(self) -> int:
        """The number of particles that the objective draws, or 0 where that is unknown."""
        if not self.matched:
            return 0
        return _num_particles(self._visits[0].noise[self._layout][0] or {})

    @property
    def repeated_calls(self) -> RepeatedCalls:
        """What the objective does when it is called again."""
        return RepeatedCalls(self.task, self._visits, self._stream(0, 0))

    def _stream(self, number: int, replicates: int) -> int:
        return derive(self.task.seed, "objective", number, replicates)

    def _evaluate(self, visit: Visit, x: Data, replicates: int) -> None:
        before = Values(self.task.pair.parameters())
        records = self.matched is not False
        for _ in range(replicates):
            recorder = Recorder()
            with recorder if records else nullcontext():
                value = self.task.objective(x)
            visit.values.append(value.detach().double())
            if records:
                for layout, noise in enumerate(self.seen.noise(recorder, x)):
                    visit.noise[layout].append(noise)
        self.task.objective.refuse_changes(before)

    def _choose_layout(self) -> bool:
        """Find how the noise is laid out, and return whether it explains the objective's."""
        if not all(visit.is_usable for visit in self._visits):
            return False
        self.matched = True
        shares = []
        for layout in range(1 if self.num_particles == 1 else len(LAYOUTS)):
            self._layout = layout
            shares.append(self._unexplained())
        self._layout = int(np.argmin(shares))
        matched = min(shares) < MATCHED_BELOW
        latents = self.task.truth.latents or []
        if not matched and all(latent.kind == NORMAL for latent in latents):
            matched = self._unexplained(faint=True) < MATCHED_BELOW
        self.seen.shares &= matched
        return matched

    def _unexplained(self, *, faint: bool = False) -> float:
        """Return the share of the objective's variance that the terms at its noise leave."""

        def columns(draws: Draws, _: object) -> dict[str, Tensor]:
            return explaining(draws, shared=self.seen.shares, faint=faint)

        left, total = variances(self.samples(columns))
        return left / total

    def _sample(self, number: int, visit: Visit, columns: Columns, limit: int | None) -> Sample:
        values = torch.stack(visit.values).cpu().numpy()
        count = min(len(values), limit or len(values))
        with self.task.settings.at(visit.setting) as x:
            if self.matched:
                values = values[:count]
                rows = self._at_own_noise(visit, count, x, columns)
            else:
                rows = self._at_fresh_noise(number, count, x, columns)
            size = self.task.pair.num_examples(x)
        scale = max(float(np.abs(rows.pop("_scale")).mean()), SMALLEST_SCALE)
        return Sample(values, rows, scale, size, visit.setting)

    def _at_own_noise(self, visit: Visit, count: int, x: Data, columns: Columns) -> Rows:
        noise = [each for each in visit.noise[self._layout][:count] if each is not None]
        particles = _num_particles(noise[0])

        def rows(start: int, stop: int) -> Rows:
            some = noise[start:stop]
            joined = {name: torch.cat([each[name] for each in some]) for name in some[0]}
            by_particle = self._rows(x, columns, particles, noise=joined)
            # Over the particles and the examples of each replicate.
            return {n: v.reshape(len(some), -1).mean(1) for n, v in by_particle.items()}

        return _in_parts(rows, len(noise), particles * x.numel())

    def _at_fresh_noise(self, number: int, replicates: int, x: Data, columns: Columns) -> Rows:
        truth = self.task.truth
        start_streams(derive(self.task.seed, "truth", number, replicates), self.task.pair.device)
        count = PARTICLES_PER_REPLICATE * replicates
        if truth.has_scores:
            count *= MORE_IF_DISCRETE

        def rows(start: int, stop: int) -> Rows:
            if truth.latents is None:
                return self._rows(x, columns, 0, count=stop - start)
            noise = fresh_noise(truth.latents, stop - start, truth.batch_size(x), x)
            return self._rows(x, columns, 0, noise=noise)

        return _in_parts(rows, count, x.numel())

    def _rows(
        self,
        x: Data,
        columns: Columns,
        particles: int,
        *,
        noise: dict[str, Tensor] | None = None,
        count: int = 1,
    ) -> Rows:
        """Return the means over the examples of all columns, (particles,) each."""
        truth = self.task.truth
        terms = truth.run(x, num_particles=count, noise=noise)

        def again(transform: Transform) -> Terms:
            return truth.run(x, noise=noise, transform=transform)

        by_name = columns(Draws(terms, particles, None if noise is None else again), x)
        scale = sum((term.abs() for term in terms.three()), torch.zeros_like(terms.likelihood))
        return {
            name: value.double().mean(-1).cpu().numpy()
            for name, value in {**by_name, "_scale": scale}.items()
        }


def _num_particles(noise: dict[str, Tensor]) -> int:
    return len(next(iter(noise.values()), ()))


def _in_parts(rows: Callable[[int, int], Rows], count: int, size: int) -> Rows:
    """Return the rows of `count` draws of `size` numbers, made in parts that fit into memory."""
    step = max(1, NUMBERS_AT_ONCE // max(size, 1))
    parts = [rows(start, min(start + step, count)) for start in range(0, count, step)]
    names = [name for name in parts[0] if all(name in part for part in parts)]
    return {name: np.concatenate([part[name] for part in parts]) for name in names}
