"""An ELBO estimator with its claims."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from pyro.infer import ELBO

from ppl_vae import checks
from ppl_vae.elbos.kl_weights.estimator import weigh
from ppl_vae.elbos.kl_weights.weight import KLWeight

CLAIMS = ("unbiased", "biased", "exact")


@dataclass(frozen=True)
class Estimator:
    """A ``pyro.infer.ELBO`` class and what it claims to do, as data.

    Attributes:
        cls: the class; it takes ``num_particles``.
        bound: what it estimates: ``elbo``, or an importance-weighted bound, which is the ELBO for
            one particle.
        value: ``unbiased``, ``biased`` or ``exact`` (unbiased and without noise).
        gradient: the same of its gradient.
        condition: when the two claims hold; empty where they hold for every pair it serves.
        needs: what it asks of model and guide.
        cost: of one gradient, in words.
        source: where it comes from.
        options: further arguments of the class.
    """

    cls: type[ELBO]
    bound: str = "elbo"
    value: str = "unbiased"
    gradient: str = "unbiased"
    condition: str = ""
    needs: tuple[str, ...] = ()
    cost: str = ""
    source: str = ""
    options: Mapping[str, Any] = field(default_factory=dict)

    def __post_init__(self) -> None:
        checks.name("claim on the value", self.value, CLAIMS)
        checks.name("claim on the gradient", self.gradient, CLAIMS)

    @property
    def is_always_unbiased(self) -> bool:
        """Whether value and gradient are claimed without bias for every pair that it serves."""
        return "biased" not in (self.value, self.gradient) and not self.condition

    @property
    def claim(self) -> str:
        """What is claimed of value and gradient, in words."""
        if self.value == self.gradient:
            return self.value
        return f"{self.value}, with a gradient that is {self.gradient}"

    @property
    def fewest_particles(self) -> int:
        """The fewest particles that the class takes."""
        return getattr(self.cls, "fewest_particles", 1)

    def make(
        self,
        *,
        num_particles: int | None = None,
        kl_weight: KLWeight = 1.0,
        free_bits: float = 0.0,
    ) -> ELBO:
        """Return the estimator that averages `num_particles` particles, the fewest if None.

        With `kl_weight` or `free_bits` it is a `WeightedELBO`.
        """
        count = self.fewest_particles if num_particles is None else num_particles
        checks.count("num_particles", count)
        elbo = self.cls(num_particles=count, **self.options)
        return weigh(elbo, kl_weight=kl_weight, free_bits=free_bits)
