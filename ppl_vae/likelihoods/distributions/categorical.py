"""Class labels that are numbers: grey levels."""

from __future__ import annotations

from typing import Any

import pyro.distributions as dist
import torch
from torch import Tensor


class Categorical(dist.Categorical):
    """A categorical distribution of whole numbers 0 to K - 1, held as floating-point numbers.

    Grey levels have an order and a mean, so this class has them too: ``mean`` is the expected
    label. Draws have the dtype of the logits, as all data of a pair have.

    Args:
        probs: of the K labels, (*batch, K), or `logits`.
        logits: unnormalised log-probabilities of the K labels, (*batch, K).
        validate_args: whether parameters and data are checked; None follows Pyro's setting.

    Example:
        >>> Categorical(logits=torch.zeros(4)).mean.item()
        1.5
    """

    @property
    def mean(self) -> Tensor:  # pyright: ignore[reportIncompatibleVariableOverride]
        """The expected label, (*batch)."""
        return (self.probs * self._labels()).sum(-1)

    @property
    def variance(self) -> Tensor:
        """The labels' variance, (*batch)."""
        gaps = self._labels() - self.mean.unsqueeze(-1)
        return (self.probs * gaps.square()).sum(-1)

    def expand(self, batch_shape: Any, _instance: Any = None) -> Any:  # noqa: ANN401
        """Return the distribution over a larger batch shape."""
        new = self._get_checked_instance(Categorical, _instance)
        return super().expand(batch_shape, new)

    def sample(self, sample_shape: Any = torch.Size()) -> Tensor:  # noqa: ANN401, B008
        """Draw labels, of the logits' dtype."""
        return super().sample(sample_shape).to(self._raw.dtype)

    def enumerate_support(self, expand: bool = True) -> Tensor:  # noqa: FBT001, FBT002
        """Return all labels, of the logits' dtype, along a new first dimension."""
        return super().enumerate_support(expand).to(self._raw.dtype)

    def _labels(self) -> Tensor:
        size = self._raw.shape[-1]
        return torch.arange(size, dtype=self._raw.dtype, device=self._raw.device)

    @property
    def _raw(self) -> Any:  # noqa: ANN401
        return self._param
