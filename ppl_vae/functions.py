"""Any Pyro model and guide, as a pair."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

import pyro
from pyro import poutine
from torch import Tensor, nn

from ppl_vae import checks
from ppl_vae.pair import Pair
from ppl_vae.seeding import seeded

Functions = tuple[Callable[..., Any], Callable[..., Any]]


class FunctionPair(Pair):
    """A model and a guide that belong to no `Pair`, for the diagnostics.

    The parameters are those that the two register with Pyro when they are run on `x`; they stay
    where they are. Groups are what precedes ``$$$`` or the first dot in their names.

    Args:
        model: a Pyro model of one argument.
        guide: its guide.
        x: the data with which both are run once.
    """

    def __init__(self, model: Callable[..., Any], guide: Callable[..., Any], x: Tensor) -> None:
        super().__init__()
        # Not by attribute, which would make a module of the guide a part of this one.
        vars(self)["model"], vars(self)["guide"] = model, guide
        with poutine.block(), seeded(0, x.device), pyro.validation_enabled(False):  # noqa: FBT003
            guide_trace: Any = poutine.trace(guide).get_trace(x)
            model_trace: Any = poutine.trace(poutine.replay(model, guide_trace)).get_trace(x)
        registered: dict[str, Tensor] = {}
        for trace in (guide_trace, model_trace):
            for name, site in trace.nodes.items():
                if site["type"] == "param":
                    registered[name] = site["value"].unconstrained()
        if not registered:
            raise checks.value_error(
                "at least one parameter in model or guide",
                "none",
                "Register it by pyro.param or pyro.module.",
            )
        vars(self)["registered"] = registered

    def named_parameters(  # pyright: ignore[reportIncompatibleMethodOverride]
        self, *_: object, **__: object
    ) -> Iterator[tuple[str, nn.Parameter]]:
        """Yield names and unconstrained values of the parameters that Pyro holds."""
        for name, value in vars(self)["registered"].items():
            yield name.replace("$$$", "."), value

    def parameters(self, recurse: bool = True) -> Iterator[nn.Parameter]:  # noqa: FBT001, FBT002
        """Yield the parameters."""
        for _, value in self.named_parameters():
            yield value

    def num_examples(self, x: Tensor) -> int:
        """Return the length of the first dimension."""
        return len(x) if x.dim() else 1


def as_pair(pair: Pair | Functions, x: Tensor) -> Pair:
    """Return `pair` itself, or a `FunctionPair` of a model and a guide.

    Raises:
        TypeError: neither a pair nor two functions.
    """
    if isinstance(pair, Pair):
        return pair
    if isinstance(pair, tuple) and len(pair) == 2 and all(map(callable, pair)):
        return FunctionPair(*pair, x)
    raise checks.type_error(
        "a ppl_vae.Pair, or a Pyro model and its guide as a tuple of two functions",
        type(pair).__name__,
        "Pass (model, guide).",
    )
