"""The examples that a pair explains least, as pictures."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import torch
from matplotlib.axes import Axes
from torch import Tensor

from ppl_vae import plots
from ppl_vae.diagnostics.evidence.subject import Subject
from ppl_vae.vae import ImagePair

COUNT = 10


@dataclass(frozen=True, eq=False)
class WorstExamples:
    """Images of the least evidence, the worst first.

    Attributes:
        indices: of the examples, (count,).
        images: as the pair scored them, (count, channels, height, width).
        reconstructions: of the same shape, or None where the pair makes none.
        pixel_range: the values that are black and white.
    """

    indices: Tensor
    images: Tensor
    reconstructions: Tensor | None
    pixel_range: tuple[float, float]

    def plot(self) -> Axes:
        """Draw the images in a row, under each its reconstruction if there are some."""
        images, count = self.images.cpu().numpy(), len(self.images)
        low, high = self.pixel_range
        if self.reconstructions is None:
            return plots.image_grid(images, columns=count, vmin=low, vmax=high)
        outputs = self.reconstructions.cpu().numpy()
        return plots.reconstructions(images, outputs, columns=count, vmin=low, vmax=high)


@torch.no_grad()
def worst_examples(subject: Subject, log_evidence: Tensor) -> WorstExamples | None:
    """Return the ten examples of the least evidence; None unless the pair is of images.

    Args:
        subject: the pair with its examples.
        log_evidence: of them, (batch,).
    """
    pair = subject.pair
    if not isinstance(pair, ImagePair):
        return None
    order = log_evidence.argsort()[:COUNT].cpu()
    reconstruct: Callable[..., Tensor] | None = getattr(pair, "reconstruct", None)
    images: dict[int, Tensor] = {}
    outputs: dict[int, Tensor] = {}
    first = 0
    for x in subject.chunks():
        for index in order.tolist():
            if first <= index < first + len(x):
                one = x[index - first : index - first + 1]
                pixels = next(iter(pair.arguments(one).values()))
                images[index] = pixels.reshape(pair.image_shape).float().nan_to_num()
                if reconstruct is not None:
                    outputs[index] = reconstruct(one).reshape(pair.image_shape).float()
        first += len(x)
    low, high = pair.data_options.get("pixel_range", (0.0, 1.0))
    return WorstExamples(
        order,
        torch.stack([images[i] for i in order.tolist()]),
        torch.stack([outputs[i] for i in order.tolist()]) if outputs else None,
        (low, high),
    )
