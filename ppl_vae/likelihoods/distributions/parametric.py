"""What the distributions of this folder have in common."""

from __future__ import annotations

from typing import Any, ClassVar

import torch
from pyro.distributions import TorchDistribution


class Parametric(TorchDistribution):
    """A distribution over numbers whose named parts all have the batch shape.

    A subclass says their names, and sets them before it calls ``super().__init__``.
    """

    parts: ClassVar[tuple[str, ...]]

    def expand(self, batch_shape: Any, _instance: Any = None) -> Any:  # noqa: ANN401
        """Return the distribution over a larger batch shape."""
        shape = torch.Size(batch_shape)
        new: Any = self._get_checked_instance(type(self), _instance)
        for name in self.parts:
            setattr(new, name, getattr(self, name).expand(shape))
        TorchDistribution.__init__(new, shape, validate_args=False)
        new._validate_args = self._validate_args
        return new
