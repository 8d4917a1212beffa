"""Images of MNIST's shape that need no file: no time and no wait depends on a pixel."""

from __future__ import annotations

from typing import Any

import torch

from ppl_vae import ImageData, seeded


def random_images(count: int, **options: Any) -> ImageData:  # noqa: ANN401
    """Return so many images of random bytes, with the options of `ImageData.from_tensor`."""
    with seeded(0):
        images = torch.randint(256, (count, 1, 28, 28), dtype=torch.uint8)
    return ImageData.from_tensor(images, **options)
