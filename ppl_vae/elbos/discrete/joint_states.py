"""The states of several discrete numbers at once, which Pyro does not list."""

from __future__ import annotations

from typing import Any

import pyro.distributions as dist
import torch
from torch import Tensor

from ppl_vae import checks

MOST_STATES = 4096


class JointStates(dist.Independent):
    """Several discrete numbers as one event (``to_event``), whose states are all combinations."""

    @property
    def has_enumerate_support(self) -> bool:
        """Whether the states of one number are known."""
        return self.base_dist.has_enumerate_support

    def enumerate_support(self, expand: bool = True) -> Tensor:  # noqa: FBT001, FBT002
        """Return all combinations, (states, *batch_shape, *event_shape).

        The batch has ones in its place without `expand`.
        """
        one = self.base_dist.enumerate_support(expand=False)
        count = self.event_shape[: self.reinterpreted_batch_ndims].numel()
        total = len(one) ** count
        each = torch.arange(len(one), device=one.device)
        which = torch.cartesian_prod(*[each] * count) if count else each[:0]
        of_one = one.shape[one.dim() - len(self.base_dist.event_shape) :]
        states = one.reshape(len(one), *of_one)[which.reshape(total, count)]
        states = states.reshape(total, *[1] * len(self.batch_shape), *self.event_shape)
        return states.expand(-1, *self.batch_shape, *self.event_shape) if expand else states


def with_joint_states(name: str, fn: Any) -> Any:  # noqa: ANN401
    """Return a site's distribution, or one that lists its joint states if it has any.

    Raises:
        NotImplementedError: they are more than 4,096.
    """
    if isinstance(fn, dist.MaskedDistribution):
        joint = with_joint_states(name, fn.base_dist)
        return fn if joint is fn.base_dist else dist.MaskedDistribution(joint, fn._mask)
    # A subclass may have a density of its own, which a JointStates would lose.
    if type(fn) is not dist.Independent or not fn.reinterpreted_batch_ndims:
        return fn
    joint = JointStates(fn.base_dist, fn.reinterpreted_batch_ndims)
    if not joint.has_enumerate_support:
        return fn
    states = len(fn.base_dist.enumerate_support(expand=False))
    count = fn.event_shape[: fn.reinterpreted_batch_ndims].numel()
    if states**count > MOST_STATES:
        raise checks.not_implemented(
            f"at most {MOST_STATES:,} joint states of the latent {name!r}, to sum them",
            f"{states} ** {count}",
            "Choose 'leave-one-out' or 'disarm', which sample.",
        )
    return joint


def without_masks(fn: Any) -> Any:  # noqa: ANN401
    """Return a site's distribution without the masks in it, which is where it draws from."""
    if isinstance(fn, dist.MaskedDistribution):
        return without_masks(fn.base_dist)
    if not isinstance(fn, dist.Independent):
        return fn
    one = without_masks(fn.base_dist)
    return fn if one is fn.base_dist else dist.Independent(one, fn.reinterpreted_batch_ndims)
