"""Where a latent's numbers stand: by particle, by example, and within an example."""

from __future__ import annotations

import math
from dataclasses import dataclass

from torch import Tensor

from ppl_vae.diagnostics.evidence.density.particles import Particles
from ppl_vae.elbos.sites.traces import Site


@dataclass(frozen=True)
class Layout:
    """How a latent's values, with all dimensions, become rows of numbers per example."""

    shape: tuple[int, ...]
    particle_axis: int
    example_axis: int | None

    @classmethod
    def of(cls, site: Site, value: Tensor, particles: Particles) -> Layout:
        """Return that of a site in a vectorised trace, whose value is `value` in the end."""
        event = value.dim() - (site["value"].dim() - site["fn"].event_dim)
        frames = {f.name: f for f in site["cond_indep_stack"]}
        plate = frames.get(particles.plate)
        return cls(
            tuple(value.shape),
            -particles.depth - 1 - event,
            None if plate is None else plate.dim - event,
        )

    @property
    def size(self) -> int:
        """Numbers per example."""
        return math.prod(self._rest)

    @property
    def _axes(self) -> list[int]:
        return [a for a in (self.particle_axis, self.example_axis) if a is not None]

    @property
    def _rest(self) -> list[int]:
        return [s for n, s in enumerate(self.shape) if n - len(self.shape) not in self._axes]

    def pack(self, value: Tensor) -> Tensor:
        """Return (particles, examples, size)."""
        if self.example_axis is None:
            moved = value.movedim(self.particle_axis, 0)
            return moved.reshape(len(moved), 1, -1)
        moved = value.movedim(self._axes, (0, 1))
        return moved.reshape(*moved.shape[:2], -1)

    def unpack(self, rows: Tensor) -> Tensor:
        """Return the value of (particles, examples, size)."""
        if self.example_axis is None:
            return rows.reshape(len(rows), *self._rest).movedim(0, self.particle_axis)
        return rows.reshape(*rows.shape[:2], *self._rest).movedim((0, 1), self._axes)
