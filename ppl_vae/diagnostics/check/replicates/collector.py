"""Draws of an objective and of the right terms, setting by setting, at the same noise."""

from __future__ import annotations

from contextlib import nullcontext
from functools import partial

import numpy as np
import torch
from torch import Tensor

from ppl_vae.diagnostics.check.objective import (
    LAYOUTS,
    NORMAL,
    Objective,
    Recorder,
    Transform,
    Values,
    fresh_noise,
    start_streams,
)
from ppl_vae.diagnostics.check.replicates.noise_matching import explaining, variances
from ppl_vae.diagnostics.check.replicates.observed_noise import ObservedNoise
from ppl_vae.diagnostics.check.replicates.repeated_calls import RepeatedCalls
from ppl_vae.diagnostics.check.settings import Columns, Draws, Sample, Settings, Visit
from ppl_vae.diagnostics.check.truth import Terms, Truth
from ppl_vae.pair import Pair
from ppl_vae.seeding import derive

PARTICLES_PER_REPLICATE = 3
NUMBERS_AT_ONCE = 2**22
# Below this share of its variance, what is left of the objective once the truth at the same
# noise is taken off is worth having.
MATCHED_BELOW = 0.7
# More of them where draws are discrete: a rare value that none has leaves no trace in their noise.
MORE_IF_DISCRETE = 16
# Where masks hide every term, in nats.
SMALLEST_SCALE = 1e-12


