"""A model that draws its data instead of observing them."""

from __future__ import annotations

from collections.abc import Callable
from functools import wraps
from typing import Any

from pyro.poutine.uncondition_messenger import UnconditionMessenger


class _Drawing(UnconditionMessenger):
    """Draws what is observed; what ``pyro.deterministic`` computes stays computed."""

    def _pyro_sample(self, msg: Any) -> None:  # noqa: ANN401
        if not msg["infer"].get("_deterministic"):
            super()._pyro_sample(msg)


def drawing(model: Callable[..., Any]) -> Callable[..., Any]:
    """Return a model that draws what `model` observes."""

    @wraps(model, updated=())
    def of(*args: Any, **options: Any) -> Any:  # noqa: ANN401
        with _Drawing():
            return model(*args, **options)

    return of
