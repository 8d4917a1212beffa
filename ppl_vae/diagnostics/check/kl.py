"""Is a hand-written KL divergence right? If not, which half of it is wrong?"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pyro
import pyro.distributions as dist
import torch
from torch import Tensor, nn
from torch.distributions import Distribution, Independent, transform_to

from ppl_vae import checks
from ppl_vae.diagnostics.check.elbo import check_elbo
from ppl_vae.diagnostics.check.result import ElboCheck
from ppl_vae.diagnostics.sampling.distributions import check_pair
from ppl_vae.elbos.closed_kl import base
from ppl_vae.pair import Pair

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
    moved, and for several numbers of examples; see `check_elbo`, which does the rest: the two
    halves are the terms ``log_prior`` and ``entropy``, the parameter groups are ``q`` and ``p``,
    and there is no likelihood. A function that does not read p (because p is the standard Normal,
    say) is checked at p as it was passed.

    Args:
        function: of two distributions, to their KL in nats.
        q: the first; its first batch dimension holds the examples, over all others the KL is
            summed.
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
        NotImplementedError: parameters of q or p that cannot be moved.

    Example:
        >>> from torch.distributions import Normal
        >>> q = Independent(Normal(torch.randn(8, 3), torch.rand(8, 3) + 0.5), 1)
        >>> p = Independent(Normal(torch.zeros(8, 3), torch.ones(8, 3)), 1)
        >>> def kl(q, p):
        ...     loc, scale = q.base_dist.loc, q.base_dist.scale
        ...     return (-scale.log() + (scale**2 + loc**2) / 2).sum(-1)  # without its 1
        >>> check_kl(kl, q, p).findings[0].kind
        'constant'
    """
    q, p, shape = check_pair(q, p)
    pair = _Divergence(q, p, shape)
    x = torch.arange(shape[0] if shape else 1, dtype=pair.dtype, device=pair.device)[:, None]

    def objective(index: Tensor) -> Tensor:
        value = function(*pair.pair_at(index))
        if reduction == "none" and isinstance(value, Tensor):
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


class _Divergence(Pair):
    """q as a guide and p as a model without data; their parameters are the module's."""

    def __init__(self, q: Distribution, p: Distribution, shape: torch.Size) -> None:
        super().__init__()
        self._shape, self._kinds = shape, (_Rebuild("q", q, shape), _Rebuild("p", p, shape))
        self.q, self.p = (nn.ParameterDict(k.unconstrained()) for k in self._kinds)

    def pair_at(self, index: Tensor) -> tuple[Distribution, Distribution]:
        """Return q and p of some examples, of the classes that were passed."""
        places = index[:, 0].long() if self._shape else None
        first, second = self._kinds
        return first.build(self.q, places), second.build(self.p, places)

    def hold_unused(self, function: Callable[[Tensor], Tensor], x: Tensor) -> None:
        """Let p stay as it is if a function does not read it: a KL to the standard Normal, say."""
        value = function(x)
        if not isinstance(value, Tensor) or not value.requires_grad:
            return
        members = list(self.p.values())
        slopes = torch.autograd.grad(value.sum(), members, allow_unused=True)
        if all(slope is None for slope in slopes):
            self.p.requires_grad_(requires_grad=False)

    def model(self, x: Tensor) -> None:
        """Draw z from p."""
        self._sample(x, self._kinds[1], self.p)

    def guide(self, x: Tensor) -> None:
        """Draw z from q."""
        self._sample(x, self._kinds[0], self.q)

    def _sample(self, x: Tensor, kind: _Rebuild, members: nn.ParameterDict) -> None:
        self.begin(x)
        with pyro.plate("data", len(x), dim=-1):
            pyro.sample("z", kind.build_for_pyro(members, x[:, 0].long()))

    def check(self, x: Tensor) -> None:
        """Raise for several examples of distributions that have no batch."""
        super().check(x)
        if not self._shape and len(x) > 1:
            raise ValueError(checks.message("one example", f"{len(x)}", "There is no batch."))


class _Rebuild:
    """Takes a distribution apart into unconstrained parameters, and puts it together again."""

    def __init__(self, name: str, fn: Any, shape: torch.Size) -> None:  # noqa: ANN401
        self._dims = 0
        while type(fn).__name__ == "Independent":
            self._dims += fn.reinterpreted_batch_ndims
            fn = fn.base_dist
        self._cls = type(fn)
        self._inner = len(shape) - 1 if shape else 0
        # Of several ways to give a parameter, that which was taken. A Beta only has properties.
        names = [n for n in fn.arg_constraints if n in vars(fn)] or list(fn.arg_constraints)
        if "scale_tril" in fn.arg_constraints:
            names = ["loc", "scale_tril"]
        if "logits" in names:
            names = [n for n in names if n != "probs"]
        full = (*shape, *fn.batch_shape[len(fn.batch_shape) - self._dims :])
        if not shape:
            full = (1, *full)
        self._has_batch = bool(shape)
        self._values: dict[str, Tensor] = {}
        self._bijections: dict[str, Any] = {}
        try:
            for each in names:
                value = getattr(fn, each).detach()
                extra = value.shape[len(fn.batch_shape) :]
                self._bijections[each] = transform_to(fn.arg_constraints[each])
                value = value.expand(*full, *extra).clone()
                self._values[each] = self._bijections[each].inv(value)
        except NotImplementedError:
            self._values = {}
        if not self._values or not hasattr(dist, self._cls.__name__):
            raise NotImplementedError(
                checks.message(
                    f"{name} of a family whose parameters can be moved, such as Normal",
                    self._cls.__name__,
                    "Check the KL for another family.",
                )
            )

    def unconstrained(self) -> dict[str, nn.Parameter]:
        """Return the parameters on the real line."""
        return {name: nn.Parameter(value) for name, value in self._values.items()}

    def build(self, members: nn.ParameterDict, places: Tensor | None) -> Distribution:
        """Return the distribution of some examples; without a batch where there was none."""
        chosen = self._chosen(members, places)
        if places is None:
            chosen = {name: value[0] for name, value in chosen.items()}
        fn = self._cls(**chosen)
        return Independent(fn, self._dims) if self._dims else fn

    def build_for_pyro(self, members: nn.ParameterDict, places: Tensor) -> Any:  # noqa: ANN401
        """Return it with every dimension but the first declared as an event's."""
        places_or_all = places if self._has_batch else None
        fn = getattr(dist, self._cls.__name__)(**self._chosen(members, places_or_all))
        dims = self._dims + self._inner
        return fn.to_event(dims) if dims else fn

    def _chosen(self, members: nn.ParameterDict, places: Tensor | None) -> dict[str, Tensor]:
        return {
            name: bijection(members[name] if places is None else members[name][places])
            for name, bijection in self._bijections.items()
        }
