"""Parameters and batches at which an objective is compared with the truth."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace

import torch
from torch import Tensor

from ppl_vae.batch import Data
from ppl_vae.diagnostics.check.objective import Objective, Values
from ppl_vae.diagnostics.check.settings.dependent_latents import STARTS, ascend
from ppl_vae.diagnostics.check.settings.extreme_values import extremes, is_extreme
from ppl_vae.diagnostics.check.settings.perturbation import perturbed, spread_out
from ppl_vae.diagnostics.check.truth import Truth
from ppl_vae.pair import Pair
from ppl_vae.seeding import derive

NUM_SETTINGS = 22
STRENGTHS = (1.5, 0.8, 0.4, 0.2, 0.1, 0.03)
SIZES = (1, 2, 3, 5, 8, 12)
TRIALS_PER_STRENGTH, WANTED_TRIALS = 16, 40
DEPENDENT_STRENGTH = 0.15


@dataclass(frozen=True)
class Setting:
    """One state of the parameters, and one batch.

    Attributes:
        seed: of the perturbation.
        strengths: parameter group to the perturbation's size; 0 leaves the group as it is.
        gains: parameter group to the factor on its matrices.
        index: of the batch's examples in the data (of numbers, for a single data set of the toy).
        values: of all parameters; empty where they are a perturbation.
    """

    seed: int
    strengths: dict[str, float]
    gains: dict[str, float]
    index: tuple[int, ...] = ()
    values: tuple[Tensor, ...] = ()


class Settings:
    """Chooses settings at which the terms differ widely, and visits them.

    Candidates are random perturbations of random groups of parameters, in several sizes. Those at
    which the terms are not finite, or far from those of a model in use, are left out. From the
    rest, settings are chosen whose terms are far from each other, so that every term varies by
    itself.

    Args:
        pair: the pair.
        objective: what is checked.
        truth: the right terms.
        x: the data.
        seed: of everything random.

    Attributes:
        sizes: of batches that pair and objective take; empty if that is only the data as a whole.
        all: the settings, the parameters as they are first.
    """

    def __init__(
        self, pair: Pair, objective: Objective, truth: Truth, x: Data, *, seed: int
    ) -> None:
        self._pair, self._truth, self._x = pair, truth, x
        self._values = Values([*pair.parameters(), *pair.buffers()])
        self._random = torch.Generator().manual_seed(derive(seed, "settings"))
        self._groups = pair.parameter_groups()
        self.sizes = [size for size in SIZES if self._serves(size, objective)]
        as_is = Setting(0, dict.fromkeys(self._groups, 0.0), dict.fromkeys(self._groups, 1.0))
        first = self._index(min(len(x), 32)) if len(x) > 1 else (0,)
        own = replace(as_is, index=first if self.sizes else tuple(range(len(x))))
        self._probe = x[: 4 if self.sizes else len(x)]
        if self.sizes and len(self._probe) not in self.sizes:
            self._probe = x[list(self._index(min(self.sizes, key=lambda s: abs(s - 4))))]
        chosen = self._choose(NUM_SETTINGS - 2)
        self.all = [own, replace(as_is, index=self._batch(0)), *chosen]

    @contextmanager
    def at(self, setting: Setting) -> Iterator[Data]:
        """Give the pair a setting's parameters within a block; yield the setting's batch."""
        self._perturb(setting)
        try:
            yield self._x[list(setting.index)]
        finally:
            self._values.put_back()

    def _serves(self, size: int, objective: Objective) -> bool:
        batch = self._x[list(self._index(size))]
        try:
            with torch.no_grad():
                self._truth.run(batch)
            return bool(objective(batch).isfinite())
        except Exception:
            return False  # such as a size of 1 where a layer normalises over the batch

    def _index(self, size: int) -> tuple[int, ...]:
        length = len(self._x)
        if size <= length:
            return tuple(torch.randperm(length, generator=self._random)[:size].tolist())
        return tuple(torch.randint(length, (size,), generator=self._random).tolist())

    def _batch(self, number: int) -> tuple[int, ...]:
        if not self.sizes:
            return tuple(range(len(self._x)))
        return self._index(self.sizes[number % len(self.sizes)])

    def _choose(self, count: int) -> list[Setting]:
        kept: list[tuple[Setting, Tensor]] = []
        own = self._features()
        for strength in STRENGTHS:
            kept += self._sane([self._trial(strength) for _ in range(TRIALS_PER_STRENGTH)], own)
            if len(kept) >= WANTED_TRIALS:
                break
        chosen = spread_out([own, *(features for _, features in kept)], count)
        trials = [kept[place - 1][0] for place in chosen]
        if self._truth.invalid:
            dependent = [trial for trial, _ in self._sane(self._dependent_trials(), own)]
            trials[count - len(dependent) :] = dependent
        # Two settings in turn share a batch, so that what depends on the data alone shows.
        batches = [self._batch(1 + number) for number in range((count + 1) // 2)]
        return [replace(trial, index=batches[number // 2]) for number, trial in enumerate(trials)]

    def _sane(self, trials: list[Setting], own: Tensor) -> list[tuple[Setting, Tensor]]:
        """Return the trials that a model in use could be, with their features."""
        kept = []
        for trial in trials:
            with self.at(trial):
                try:
                    features = self._features()
                except Exception:
                    continue  # the program refuses such parameters
            if self._is_sane(features, own):
                kept.append((trial, features))
        return kept

    def _dependent_trials(self) -> list[Setting]:
        """Return trials at which latents that depend on each other do so strongly."""
        trials = []
        for _ in range(STARTS):
            start = self._trial(DEPENDENT_STRENGTH)
            with self.at(start):
                try:
                    states = ascend(self._pair, self._truth, self._probe)
                except Exception:
                    continue  # the program refuses such parameters
            trials += [replace(start, values=values) for values in states]
        return trials

    def _trial(self, strength: float) -> Setting:
        def pick(*options: float) -> float:
            return options[int(torch.randint(len(options), (), generator=self._random))]

        strengths = {group: pick(0.0, strength, strength) for group in self._groups}
        gains = {
            group: pick(1.0, 1.0, 2.0, 0.1) if strength > 0.15 else 1.0 for group in self._groups
        }
        if not any(strengths.values()):
            strengths = dict.fromkeys(strengths, strength)
        seed = int(torch.randint(2**62, (), generator=self._random))
        return Setting(seed, strengths, gains)

    @torch.no_grad()
    def _perturb(self, setting: Setting) -> None:
        if setting.values:
            for parameter, value in zip(self._pair.parameters(), setting.values, strict=True):
                parameter.data.copy_(value)
            return
        random = torch.Generator().manual_seed(setting.seed)
        for group, members in self._groups.items():
            strength, gain = setting.strengths[group], setting.gains[group]
            for parameter in members.values():
                if strength:
                    parameter.data.copy_(perturbed(parameter.data, strength, gain, random))

    @torch.no_grad()
    def _features(self) -> Tensor:
        """Return the three terms, the noise of the likelihood, and `extremes`, (8,)."""
        terms = self._truth.run(self._probe, num_particles=6)
        likelihood, prior, entropy = terms.three()
        noise = likelihood.std(0).mean()
        row = torch.stack([likelihood.mean(), prior.mean(), entropy.mean(), noise])
        return torch.cat([row.double().cpu(), extremes(terms)])

    def _is_sane(self, features: Tensor, own: Tensor) -> bool:
        if not bool(features.isfinite().all()) or is_extreme(features[4:], own[4:]):
            return False
        pixels = self._x[0].numel() if self._x.dim() > 1 else 1
        latents = self._truth.latents
        codes = 8 if latents is None else sum(each.event_shape.numel() for each in latents)
        far = (features - own).abs()[:3]
        bounds = [2 * abs(float(own[0])) + 2.0 * pixels]
        bounds += [abs(float(own[1])) + 8.0 * codes, 0.5 * abs(float(own[2])) + 3.0 * codes]
        return all(float(f) <= b for f, b in zip(far, bounds, strict=True))
