"""The expectation over enumerated states as one course of operations, whatever the states."""

from __future__ import annotations

import math
from collections.abc import Iterator
from typing import Any

import torch
from opt_einsum import shared_intermediates
from pyro.infer.util import Dice
from pyro.ops import packed
from pyro.ops.einsum.adjoint import require_backward
from pyro.ops.rings import MarginalRing
from torch import Tensor


class WholeDice(Dice):
    """Pyro's ``Dice`` (Foerster et al. 2018) that keeps states of probability zero in its sums.

    Pyro leaves them out if there are any, so which operations it does depends on the numbers.
    Here their costs, which may be infinite, become zero instead.
    """

    def compute_expectation(self, costs: dict[Any, list[Tensor]]) -> Tensor | float:
        """Return the expected cost, with the gradient that ``Dice`` gives it."""
        with shared_intermediates() as cache:
            ring = MarginalRing(cache=cache)
            total = 0.0
            for ordinal, terms in costs.items():
                for part in self._parts(ring, ordinal, terms):
                    total = total + part
        return total

    def _parts(self, ring: Any, ordinal: Any, terms: list[Any]) -> Iterator[Tensor]:  # noqa: ANN401
        """Yield the expectation of each cost of one plate stack, summed over the plates."""
        given = self._get_log_factors(ordinal)
        factors: list[Any] = [factor for factor in given if isinstance(factor, Tensor)]
        weight = math.exp(sum(factor for factor in given if not isinstance(factor, Tensor)))
        # The marginal over some dimensions is the derivative by a factor that has just these.
        factor_of = {frozenset(factor._pyro_dims): factor for factor in reversed(factors)}
        leaves = {}
        for cost in terms:
            dims = frozenset(cost._pyro_dims)
            if dims not in leaves and dims not in factor_of:
                factor_of[dims] = torch.zeros_like(cost)
                factor_of[dims]._pyro_dims = cost._pyro_dims
                factors.append(factor_of[dims])
            leaves[dims] = factor_of[dims]
        for leaf in leaves.values():
            require_backward(leaf)
        summed = set().union(*(factor._pyro_dims for factor in factors)) - ordinal
        ring.sumproduct(factors, summed)._pyro_backward()
        marginals = {dims: leaf._pyro_backward_result.exp() for dims, leaf in leaves.items()}
        for cost in terms:
            dims = frozenset(cost._pyro_dims)
            marginal = marginals[dims]
            marginal._pyro_dims = leaves[dims]._pyro_dims
            cost, marginal = packed.broadcast_all(cost, marginal)
            possible = marginal > 0
            zero = torch.zeros_like(cost)
            cost, marginal = (torch.where(possible, t, zero) for t in (cost, marginal))
            yield weight * torch.tensordot(marginal, cost, dims=cost.dim())
