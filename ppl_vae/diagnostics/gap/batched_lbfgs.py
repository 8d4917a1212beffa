"""Many small maximisations at once, each with its own curvature, step length and end."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor

Function = Callable[[Tensor, Tensor], tuple[Tensor, Tensor]]

_SUFFICIENT = 1e-4  # Armijo's: of the rise that the slope promises
_SHRINK = 0.3
_SHORTEST = 1e-8
_MEMORY = 8


@dataclass(frozen=True)
class Maxima:
    """Where a batch of maximisations ended.

    Attributes:
        point: (batch, size).
        value: of the function, (batch).
        gradient_norm: sqrt(g' M^-1 g) with g the gradient and M the metric, (batch).
    """

    point: Tensor
    value: Tensor
    gradient_norm: Tensor


@torch.no_grad()
def maximise(
    function: Function,
    start: Tensor,
    *,
    metric: Tensor,
    num_steps: int,
    tolerance: float,
    longest: float = 2.0,
    rounding: float = 1e-15,
) -> Maxima:
    """Climb from every start by L-BFGS with a backtracking line search.

    A climb ends when its gradient norm is below `tolerance`, or when no step along the gradient
    gains anything. The function is evaluated for those that go on, all at once.

    Args:
        function: from points, (some, size), and which of the batch they belong to, (some), to
            values, (some), and gradients, (some, size). A value that is not finite is never
            accepted but at the start.
        start: (batch, size).
        metric: the diagonal of M, (size,), above 0: the curvature to begin with; lengths of steps
            and the gradient norm are measured by it.
        num_steps: evaluations of the function, at most.
        tolerance: of the gradient norm.
        longest: a step, at most.
        rounding: relative error of the values; a fall by less is no fall.

    Source:
        Liu and Nocedal (1989): two-loop recursion, first curvature s'y / y'M^-1 y.

    Example:
        >>> found = maximise(
        ...     lambda p, _: (-(p - 3).square().sum(-1), -2 * (p - 3)),
        ...     torch.zeros(1, 2),
        ...     metric=torch.ones(2),
        ...     num_steps=20,
        ...     tolerance=1e-6,
        ... )
        >>> found.point
        tensor([[3., 3.]])
    """
    batch, size = start.shape
    everything = torch.arange(batch, device=start.device)
    point = start.clone()
    value, gradient = function(point, everything)
    direction = gradient / metric
    length = _first_length(direction, metric, longest)
    steps = point.new_zeros(_MEMORY, batch, size)
    falls = torch.zeros_like(steps)
    going = _norm(gradient, metric) > tolerance
    for _ in range(num_steps - 1):
        at = everything[going]
        if not len(at):
            break
        move = length[at].unsqueeze(-1) * direction[at]
        trial = point[at] + move
        new_value, new_gradient = function(trial, at)
        promised = (move * gradient[at]).sum(-1)
        slack = rounding * value[at].abs()
        good = new_value >= value[at] + _SUFFICIENT * promised - slack
        good = good & new_gradient.isfinite().all(-1)
        won, lost = at[good], at[~good]

        steps[:, won] = _pushed(steps[:, won], move[good])
        falls[:, won] = _pushed(falls[:, won], gradient[won] - new_gradient[good])
        point[won], value[won], gradient[won] = trial[good], new_value[good], new_gradient[good]
        direction[won] = _direction(gradient[won], steps[:, won], falls[:, won], metric)
        length[won] = _first_length(direction[won], metric, longest)
        going[won] = _norm(gradient[won], metric) > tolerance

        length[lost] *= _SHRINK
        reach = length * (direction.square() * metric).sum(-1).sqrt()
        # Once more along the gradient, without the past; if that was it already, it is the end.
        short = lost[reach[lost] < _SHORTEST]
        fresh = short[steps[-1, short].abs().amax(-1) > 0]
        going[short] = False
        going[fresh] = True
        steps[:, fresh] = 0
        direction[fresh] = gradient[fresh] / metric
        length[fresh] = _first_length(direction[fresh], metric, longest)
    return Maxima(point, value, _norm(gradient, metric))


def _direction(gradient: Tensor, steps: Tensor, falls: Tensor, metric: Tensor) -> Tensor:
    """Return the ascent direction from the latest steps and falls of the gradient over them.

    Both are (memory, some, size), the latest last; pairs without curvature count for nothing.
    """
    curvature = (steps * falls).sum(-1)
    sizes = (steps.square() * metric).sum(-1) * (falls.square() / metric).sum(-1)
    usable = curvature > 1e-10 * sizes.sqrt()
    inverse = torch.where(usable, 1 / curvature, 0.0).unsqueeze(-1)
    result, taken = gradient, []
    for step, fall, weight in zip(reversed(steps), reversed(falls), inverse.flip(0), strict=True):
        amount = weight * (step * result).sum(-1, keepdim=True)
        result = result - amount * fall
        taken.append(amount)
    ratio = (falls.square() / metric).sum(-1)[-1] * inverse[-1, :, 0]
    result = result / metric / torch.where(usable[-1], ratio, 1.0).unsqueeze(-1)
    for step, fall, weight, amount in zip(steps, falls, inverse, reversed(taken), strict=True):
        result = result + step * (amount - weight * (fall * result).sum(-1, keepdim=True))
    uphill = ((result * gradient).sum(-1) > 0) & result.isfinite().all(-1)
    return torch.where(uphill.unsqueeze(-1), result, gradient / metric)


def _pushed(history: Tensor, latest: Tensor) -> Tensor:
    return torch.cat([history[1:], latest.unsqueeze(0)])


def _first_length(direction: Tensor, metric: Tensor, longest: float) -> Tensor:
    reach = (direction.square() * metric).sum(-1).sqrt()
    return (longest / reach).clamp(max=1.0)


def _norm(gradient: Tensor, metric: Tensor) -> Tensor:
    return (gradient.square() / metric).sum(-1).sqrt()
