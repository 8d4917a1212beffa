"""Images as bytes, and the ways to make them binary."""

from __future__ import annotations

import torch
from torch import Tensor

from ppl_vae import checks
from ppl_vae.seeding import Seed, seeded

Arrays = tuple[Tensor, Tensor]

BINARIZE = ("dynamic", "static", "threshold", "none")


def binarize(images: Tensor, *, seed: Seed = 0) -> Tensor:
    """Draw a binary image from every grey one: a pixel is 1 with probability pixel / 255.

    A byte x is 1 exactly when a random byte drawn from 0..254 lies below x.

    Args:
        images: bytes, any shape.
        seed: an int, a ``torch.Generator``, or None for a fresh stream.

    Returns:
        Zeros and ones of torch's default dtype, in the shape of `images`.

    Raises:
        TypeError: `images` is not a tensor of bytes.

    Example:
        >>> binarize(torch.tensor([0, 255], dtype=torch.uint8)).tolist()
        [0.0, 1.0]
    """
    with seeded(seed, _bytes(images).device):
        return _draw(images).to(torch.get_default_dtype())


class ImageData:
    """Images with labels, kept as bytes; `batch` makes floats of them.

    How a grey pixel becomes binary, by `binarize`:

    * ``dynamic``: a fresh draw at every use, 1 with probability pixel / 255;
    * ``static``: one such draw, made here and kept;
    * ``threshold``: 1 where the pixel is at least 128;
    * ``none``: not at all; pixels are pixel / 255, in [0, 1].

    Args:
        images: bytes, (count, channels, height, width).
        labels: integers, (count,); zeros if there are none.
        binarize: one of the four.
        name: what to call the data.
        split: which part of it this is.
        seed: of the ``static`` draw.

    Attributes:
        images: the bytes, after a ``static`` or ``threshold`` binarisation.
        image_shape: (channels, height, width).

    Raises:
        TypeError: `images` is not a tensor of bytes.
        ValueError: it is empty, or not of four dimensions, or has not one label per image, or the
            way to binarise is unknown.
    """

    def __init__(
        self,
        images: Tensor,
        labels: Tensor | None = None,
        *,
        binarize: str = "dynamic",
        name: str = "images",
        split: str = "all",
        seed: int = 0,
    ) -> None:
        checks.nonempty("images", _bytes(images))
        checks.name("binarize", binarize, BINARIZE)
        if images.dim() != 4:
            raise ValueError(
                checks.message(
                    "images of shape (count, channels, height, width)",
                    f"shape {tuple(images.shape)}",
                    "Add the dimension that is missing, of size 1.",
                )
            )
        if labels is None:
            labels = torch.zeros(len(images), dtype=torch.long, device=images.device)
        if labels.shape != images.shape[:1]:
            raise ValueError(
                checks.message(
                    f"{len(images)} labels, one per image",
                    f"shape {tuple(labels.shape)}",
                    "Pass as many labels as images.",
                )
            )
        if binarize == "static":
            with seeded(seed, images.device):
                images = _draw(images).to(torch.uint8) * 255
        elif binarize == "threshold":
            images = (images >= 128).to(torch.uint8) * 255
        self.images, self.labels = images, labels
        self.binarize, self.name, self.split = binarize, name, split
        self.image_shape = tuple(images.shape[1:])

    def __len__(self) -> int:
        return len(self.images)

    def __repr__(self) -> str:
        return (
            f"ImageData({self.name}, split={self.split}, {len(self)} images of "
            f"{self.image_shape}, binarize={self.binarize})"
        )

    def __getitem__(self, index: slice | Tensor) -> ImageData:
        """Return a part of the data, by a slice or a tensor of indices."""
        return self._like(self.images[index], self.labels[index])

    def to(self, device: torch.device | str) -> ImageData:
        """Return the data on `device`, still as bytes."""
        return self._like(self.images.to(device), self.labels.to(device))

    def batch(self, index: slice | Tensor, *, dtype: torch.dtype | None = None) -> Tensor:
        """Return the images at `index` as floats, (count, *image_shape).

        Dynamic binarisation draws from torch's global stream of the data's device; wrap the call
        in ``ppl_vae.seeded`` to choose it.

        Args:
            index: a slice or a tensor of indices.
            dtype: torch's default dtype if None.
        """
        dtype = dtype or torch.get_default_dtype()
        images = self.images[index]
        if self.binarize == "dynamic":
            return _draw(images).to(dtype)
        return images.to(dtype) / 255

    def _like(self, images: Tensor, labels: Tensor) -> ImageData:
        part = object.__new__(ImageData)
        part.__dict__.update(self.__dict__, images=images, labels=labels)
        return part


def _draw(images: Tensor) -> Tensor:
    return torch.randint_like(images, 255) < images


def _bytes(images: object) -> Tensor:
    if not isinstance(images, Tensor) or images.dtype != torch.uint8:
        came = f"dtype {images.dtype}" if isinstance(images, Tensor) else type(images).__name__
        raise TypeError(
            checks.message(
                "images as a tensor of bytes (torch.uint8)",
                came,
                "Convert pixels in [0, 1] with (255 * pixels).round().to(torch.uint8).",
            )
        )
    return images
