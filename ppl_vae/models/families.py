"""What priors and posteriors of pairs have in common: they are chosen by plain data."""

from __future__ import annotations

import inspect
from collections.abc import Mapping
from typing import Any, ClassVar, TypeVar

from torch import nn

from ppl_vae import checks
from ppl_vae.flows import FLOWS

FamilyT = TypeVar("FamilyT", bound="Family")


class Family(nn.Module):
    """A prior or a posterior: a choice, until a pair is made with it and gives a copy parameters.

    Attributes:
        name: under which it is registered.
        options: the constructor's arguments, of JSON's types.
    """

    name: ClassVar[str]

    def __init__(self, **options: Any) -> None:  # noqa: ANN401
        super().__init__()
        self.options = options

    @property
    def config(self) -> dict[str, Any]:
        """The plain data from which it can be chosen again."""
        return {"name": self.name, **self.options}

    def extra_repr(self) -> str:
        """Return the options, for the module's text."""
        return ", ".join(f"{name}={value!r}" for name, value in self.options.items())


def choose(role: str, given: object, known: Mapping[str, type[FamilyT]]) -> FamilyT:
    """Return a new family, without parameters as yet.

    Args:
        role: ``prior`` or ``posterior``.
        given: a family, whose options are taken over; its name; or a mapping of ``name`` and
            options.
        known: the families of that role by name.

    Raises:
        TypeError: `given` is something else, or an option of a wrong kind.
        ValueError: an unknown name or option, one missing, or one out of its range.
    """
    if isinstance(given, tuple(known.values())):
        given = given.config
    if not isinstance(given, (str, Mapping)):
        names = ", ".join(cls.__name__ for cls in known.values())
        raise checks.type_error(
            f"{role} as one of {names}, a name, or a mapping of name and options",
            given.__name__ if isinstance(given, type) else type(given).__name__,
            f"For another {role} override the method {role} in a subclass.",
        )
    options: dict[str, Any] = {"name": given} if isinstance(given, str) else dict(given)
    cls = known[checks.name(role, options.pop("name", None), known)]
    parameters = inspect.signature(cls).parameters
    for option in options:
        checks.name(f"option of {cls.__name__}", option, parameters)
    for parameter in parameters.values():
        if parameter.default is parameter.empty and parameter.name not in options:
            raise checks.value_error(
                f"{parameter.name} of {cls.__name__}",
                "none",
                f'Pass {{"name": "{cls.name}", "{parameter.name}": ...}}.',
            )
    return cls(**options)


def flow_options(kind: object, transforms: object, hidden: object) -> dict[str, Any]:
    """Return the options of a flow of zuko's, checked."""
    return {
        "kind": checks.name("kind of flow", kind, FLOWS),
        "transforms": checks.count("transforms", transforms),
        "hidden": checks.sizes("hidden", hidden),
    }
