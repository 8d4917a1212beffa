"""From a decoder's output to p(x | z): the part of a VAE that a likelihood's entry decides."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from typing import Any

import pyro.distributions as dist
import torch
from torch import Tensor, nn

from ppl_vae import checks
from ppl_vae.likelihoods.entry import Head, Likelihood
from ppl_vae.likelihoods.registry import LIKELIHOODS

# A name in LIKELIHOODS, or a mapping of "name" and options of that entry.
Spec = str | Mapping[str, Any]


def entry(likelihood: Spec) -> Likelihood:
    """Return the entry that a name, or a mapping of ``name`` and options, stands for.

    Args:
        likelihood: a name in LIKELIHOODS, or for instance ``{"name": "categorical",
            "num_classes": 4}`` or ``{"name": "normal", "per_example": ["log_scale"]}``.

    Raises:
        TypeError: an option is of the wrong kind.
        ValueError: an unknown name, option or head, or a size below 1.

    Example:
        >>> [head.name for head in entry("negative-binomial").heads]
        ['log_mean', 'log_total_count']
    """
    options: dict[str, Any] = (
        dict(likelihood) if isinstance(likelihood, Mapping) else {"name": likelihood}
    )
    found = LIKELIHOODS[checks.name("likelihood", options.pop("name", None), LIKELIHOODS)]
    return found.with_options(**options) if options else found


class Observation(nn.Module):
    """A likelihood at one shape of data, with its free parameters.

    Args:
        likelihood: a name in LIKELIHOODS, or a mapping of ``name`` and options.
        event_shape: the data's shape, at least one dimension; the first are channels.
        given: heads that are neither decoded nor parameters here, but passed at each call.

    Attributes:
        output_shape: what the decoder has to give per example: `event_shape`, with as many times
            the channels as there are numbers per feature.

    Example:
        >>> observed = Observation("zero-inflated-negative-binomial", (5,))
        >>> observed.output_shape, observed.log_total_count.shape
        ((10,), torch.Size([5]))
        >>> observed(torch.zeros(3, 10)).event_shape
        torch.Size([5])
    """

    def __init__(
        self, likelihood: Spec, event_shape: tuple[int, ...], given: Collection[str] = ()
    ) -> None:
        super().__init__()
        self._likelihood, self._shape, self._given = likelihood, tuple(event_shape), tuple(given)
        chosen = self.entry
        for head in chosen.heads:
            if head.is_free and head.name not in given:
                start = torch.full(self._shape, head.start)
                self.register_parameter(head.name, nn.Parameter(start))
        self._sizes = [chosen.outputs(head) for head in self._decoded]
        self.output_shape = (sum(self._sizes) * self._shape[0], *self._shape[1:])

    @property
    def entry(self) -> Likelihood:
        """The entry, with its options."""
        # Looked up anew: its functions are not to be pickled with every pair.
        return entry(self._likelihood)

    @property
    def _decoded(self) -> list[Head]:
        heads = self.entry.heads
        return [head for head in heads if not head.is_free and head.name not in self._given]

    def check(self, x: Tensor) -> None:
        """Raise ValueError unless every entry of `x` can be scored."""
        self.entry.check(x)

    def encoder_input(self, x: Tensor) -> Tensor:
        """Return what the encoder gets in place of `x`, of its shape."""
        return self.entry.encoder_input(x)

    def heads(self, output: Tensor) -> dict[str, Tensor]:
        """Return the heads by name, free parameters too, from (*batch, *output_shape).

        A decoded head is (*batch, *event_shape), with its numbers along one more dimension at the
        end if it has a size; a free one is (*event_shape).
        """
        dims = len(self._shape)
        split = output.unflatten(-dims, (-1, self._shape[0])).split(self._sizes, -dims - 1)
        found: dict[str, Tensor] = dict(self.named_parameters())
        for head, numbers in zip(self._decoded, split, strict=True):
            one = numbers.movedim(-dims - 1, -1)
            found[head.name] = one if head.size else one.squeeze(-1)
        return found

    def forward(self, output: Tensor, **given: Tensor) -> dist.TorchDistribution:
        """Return p(x | z): batch shape (*batch), event shape `event_shape`."""
        fn = self.entry.link(**self.heads(output), **given)
        return fn.to_event(len(self._shape))
