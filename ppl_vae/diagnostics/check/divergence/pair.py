"""Two distributions as a pair without data: q is the guide and p the model."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pyro
import torch
from pyro.distributions import Delta
from torch import Tensor, nn
from torch.distributions import Distribution

from ppl_vae import checks
from ppl_vae.diagnostics.check.divergence.rebuilt import Node, for_pyro, rebuilt
from ppl_vae.diagnostics.sampling.distributions import unwrap
from ppl_vae.elbos.sites.closed_kl import base
from ppl_vae.pair import Pair
from ppl_vae.seeding import derive, seeded

# A nudge of a parameter, on the real line, and how many draws must then be within p's support.
NUDGE, DRAWS = 0.1, 64


class Divergence(Pair):
    """q as a guide and p as a model; their parameters are the module's, in two groups.

    Args:
        q: the first distribution.
        p: the second.
        shape: the batch shape that both broadcast to; its first dimension holds the examples.
        seed: of the draws that show which parameters bound a support.

    Raises:
        NotImplementedError: a family without log density or draws, one that cannot be taken
            apart, or no parameters to move.
    """

    def __init__(self, q: Distribution, p: Distribution, shape: torch.Size, *, seed: int) -> None:
        super().__init__()
        self._shape = shape
        memo: dict[int, nn.Module] = {}
        self.q, self.p = _rebuilt("q", q, shape, memo), _rebuilt("p", p, shape, memo)
        self._held: set[str] = set()
        self._like = _tensor_like(q, p)
        with torch.no_grad(), pyro.validation_enabled(False):  # noqa: FBT003
            with seeded(derive(seed, "support"), self.device):
                self._compare(q, p)
                self._hold_bounds()
        if not self.parameter_groups():
            raise NotImplementedError(
                checks.message(
                    "q or p of a family whose parameters can be moved, such as Normal",
                    f"q {_family(q)} and p {_family(p)}, whose arguments have no arg_constraints, "
                    "or bound a support that q fills",
                    "Check the KL for another family, or other parameters.",
                )
            )

    @property
    def device(self) -> torch.device:
        """Where the parameters are."""
        return self._like.device

    @property
    def dtype(self) -> torch.dtype:
        """The parameters' floating dtype."""
        return self._like.dtype

    def parameter_groups(self) -> dict[str, dict[str, nn.Parameter]]:
        """Return the parameters that are moved, by ``q`` and ``p``."""
        groups = super().parameter_groups()
        moved = {
            group: {n: v for n, v in members.items() if n not in self._held}
            for group, members in groups.items()
        }
        return {group: members for group, members in moved.items() if members}

    def pair_at(self, index: Tensor) -> tuple[Distribution, Distribution]:
        """Return q and p of some examples, of the classes that were passed."""
        places = self._places(index)
        return self.q(places), self.p(places)

    def hold_unused(self, function: Callable[[Tensor], Tensor], x: Tensor) -> None:
        """Hold the parts of p that a function does not read, such as the base of a flow."""
        members = self.parameter_groups().get("p", {})
        value = function(x)
        if not members or not isinstance(value, Tensor) or not value.requires_grad:
            return
        slopes = torch.autograd.grad(value.sum(), list(members.values()), allow_unused=True)
        read = {name for name, slope in zip(members, slopes, strict=True) if slope is not None}
        # All of a distribution or nothing: if only its scale is not read, that was forgotten.
        for part, module in self.p.named_modules(prefix="p"):
            own = {name for name in members if name.startswith(f"{part}.")}
            if isinstance(module, Node) and module.is_distribution and not own & read:
                self._held |= own

    def model(self, x: Tensor) -> None:
        """Draw z from p."""
        self._sample(x, self.p)

    def guide(self, x: Tensor) -> None:
        """Draw z from q."""
        self._sample(x, self.q)

    def _sample(self, x: Tensor, part: nn.Module) -> None:
        self.begin(x)
        fn = for_pyro(part(self._places(x)))
        inner = len(fn.batch_shape) - 1
        with pyro.plate("data", len(x), dim=-1):
            pyro.sample("z", fn.to_event(inner) if inner > 0 else fn)

    def _places(self, index: Tensor) -> Tensor | None:
        return index[:, 0].long() if self._shape else None

    def check(self, x: Tensor) -> None:
        """Raise for several examples of distributions that have no batch."""
        super().check(x)
        if not self._shape and len(x) > 1:
            raise ValueError(checks.message("one example", f"{len(x)}", "There is no batch."))

    def _compare(self, q: Distribution, p: Distribution) -> None:
        """Raise unless q can be drawn, and p and q constructed anew have the same densities."""
        places = self._all_places()
        full = q if q.batch_shape == self._shape else q.expand(self._shape)
        z = _tried("q that can be sampled", q, full.sample)
        for name, fn, part in (("q", q, self.q), ("p", p, self.p)):
            own = _tried(f"{name} with a log density", fn, lambda fn=fn: fn.log_prob(z))
            what = f"{name} that can be constructed anew from its arguments"
            new = _tried(what, fn, lambda part=part: part(places).log_prob(z))
            if not torch.allclose(own.expand_as(new), new, rtol=1e-3, atol=1e-3, equal_nan=True):
                what = f"{name} that its constructor's arguments determine"
                raise _refusal(what, fn, "whose density changes as it is constructed anew")

    def _hold_bounds(self) -> None:
        """Hold the parameters whose nudge takes draws of q out of the support of p."""
        if not self._is_within():
            return
        for name, parameter in self.named_parameters():
            value = parameter.detach().clone()
            for nudge in (NUDGE, -NUDGE):
                parameter.data.copy_(value + nudge)
                if not self._is_within():
                    self._held.add(name)
            parameter.data.copy_(value)

    def _is_within(self) -> bool:
        places = self._all_places()
        try:
            z = self.q(places).sample(torch.Size((DRAWS,)))
            return bool(self.p(places).log_prob(z).isfinite().all())
        except Exception:
            return False  # the family refuses such parameters, or so many draws

    def _all_places(self) -> Tensor | None:
        return torch.arange(self._shape[0], device=self.device) if self._shape else None


