"""Calls a hand-written objective, and refuses what it returns with a clear error."""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor

from ppl_vae import checks
from ppl_vae.batch import Data, unpacked
from ppl_vae.diagnostics.check.objective.restoring import Values
from ppl_vae.pair import Pair

KINDS = {"elbo": 1.0, "loss": -1.0}
REDUCTIONS = ("mean", "sum", "none")


class Objective:
    """A user's function as an estimate of the ELBO per example.

    Args:
        function: of the data.
        pair: whose ELBO it claims to be.
        kind: ``loss`` for the negative ELBO, ``elbo`` for the ELBO.
        reduction: over the examples: ``mean``, ``sum`` or ``none``.

    Raises:
        TypeError: `function` cannot be called.
        ValueError: an unknown kind or reduction.
    """

    def __init__(
        self, function: Callable[..., Tensor], pair: Pair, kind: str, reduction: str
    ) -> None:
        if not callable(function):
            raise TypeError(
                checks.message(
                    "objective as a function of the data",
                    type(function).__name__,
                    "Pass the function itself, not its result: objective, not objective(x).",
                )
            )
        self.kind = checks.name("kind", kind, KINDS)
        self.reduction = checks.name("reduction", reduction, REDUCTIONS)
        self._function, self._pair = unpacked(function), pair
        # Each call changes some, such as the iterates of a spectral norm.
        self._buffers = Values(pair.buffers())

    def __call__(self, x: Data) -> Tensor:
        """Return the estimate of the mean ELBO per example, a scalar."""
        return self.each(x).mean()

    def each(self, x: Data) -> Tensor:
        """Return the estimate of each example's ELBO, or of their mean if that is returned."""
        with self._buffers.kept():
            result = self._shaped(self._function(x), x)
        if self.reduction == "sum":
            result = result / self._pair.num_examples(x)
        return KINDS[self.kind] * result

    def try_out(self, x: Data) -> None:
        """Call once and raise unless the result can be checked.

        Raises:
            TypeError: the result is no floating-point tensor.
            ValueError: it has a wrong shape, is NaN or infinite, has no graph, or one without the
                pair's parameters; or the call changed the parameters.
        """
        parameters = list(self._pair.parameters())
        before = Values(parameters)
        value = self(x)
        self.refuse_changes(before)
        if not bool(value.isfinite()):
            raise ValueError(
                checks.message(
                    "a finite objective",
                    f"{value.item()}",
                    "Look for log(0), 0/0 or an overflow at the pair's parameters as they stand.",
                )
            )
        if not value.requires_grad:
            raise ValueError(
                checks.message(
                    "an objective with a gradient",
                    "a detached tensor",
                    "Leave out detach(), item() and no_grad() around the whole of it.",
                )
            )
        learned = [p for p in parameters if p.requires_grad]
        slopes = torch.autograd.grad(value, learned, allow_unused=True) if learned else ()
        if all(slope is None for slope in slopes):
            raise ValueError(
                checks.message(
                    "an objective of the pair's own parameters",
                    "one whose gradient reaches none of them",
                    "Call the pair's networks in it (pair.encode, pair.decode), not a copy's.",
                )
            )

    def refuse_changes(self, before: Values) -> None:
        """Raise ValueError unless the parameters have the values of `before`."""
        if not before.are_in(self._pair.parameters()):
            raise ValueError(
                checks.message(
                    "an objective that leaves the parameters alone",
                    "one that changed them",
                    "Take the optimiser's step outside of it.",
                )
            )

    def _shaped(self, result: object, x: Data) -> Tensor:
        examples = self._pair.num_examples(x)
        wanted = (examples,) if self.reduction == "none" else ()
        what = "one number per example" if self.reduction == "none" else "a scalar"
        if not isinstance(result, Tensor):
            raise TypeError(
                checks.message(
                    f"an objective that returns a tensor, {what}",
                    type(result).__name__,
                    "Return the tensor from which backward() would be called: without item(), and "
                    "out of a dict or a tuple, lambda x: vae.loss(x)['loss'].",
                )
            )
        if not result.is_floating_point():
            raise TypeError(
                checks.message(
                    "an objective of a floating dtype", f"{result.dtype}", "Return nats as floats."
                )
            )
        if result.shape != wanted:
            raise ValueError(
                checks.message(
                    f"an objective of shape {wanted}, {what}, for reduction={self.reduction!r}",
                    f"shape {tuple(result.shape)}",
                    "Reduce it so, or name the reduction that it has: 'mean', 'sum' or 'none'.",
                )
            )
        return result
