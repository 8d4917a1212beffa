"""Is a hand-written KL divergence right? If not, which half of it is wrong?"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor
from torch.distributions import Distribution

from ppl_vae import checks
from ppl_vae.diagnostics.check.divergence import Divergence
from ppl_vae.diagnostics.check.elbo import check_elbo
from ppl_vae.diagnostics.check.verdict import ElboCheck
from ppl_vae.diagnostics.sampling.distributions import check_pair
from ppl_vae.elbos.sites.closed_kl import base

Function = Callable[[Any, Any], Tensor]


def check_kl(
    function: Function,
    q: Distribution,
    p: Distribution,
    *,
    reduction: str = "none",
    num_replicates: int = 200,
    seed: int = 0,
    ignore_constants: bool = False,
) -> ElboCheck:
    """Check a hand-written KL(q || p), in closed form or by sampling, half by half.

        KL(q || p) = -(log_prior + entropy),    log_prior = E_q[log p(z)], entropy = E_q[-log q(z)]

    The function is called with distributions of the classes of q and p whose parameters were
    moved, and for several numbers of examples. `check_elbo` does the rest: the two halves are the
    terms ``log_prior`` and ``entropy``, the parameter groups are ``q`` and ``p``, and there is no
    likelihood. Some parameters of p are not moved: those that the function does not read (because
    p is the standard Normal, say), and those that bound the support of p where draws of q reach
    up to it (those of a Uniform p, say).

    Any family of torch or Pyro with draws and log densities serves, and so do mixtures,
    transformed distributions with what their transforms learn, and classes of your own that keep
    every argument of their constructor as an attribute of its name. The arguments with an entry
    in ``arg_constraints`` are moved; counts and temperatures are kept.

    Args:
        function: of two distributions, to their KL in nats.
        q: the first; its first batch dimension holds the examples, and the KL is summed over all
            others.
        p: the second, of the same event shape; its batch shape broadcasts with q's.
        reduction: over the examples: ``none``, ``mean`` or ``sum``. With ``none`` the function
            returns one number per example, or one per entry of the batch; a scalar where there
            is no batch.
        num_replicates: the most evaluations of the value at each setting, as in `check_elbo`.
        seed: of everything random.
        ignore_constants: whether what depends on no parameter may be left out.

    Returns:
        An `ElboCheck`; weights are of the two halves in the negative of `function`.

    Raises:
        TypeError: q or p is no torch distribution, or as in `check_elbo`.
        ValueError: event shapes that differ, or as in `check_elbo`.
        NotImplementedError: q or p without a log density, q without draws, a family that cannot
            be constructed anew, or neither with a parameter that can be moved.

    Example:
        >>> from torch.distributions import Independent, Normal
        >>> q = Independent(Normal(torch.randn(8, 3), torch.rand(8, 3) + 0.5), 1)
        >>> p = Independent(Normal(torch.zeros(8, 3), torch.ones(8, 3)), 1)
        >>> def kl(q, p):
        ...     loc, scale = q.base_dist.loc, q.base_dist.scale
        ...     return (-scale.log() + (scale**2 + loc**2) / 2).sum(-1)  # without its 1
        >>> check_kl(kl, q, p).findings[0].kind
        'constant'
    """
    checks.function("function", function)
    q, p, shape = check_pair(q, p)
    pair = Divergence(q, p, shape, seed=seed)
    whole = isinstance(reduction, str) and reduction == "none"
    x = torch.arange(shape[0] if shape else 1, dtype=pair.dtype, device=pair.device)[:, None]

    def objective(index: Tensor) -> Tensor:
        value = function(*pair.pair_at(index))
        if whole and isinstance(value, Tensor):
            if not shape and value.dim() == 0:
                return value[None]
            if len(shape) > 1 and value.shape == (len(index), *shape[1:]):
                return value.flatten(1).sum(1)
        return value

    pair.hold_unused(objective, x)
    result = check_elbo(
        objective,
        pair,
        x,
        reduction=reduction,
        num_replicates=num_replicates,
        seed=seed,
        ignore_constants=ignore_constants,
    )
    result.subject = f"KL({type(base(q)).__name__} || {type(base(p)).__name__})"
    result.coefficients.pop("log_likelihood", None)
    return result
