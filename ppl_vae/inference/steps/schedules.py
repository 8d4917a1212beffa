"""The KL's weight over a training run."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor
from torch.optim import Optimizer
from torch.optim.lr_scheduler import LRScheduler

from ppl_vae import checks
from ppl_vae.elbos.kl_weights.weight import check_weight

# From the fraction of training done, in [0, 1], to the KL's weight.
Schedule = Callable[[float], float]


@dataclass(frozen=True)
class LinearWarmup:
    """A weight that rises in a straight line to 1 and stays there.

    The rise is a part of training, not a number of steps, so it always ends within the run. An
    objective whose weight never reached 1 would not be an ELBO.

    Args:
        fraction: the part of training that the rise takes, in (0, 1].
        start: the weight of the first step, in [0, 1].

    Raises:
        TypeError: an argument is not a number.
        ValueError: an argument is outside of its range.

    Source:
        Bowman et al. (2016), "Generating sentences from a continuous space"; Sønderby et al.
        (2016), "Ladder variational autoencoders".

    Example:
        >>> weight = LinearWarmup(fraction=0.5)
        >>> weight(0.0), weight(0.25), weight(0.5), weight(1.0)
        (0.0, 0.5, 1.0, 1.0)
    """

    fraction: float = 0.3
    start: float = 0.0

    def __post_init__(self) -> None:
        _check_rise(self.fraction)
        _check_unit("start", self.start)

    def __call__(self, done: float) -> float:
        """Return the weight at the fraction `done` of training, from 0 to 1."""
        risen = min(_check_unit("the fraction of training done", done) / self.fraction, 1.0)
        return self.start + (1 - self.start) * risen


@dataclass(frozen=True)
class CyclicalWarmup:
    """A weight that rises from 0 to 1 again and again, and is 1 for the rest of each cycle.

    Args:
        cycles: how many, of equal length, at least 1.
        fraction: the part of each cycle that the rise takes, in (0, 1].

    Raises:
        TypeError: `cycles` is not an int or `fraction` not a number.
        ValueError: an argument is outside of its range.

    Source:
        Fu et al. (2019), "Cyclical annealing schedule: a simple approach to mitigating KL
        vanishing", eqs. 6 and 7.

    Example:
        >>> weight = CyclicalWarmup(cycles=2)
        >>> [weight(done / 8) for done in range(9)]
        [0.0, 0.5, 1.0, 1.0, 0.0, 0.5, 1.0, 1.0, 1.0]
    """

    cycles: int = 4
    fraction: float = 0.5

    def __post_init__(self) -> None:
        checks.count("cycles", self.cycles)
        _check_rise(self.fraction)

    def __call__(self, done: float) -> float:
        """Return the weight at the fraction `done` of training, from 0 to 1."""
        if _check_unit("the fraction of training done", done) == 1:
            return 1.0  # the end of the last cycle, not the begin of another
        return min(done * self.cycles % 1 / self.fraction, 1.0)


@dataclass(frozen=True)
class EachStep:
    """A learning-rate schedule that advances with every step, not with every epoch.

    Args:
        schedule: a function of the optimiser that makes a torch scheduler.

    Example:
        >>> import functools
        >>> from torch.optim.lr_scheduler import OneCycleLR
        >>> schedule = EachStep(functools.partial(OneCycleLR, max_lr=0.01, total_steps=1000))
    """

    schedule: Callable[[Optimizer], LRScheduler]


def kl_weights(kl_weight: float | Schedule, num_steps: int) -> float | Tensor:
    """Return the one weight of all steps, or a table with the weight of each.

    Step i, counted from 0, has the weight at the fraction ``i / num_steps``: what was done when it
    begins. Every value is checked here, before the first step.

    Args:
        kl_weight: a number, or a function of the fraction of training done.
        num_steps: of the whole run, at least 1.

    Returns:
        A number as it came, as a float; for a function a float64 tensor (num_steps,), on the CPU.

    Raises:
        TypeError: `kl_weight` is neither, or a value of the function is not a number.
        ValueError: a weight is negative, infinite or NaN, or `num_steps` is below 1.

    Example:
        >>> kl_weights(LinearWarmup(fraction=0.5), 4).tolist()
        [0.0, 0.5, 1.0, 1.0]
    """
    checks.count("num_steps", num_steps)
    if not callable(kl_weight):
        return float(check_weight(kl_weight))
    values = []
    for step in range(num_steps):
        done = step / num_steps
        values.append(float(check_weight(kl_weight(done), f"kl_weight({done:.6g})")))
    return torch.tensor(values, dtype=torch.float64)


def _check_rise(fraction: float) -> None:
    if checks.positive_number("fraction", fraction) > 1:
        raise checks.value_error(
            "fraction at most 1", repr(fraction), "Give the part that the rise takes, such as 0.3."
        )


def _check_unit(name: str, value: float) -> float:
    if isinstance(value, bool) or not isinstance(value, (int, float)):
        raise checks.type_error(f"{name} as a number", type(value).__name__, "Pass a float.")
    if not 0 <= value <= 1:
        raise checks.value_error(f"{name} in [0, 1]", repr(value), "Choose a number between them.")
    return value