class Collector:
    """Evaluates objective and truth at all settings, round by round.

    Args:
        pair: the pair, whose state `as_found` keeps.
        objective: what is checked.
        truth: the right terms.
        settings: where both are evaluated.
        seed: of all noise.

    Attributes:
        matched: whether the columns are at the objective's own noise; None before the first round.
        num_replicates: so far, at each setting.
        skipped: how many settings the objective was not finite at.
        seen: what noise the objective draws.
    """

    def __init__(
        self, pair: Pair, objective: Objective, truth: Truth, settings: Settings, *, seed: int
    ) -> None:
        self._pair, self._objective, self._truth = pair, objective, truth
        self._settings, self._seed = settings, seed
        self._visits = [Visit(setting) for setting in settings.all]
        self._layout = 0
        self.matched: bool | None = None
        self.num_replicates = 0
        self.skipped = 0
        self.seen = ObservedNoise(truth)

    def more(self, replicates: int) -> None:
        """Add so many replicates at every setting."""
        for number, visit in enumerate(self._visits):
            start_streams(self._stream(number, self.num_replicates), self._pair.device)
            with self._settings.at(visit.setting) as x:
                self._evaluate(visit, x, replicates)
        kept = [v for v in self._visits if bool(torch.stack(v.values).isfinite().all())]
        self.skipped += len(self._visits) - len(kept)
        self._visits = kept
        self.num_replicates += replicates
        if self.matched is None:
            self.matched = self._choose_layout()

    def samples(self, columns: Columns, *, limit: int | None = None) -> list[Sample]:
        """Return the numbers so far, with `columns` of the truth's draws.

        Args:
            columns: what is to be read from the truth's draws.
            limit: how many replicates' worth of draws to take at most.
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
        """How many particles the objective draws, or 0 where that is unknown."""
        if not self.matched:
            return 0
        noise = self._visits[0].noise[self._layout][0]
        return len(next(iter(noise.values()))) if noise else 0

    @property
    def repeated_calls(self) -> RepeatedCalls:
        """What the objective does when it is called again."""
        return RepeatedCalls(self._objective, self._settings, self._visits, self._stream(0, 0))

    def _stream(self, number: int, replicates: int) -> int:
        return derive(self._seed, "objective", number, replicates)

    def _evaluate(self, visit: Visit, x: Tensor, replicates: int) -> None:
        before = Values(self._pair.parameters())
        for _ in range(replicates):
            recorder = Recorder()
            with nullcontext() if self.matched is False else recorder:
                value = self._objective(x)
            visit.values.append(value.detach().double())
            if self.matched is False:
                continue
            for kept, found in zip(
                visit.noise, self.seen.noise(recorder, self._pair.num_examples(x)), strict=True
            ):
                kept.append(found)
        self._objective.refuse_changes(before)

    def _choose_layout(self) -> bool:
        """Find how the noise is laid out, and whether it explains the objective's."""
        if not all(visit.is_usable for visit in self._visits):
            return False
        self.matched = True
        one_way = self.num_particles == 1
        shares = []
        for self._layout in range(1 if one_way else len(LAYOUTS)):
            shares.append(self._unexplained())
        self._layout = int(np.argmin(shares))
        matched = min(shares) < MATCHED_BELOW
        latents = self._truth.latents or []
        if not matched and all(latent.kind == NORMAL for latent in latents):
            matched = self._unexplained(faint=True) < MATCHED_BELOW
        self.seen.shares &= matched
        return matched

    def _unexplained(self, *, faint: bool = False) -> float:
        """Return which share of the objective's variance the terms at its own noise leave."""

        def columns(draws: Draws, _: Tensor) -> dict[str, Tensor]:
            return explaining(draws, shared=self.seen.shares, faint=faint)

        samples = [self._sample(n, visit, columns) for n, visit in enumerate(self._visits)]
        left, whole = variances(samples)
        return left / whole

    @torch.no_grad()
    def _sample(
        self, number: int, visit: Visit, columns: Columns, limit: int | None = None
    ) -> Sample:
        with self._settings.at(visit.setting) as x:
            values = torch.stack(visit.values).cpu().numpy()
            count = min(len(values), limit or len(values))
            if self.matched:
                values = values[:count]
                found = self._at_noise(visit, count, x, columns)
            else:
                found = self._fresh(number, count, x, columns)
        sizes = found.pop("_scale")
        size = self._pair.num_examples(x)
        scale = max(float(np.abs(sizes).mean()), SMALLEST_SCALE)
        return Sample(values, found, scale, size, visit.setting)

    def _at_noise(
        self, visit: Visit, count: int, x: Tensor, columns: Columns
    ) -> dict[str, np.ndarray]:
        noise = [each for each in visit.noise[self._layout][:count] if each is not None]
        particles = len(next(iter(noise[0].values())))
        at_once = max(1, NUMBERS_AT_ONCE // (particles * max(x.numel(), 1)))
        parts = []
        for start in range(0, len(noise), at_once):
            some = noise[start : start + at_once]
            joined = {name: torch.cat([each[name] for each in some]) for name in some[0]}
            found = self._found(x, joined, particles, columns)
            # Over the particles and the examples of each replicate.
            parts.append({n: _rows(v).reshape(len(some), -1).mean(1) for n, v in found.items()})
        return _joined(parts)

    def _fresh(
        self, number: int, replicates: int, x: Tensor, columns: Columns
    ) -> dict[str, np.ndarray]:
        start_streams(derive(self._seed, "truth", number, replicates), self._pair.device)
        count = (
            PARTICLES_PER_REPLICATE
            * replicates
            * (MORE_IF_DISCRETE if self._truth.has_scores else 1)
        )
        at_once = max(1, NUMBERS_AT_ONCE // max(x.numel(), 1))
        parts = []
        for start in range(0, count, at_once):
            some = min(at_once, count - start)
            noise: dict[str, Tensor] | int = some
            if self._truth.latents is not None:
                batch = self._pair.num_examples(x) if self._truth.has_plate else 0
                noise = fresh_noise(self._truth.latents, some, batch, x)
            found = self._found(x, noise, 0, columns)
            parts.append({name: _rows(value) for name, value in found.items()})
        return _joined(parts)

    def _found(
        self, x: Tensor, noise: dict[str, Tensor] | int, particles: int, columns: Columns
    ) -> dict[str, Tensor]:
        if isinstance(noise, int):
            draws = Draws(self._truth.run(x, num_particles=noise), particles, None)
        else:
            terms = self._truth.run(x, noise=noise)
            again = partial(_again, self._truth, x, noise)
            draws = Draws(terms, particles, again)
        scale = sum(term.abs() for term in draws.terms.three())
        return {**columns(draws, x), "_scale": scale}  # pyright: ignore[reportReturnType]


def _again(truth: Truth, x: Tensor, noise: dict[str, Tensor], transform: Transform) -> Terms:
    return truth.run(x, noise=noise, transform=transform)


def _joined(parts: list[dict[str, np.ndarray]]) -> dict[str, np.ndarray]:
    names = [name for name in parts[0] if all(name in part for part in parts)]
    return {name: np.concatenate([part[name] for part in parts]) for name in names}


def _rows(value: Tensor) -> np.ndarray:
    """Return the mean over the examples, (particles,)."""
    return value.double().mean(-1).cpu().numpy()