def _tried(expected: str, fn: Distribution, call: Callable[[], Tensor]) -> Tensor:
    """Return what a method of `fn` returns, or refuse the family with the reason."""
    try:
        return call()
    except Exception as error:
        why = "which does not define it"
        if not isinstance(error, NotImplementedError):
            first_line = str(error).strip().split("\n")[0]
            why = f"which raises {type(error).__name__}: {first_line}"
        raise _refusal(expected, fn, why) from None


def _rebuilt(
    name: str, fn: Distribution, shape: torch.Size, memo: dict[int, nn.Module]
) -> nn.Module:
    if isinstance(base(unwrap(fn)[0]), Delta):
        raise _refusal(f"{name} with a density", fn, "which has none")
    try:
        fn = fn if fn.batch_shape == shape else fn.expand(shape)
        return rebuilt(fn, memo)
    except AttributeError as error:
        what = f"{name} of a family that keeps the arguments of its constructor as attributes"
        raise _refusal(what, fn, f"which has none for {error}") from None
    except NotImplementedError:
        what = f"{name} that expands to the batch shape {tuple(shape)}"
        raise _refusal(what, fn, "which does not define it") from None


def _refusal(expected: str, fn: Distribution, reason: str) -> NotImplementedError:
    remedy = "Check the KL for another family."
    return NotImplementedError(checks.message(expected, f"{_family(fn)}, {reason}", remedy))


def _family(fn: Any) -> str:  # noqa: ANN401
    return type(base(fn)).__name__


def _tensor_like(*fns: Distribution) -> Tensor:
    """Return a floating tensor of the dtype and on the device of the distributions' own."""
    tensors, pending = [], list(fns)
    for fn in pending:
        for value in vars(fn).values():
            if isinstance(value, Tensor):
                tensors.append(value)
            elif isinstance(value, Distribution):
                pending.append(value)
    floating = [tensor for tensor in tensors if tensor.is_floating_point()]
    return next(iter(floating), torch.zeros((), device=tensors[0].device if tensors else None))
