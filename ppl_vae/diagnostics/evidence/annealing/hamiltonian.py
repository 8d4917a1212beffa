"""Hamiltonian Monte Carlo for many independent chains of many examples at once."""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor

from ppl_vae.diagnostics.evidence.density.log_joint import State

_JITTER = 0.2


def start(densities: Callable[[Tensor], State], u: Tensor) -> State:
    """Return chains at `u`."""
    with torch.no_grad():
        return densities(u)


def transition(
    densities: Callable[[Tensor], State],
    state: State,
    beta: float,
    *,
    step_size: Tensor,
    scale: Tensor,
    num_leapfrog: int,
) -> tuple[State, Tensor]:
    """Make one step that leaves ``p^beta q^(1 - beta)`` invariant.

    A trajectory of `num_leapfrog` leapfrog steps, then Metropolis' choice. The step size is
    varied by up to a fifth, at random and apart from the state, so that no orbit closes. It is in
    units of `scale` and (examples); `scale` is the unit of length of each coordinate, (examples,
    dim). The acceptance probability, (chains, examples), is returned with the new state.

    Source:
        Neal, MCMC using Hamiltonian dynamics, 2011, section 3.
    """
    jitter = 1 + _JITTER * (2 * torch.rand_like(state.model) - 1)
    step = (step_size * jitter).unsqueeze(-1)
    momentum = torch.randn_like(state.u)
    before = state.log_density(beta) - momentum.square().sum(-1) / 2
    u = state.u
    slope, _ = _slope(densities, u, beta)
    momentum = momentum + step / 2 * scale * slope
    found = state
    for number in range(num_leapfrog):
        u = u + step * scale * momentum
        slope, found = _slope(densities, u, beta)
        share = 2 if number == num_leapfrog - 1 else 1
        momentum = momentum + step / share * scale * slope
    after = found.log_density(beta) - momentum.square().sum(-1) / 2
    # A trajectory that has left the numbers is refused.
    accept = (after - before).exp().clamp(max=1).nan_to_num(0.0)
    chosen = torch.rand_like(accept) < accept
    moved = State(
        torch.where(chosen.unsqueeze(-1), found.u, state.u),
        torch.where(chosen, found.model, state.model),
        torch.where(chosen, found.guide, state.guide),
    )
    return moved, accept


def _slope(densities: Callable[[Tensor], State], u: Tensor, beta: float) -> tuple[Tensor, State]:
    with torch.enable_grad():
        leaf = u.detach().requires_grad_()
        found = densities(leaf)
        (slope,) = torch.autograd.grad(found.log_density(beta).sum(), leaf)
    return slope.nan_to_num(0.0), State(u, found.model.detach(), found.guide.detach())
