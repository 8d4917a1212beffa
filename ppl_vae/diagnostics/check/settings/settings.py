"""Parameters and batches at which an objective is compared with the truth."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace

import torch
from torch import Tensor

from ppl_vae.diagnostics.check.objective import Values
from ppl_vae.diagnostics.check.settings.dependent_latents import STARTS, ascend
from ppl_vae.diagnostics.check.settings.extreme_values import extremes, is_extreme
from ppl_vae.diagnostics.check.settings.perturbation import perturbed, spread_out
from ppl_vae.diagnostics.check.truth import Truth
from ppl_vae.pair import Pair
from ppl_vae.seeding import derive

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
        index: which examples of the data (numbers, for a single data set of the toy).
        values: of all parameters, where they are not a perturbation.
    """

    seed: int
    strengths: dict[str, float]
    gains: dict[str, float]
    index: tuple[int, ...]
    values: tuple[Tensor, ...] = ()


class Settings:
    """Chooses settings at which the terms differ much, and visits them.

    Candidates are random perturbations of random groups of parameters, in several sizes; those at
    which the terms are not finite, or far from what a model in use has, are left out. From the
    rest those are chosen that lie far from each other in the terms, so that every term varies by
    itself.

    Args:
        pair: the pair.
        truth: its terms.
        x: the data.
        seed: of everything random.
        count: how many settings.
        fits: whether the objective takes a batch, too.
    """

    def __init__(
        self,
        pair: Pair,
        truth: Truth,
        x: Tensor,
        *,
        seed: int,
        count: int,
        fits: Callable[[Tensor], bool],
    ) -> None:
        self._pair, self._truth, self._x = pair, truth, x
        self._values = Values([*pair.parameters(), *pair.buffers()])
        self._random = torch.Generator().manual_seed(derive(seed, "settings"))
        self._groups = pair.parameter_groups()
        self.sizes = [size for size in SIZES if self._serves(size, fits)]
        nothing = dict.fromkeys(self._groups, 0.0), dict.fromkeys(self._groups, 1.0)
        own = Setting(0, *nothing, self._index(min(len(x), 32)) if len(x) > 1 else (0,))
        if not self.sizes:
            own = Setting(0, *nothing, tuple(range(len(x))))
        self._probe = x[: 4 if self.sizes else len(x)]
        if self.sizes and len(self._probe) not in self.sizes:
            self._probe = x[list(self._index(min(self.sizes, key=lambda s: abs(s - 4))))]
        chosen = self._choose(count - 2)
        self.all = [own, Setting(0, *nothing, self._batch(0)), *chosen]

    @contextmanager
    def at(self, setting: Setting) -> Iterator[Tensor]:
        """Give the pair a setting's parameters within a block, and the block its batch."""
        self._perturb(setting)
        try:
            yield self._x[list(setting.index)]
        finally:
            self._values.put_back()

    def _serves(self, size: int, fits: Callable[[Tensor], bool]) -> bool:
        batch = self._x[list(self._index(size))]
        try:
            with torch.no_grad():
                self._truth.run(batch)
            return fits(batch)
        except Exception:
            # Sizes that the program or the objective cannot take, such as 1 where a layer
            # normalises over the batch, are not used.
            return False

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
        found: list[tuple[Setting, Tensor]] = []
        probe = self._probe
        own = self._features(probe)
        for strength in STRENGTHS:
            found += self._tried([self._trial(strength) for _ in range(TRIALS_PER_STRENGTH)], own)
            if len(found) >= WANTED_TRIALS:
                break
        chosen = spread_out([own, *(features for _, features in found)], count)
        trials = [found[place - 1][0] for place in chosen]
        if self._truth.invalid:
            bold = [trial for trial, _ in self._tried(self._dependent_trials(), own)]
            trials[count - len(bold) :] = bold
        # Two settings in turn share a batch, so that what depends on the data alone shows.
        batches = [self._batch(1 + number) for number in range((count + 1) // 2)]
        return [replace(trial, index=batches[number // 2]) for number, trial in enumerate(trials)]

    def _tried(self, trials: list[Setting], own: Tensor) -> list[tuple[Setting, Tensor]]:
        """Return those trials that a model in use could be, with their features."""
        probe = self._probe
        found = []
        for trial in trials:
            self._perturb(trial)
            try:
                features = self._features(probe)
            except Exception:
                features = None  # the program refuses such parameters
            self._values.put_back()
            if features is not None and self._is_sane(features, own):
                found.append((trial, features))
        return found

    def _dependent_trials(self) -> list[Setting]:
        """Return trials at which latents that depend on each other do so strongly."""
        found = []
        for _ in range(STARTS):
            trial = self._trial(DEPENDENT_STRENGTH)
            self._perturb(trial)
            try:
                found += [
                    replace(trial, values=values)
                    for values in ascend(self._pair, self._truth, self._probe)
                ]
            except Exception:
                continue  # the program refuses such parameters
            finally:
                self._values.put_back()
        return found

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
        return Setting(seed, strengths, gains, ())

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
    def _features(self, x: Tensor) -> Tensor:
        """Return what describes a setting: the terms, how they vary, and what may be extreme."""
        terms = self._truth.run(x, num_particles=6)
        likelihood, prior, entropy = terms.three()
        noise = likelihood.std(0).mean()
        shown = [likelihood.mean(), prior.mean(), entropy.mean(), noise]
        row = torch.stack(shown).double().cpu()
        return torch.cat([row, extremes(terms)])

    def _is_sane(self, features: Tensor, own: Tensor) -> bool:
        if not bool(features.isfinite().all()) or is_extreme(features[4:], own[4:]):
            return False
        numbers = self._x[0].numel() if self._x.dim() > 1 else 1
        codes = _codes(self._truth)
        far = (features - own).abs()[:3]
        bounds = [2 * abs(float(own[0])) + 2.0 * numbers]
        bounds += [abs(float(own[1])) + 8.0 * codes, 0.5 * abs(float(own[2])) + 3.0 * codes]
        return all(float(f) <= b for f, b in zip(far, bounds, strict=True))


def _codes(truth: Truth) -> int:
    """Return how many latent numbers an example has."""
    if truth.latents is None:
        return 8
    return sum(latent.event_shape.numel() for latent in truth.latents)
