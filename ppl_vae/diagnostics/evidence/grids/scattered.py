"""log p(x_i, z) at points that every example has for itself, as many as it needs."""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch
from torch import Tensor

from ppl_vae import checks
from ppl_vae.batch import Data
from ppl_vae.diagnostics.evidence.density.log_joint import LogJoint
from ppl_vae.diagnostics.evidence.density.particles import Particles
from ppl_vae.diagnostics.evidence.importance_weights import BLOCK_BYTES
from ppl_vae.diagnostics.memory import peak_bytes

_PROBE = 12
# There exp and sigmoid have lost their numbers, and a density may have become NaN.
_FAR = 30.0


@dataclass(frozen=True)
class Scattered:
    """The joint density in unconstrained coordinates, at cells of points with an owner each.

    Attributes:
        joint: the density.
        splits: whether examples can be taken by themselves.
        x: the examples.
        room: how many points of one example the memory budget holds at once.
        num_examples: in `x`.
    """

    joint: LogJoint
    splits: bool
    x: Data
    room: int
    num_examples: int

    @classmethod
    def of(cls, particles: Particles, joint: LogJoint, x: Data, max_bytes: int) -> Scattered:
        """Measure how much memory a point takes, and return the density."""
        one = joint.on(x[:1]) if particles.splits else joint
        sample = one.from_guide(_PROBE)
        needed = peak_bytes(lambda: one.log_model(sample)) // _PROBE
        room = max(1, min(max_bytes, BLOCK_BYTES) // max(needed, 1))
        count = len(x) if particles.splits else particles.num_examples
        return cls(joint, particles.splits, x, room, count)

    def __call__(self, owner: Tensor, u: Tensor) -> Tensor:
        """Return log p(x_owner, u) in nats, (points, cells).

        `owner` says which example a cell is of, (cells,); `u` is (points, cells, dim).

        Raises:
            ValueError: NaN or plus infinity where numbers are not extreme.
        """
        found = (self._alone if self.splits else self._together)(owner, u).double()
        bad = found.isnan() | (found == math.inf)
        near = bad & (u.abs() < _FAR).all(-1)
        if bool(near.any()):
            where = tuple(near.nonzero()[0].tolist())
            raise ValueError(
                checks.message(
                    "log p(x, z) as a number",
                    f"{found[where].item()} at unconstrained z = {u[where].tolist()}",
                    "Look for an overflow in the model.",
                )
            )
        return found.masked_fill(bad, -math.inf)

    def _alone(self, owner: Tensor, u: Tensor) -> Tensor:
        size = max(1, self.room // len(u))
        parts = [
            self.joint.on(self.x[some]).log_model(points.to(self.x.dtype))
            for some, points in zip(owner.split(size), u.split(size, 1), strict=True)
        ]
        return torch.cat(parts, 1)

    def _together(self, owner: Tensor, u: Tensor) -> Tensor:
        """Put every cell's points into the row of its owner; what is left over is not used."""
        order = owner.argsort(stable=True)
        row = owner[order].contiguous()
        place = torch.arange(len(owner), device=owner.device) - torch.searchsorted(row, row)
        most = int(torch.bincount(owner).max())
        padded = u.new_zeros(len(u), most, self.num_examples, u.shape[-1])
        padded[:, place, row] = u[:, order]
        rows = padded.flatten(0, 1).to(self.x.dtype).split(self.room)
        found = torch.cat([self.joint.log_model(part) for part in rows])
        result = found.new_empty(u.shape[:2])
        result[:, order] = found.unflatten(0, (len(u), -1))[:, place, row]
        return result
