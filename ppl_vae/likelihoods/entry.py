"""What an entry of LIKELIHOODS says."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from typing import Any

from pyro.distributions import TorchDistribution
from torch import Tensor

from ppl_vae import checks

# From a distribution and data to numbers of the data's shape, by name.
Formulas = Callable[[Any, Tensor], dict[str, Tensor]]


def as_it_is(x: Tensor) -> Tensor:
    """Return `x`."""
    return x


def no_parts(fn: Any, x: Tensor) -> dict[str, Tensor]:  # noqa: ANN401
    """Return nothing: the log-density is not split."""
    return {}


@dataclass(frozen=True)
class Head:
    """One raw real number per feature, from which the link makes a parameter.

    Attributes:
        name: the link's argument.
        start: where it starts if it is a free parameter.
        is_free: whether it is by default one free parameter per feature, the same for all
            examples; else the decoder gives it for every example.
        size: the option that says how many numbers it is per feature, along a last dimension; ""
            for a single one without that dimension.
    """

    name: str
    start: float = 0.0
    is_free: bool = False
    size: str = ""


@dataclass(frozen=True)
class Likelihood:
    """A distribution of data given a decoder's raw outputs, with what else is needed of it.

    Attributes:
        summary: what it is, in a line.
        heads: the raw outputs.
        link: from the heads, by name and of shapes that broadcast, to a distribution whose batch
            shape is theirs (without the last dimension of heads that have a size). It draws the
            data, and its ``mean`` is what pictures show.
        support: raises unless data, under a name, can be scored; it takes the sizes by name.
        seen: what an encoder gets in place of the data: of a scale that suits a network.
        sizes: options that are whole numbers, with their defaults.
        family: the class name of the distributions that the checker's formulas are for.
        parts: the checker's parts of the log-density, by name.
        wrong: functions that give what is met in place of the log-density, by name, in the order
            in which they are tried.
    """

    summary: str
    heads: tuple[Head, ...]
    link: Callable[..., TorchDistribution]
    support: Callable[..., Tensor]
    family: str
    wrong: tuple[Formulas, ...]
    parts: Formulas = no_parts
    seen: Callable[..., Tensor] = as_it_is
    sizes: Mapping[str, int] = field(default_factory=dict)

    def check(self, x: Tensor) -> None:
        """Raise ValueError unless every entry of `x` can be scored."""
        self.support("x", x, **self.sizes)

    def encoder_input(self, x: Tensor) -> Tensor:
        """Return what an encoder gets in place of `x`, of its shape."""
        return self.seen(x, **self.sizes)

    def outputs(self, head: Head) -> int:
        """Return how many numbers per feature a head is."""
        return self.sizes[head.size] if head.size else 1

    def with_options(self, *, per_example: object = (), **sizes: int) -> Likelihood:
        """Return the entry with other sizes, or with free heads that the decoder is to give.

        Args:
            per_example: names of heads that are free by default.
            **sizes: in place of the entry's own.

        Raises:
            TypeError: a size is not an int, or `per_example` is no list.
            ValueError: an option or a head that is not known, or a size below 1.
        """
        for option, value in sizes.items():
            checks.name("a likelihood's option", option, ("per_example", *self.sizes))
            checks.count(option, value)
        if not isinstance(per_example, (list, tuple)):
            raise checks.type_error(
                "per_example as a list of heads",
                type(per_example).__name__,
                "For instance ['log_scale'].",
            )
        names = [head.name for head in self.heads]
        given = {checks.name("every entry of per_example", name, names) for name in per_example}
        heads = tuple(
            replace(head, is_free=head.is_free and head.name not in given) for head in self.heads
        )
        return replace(self, heads=heads, sizes={**self.sizes, **sizes})
