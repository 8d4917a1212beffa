"""Images as bytes, and the ways to make them binary."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from ppl_vae import checks
from ppl_vae.data.pixels import BINARIZE, draw, pixels, require_bytes, require_range
from ppl_vae.data.tensors import as_bytes, as_labels
from ppl_vae.seeding import seeded

Arrays = tuple[Tensor, Tensor]


class ImageData:
    """Images with labels, kept as bytes; `batch` makes floats of them.

    How a grey pixel becomes binary, by `binarize`:

    * ``dynamic``: a fresh draw at every use, 1 with probability pixel / 255;
    * ``static``: one such draw, made here and kept;
    * ``threshold``: 1 where the pixel is at least 128;
    * ``none``: not at all; pixels are pixel / 255, in [0, 1].

    `pixel_range` then maps [0, 1] to another interval: (-1, 1) for Normal pixels.

    Args:
        images: bytes, (count, channels, height, width). `from_tensor` takes other shapes and
            floats, `from_folder` files.
        labels: integers, (count,); zeros if there are none.
        binarize: one of the four.
        pixel_range: the values of black and white in a batch, the first below the second.
        with_labels: whether batches are ``(images, labels)``, for a program of two arguments.
        classes: names of the labels 0, 1, ..., if they have some.
        name: what to call the data.
        split: which part of it this is.
        seed: of the ``static`` draw.

    Attributes:
        images: the bytes, after a ``static`` or ``threshold`` binarisation.
        image_shape: (channels, height, width).
        has_labels: whether labels were given.

    Raises:
        TypeError: `images` is not a tensor of bytes, labels are not integers, or `pixel_range` is
            not two numbers.
        ValueError: it is empty, or not of four dimensions, or has not one label per image, or
            none where they are to be in batches, or the way to binarise is unknown, or
            `pixel_range` is not finite and rising.
    """

    def __init__(
        self,
        images: Tensor,
        labels: Tensor | None = None,
        *,
        binarize: str = "dynamic",
        pixel_range: tuple[float, float] = (0.0, 1.0),
        with_labels: bool = False,
        classes: Sequence[str] | None = None,
        name: str = "images",
        split: str = "all",
        seed: int = 0,
    ) -> None:
        checks.nonempty("images", require_bytes(images))
        checks.name("binarize", binarize, BINARIZE)
        if images.dim() != 4:
            raise checks.value_error(
                "images of shape (count, channels, height, width)",
                f"shape {tuple(images.shape)}",
                "Add the dimension that is missing, of size 1, or use ImageData.from_tensor.",
            )
        self.has_labels, self.with_labels = labels is not None, with_labels
        if with_labels and labels is None:
            raise checks.value_error("labels for batches to hold", "none", "Pass labels.")
        self.labels = _labels(labels, images)
        self.pixel_range = require_range(pixel_range)
        if binarize == "static":
            with seeded(seed, images.device):
                images = draw(images).to(torch.uint8) * 255
        elif binarize == "threshold":
            images = (images >= 128).to(torch.uint8) * 255
        self.images = images
        self.binarize, self.name, self.split = binarize, name, split
        if classes is not None:
            checks.instance("classes", classes, Sequence, "a list of names", "Or leave it out.")
        self.classes = None if classes is None else tuple(classes)
        self.image_shape = tuple(images.shape[1:])

    @classmethod
    def from_tensor(
        cls,
        images: Tensor | np.ndarray[Any, Any],
        labels: Tensor | Sequence[int] | None = None,
        *,
        channels: str | None = None,
        **options: Any,  # noqa: ANN401
    ) -> ImageData:
        """Return a user's own images, of any size, grey or colour.

        Kept as bytes: a pixel p in [0, 1] becomes the byte nearest to 255 p, so that it is changed
        by 1/510 at most, and by nothing if it is a multiple of 1/255.

        Args:
            images: (count, height, width), (count, channels, height, width) or (count, height,
                width, channels), channels 1 or 3; bytes from 0 to 255 (not copied), floats in
                [0, 1], or booleans.
            labels: integers, (count,).
            channels: ``first`` or ``last``, where both would fit the shape.
            **options: `binarize`, `pixel_range`, `with_labels`, `classes`, `name`, `split` and
                `seed`, as for `ImageData`.

        Raises:
            TypeError: images of another kind or dtype, or labels that are not integers.
            ValueError: another shape, or one that could be read in two ways; no image; NaN; values
                outside of the range; bytes that are all 0 or 1; not one label per image.

        Example:
            >>> ImageData.from_tensor(torch.rand(5, 12, 10), binarize="none", name="noise")
            ImageData(noise, split=all, 5 images of (1, 12, 10), binarize=none)
        """
        labels = None if labels is None else as_labels(labels)
        return cls(as_bytes(images, channels), labels, **options)

    @classmethod
    def from_folder(
        cls,
        path: str | Path,
        *,
        size: int | tuple[int, int] | None = None,
        grey: bool | None = None,
        **options: Any,  # noqa: ANN401
    ) -> ImageData:
        """Return the images in a folder: PNG, JPEG, BMP, GIF, TIFF, WebP or PNM files.

        Where the folder holds folders with images, these are the classes, in alphabetical order,
        and label their images. Images come in the order of their paths. Transparent pixels become
        black, a camera's orientation is followed, of an animation the first image is taken.

        Args:
            path: the folder.
            size: height and width, or one number for both, to which every image is resized; None
                takes them as they are, and they must then all be of one size.
            grey: make every image grey (True) or coloured (False); None takes them as they are,
                and they must then be all grey or all in colour.
            **options: `binarize`, `pixel_range`, `with_labels`, `name`, `split` and `seed`, as
                for `ImageData`.

        Raises:
            FileNotFoundError: no such folder, or no image in it.
            TypeError: `size` is not a whole number or two.
            ValueError: a file that cannot be read; images of several sizes, or grey and coloured
                ones; images beside the folders of classes; `size` below 1.
        """
        from ppl_vae.data.folders import read_folder

        images, labels, classes = read_folder(Path(path), size=size, grey=grey)
        return cls(
            images, labels, **{"classes": classes, "name": Path(path).resolve().name, **options}
        )

    def __len__(self) -> int:
        return len(self.images)

    def __repr__(self) -> str:
        mapped = f", pixel_range={self.pixel_range}" if self.pixel_range != (0.0, 1.0) else ""
        labelled = ", with labels" if self.with_labels else ""
        return (
            f"ImageData({self.name}, split={self.split}, {len(self)} images of "
            f"{self.image_shape}, binarize={self.binarize}{mapped}{labelled})"
        )

    def __getitem__(self, index: slice | Tensor) -> ImageData:
        """Return a part of the data, by a slice or a tensor of indices.

        Raises:
            TypeError: `index` is a number.
        """
        if isinstance(index, int):
            raise checks.type_error(
                "a slice or a tensor of indices",
                f"the number {index}",
                f"Use data[{index}:{index + 1}] for one image, data.images[{index}] for its "
                "bytes.",
            )
        return self._like(self.images[index], self.labels[index])

    def to(self, device: torch.device | str) -> ImageData:
        """Return the data on `device`, still as bytes."""
        return self._like(self.images.to(device), self.labels.to(device))

    def batch(self, index: slice | Tensor, *, dtype: torch.dtype | None = None) -> Any:  # noqa: ANN401
        """Return the images at `index` as floats, (count, *image_shape).

        With labels in batches, a tuple of them and the labels, int64, (count,).

        Dynamic binarisation draws from torch's global stream of the data's device; wrap the call
        in ``ppl_vae.seeded`` to choose it.

        Args:
            index: a slice or a tensor of indices.
            dtype: torch's default dtype if None.
        """
        # Static and thresholded images are binary already.
        how = self.binarize if self.binarize == "dynamic" else "none"
        found = pixels(self.images[index], how, dtype=dtype, pixel_range=self.pixel_range)
        return (found, self.labels[index].long()) if self.with_labels else found

    def _like(self, images: Tensor, labels: Tensor) -> ImageData:
        part = object.__new__(ImageData)
        part.__dict__.update(self.__dict__, images=images, labels=labels)
        return part


def _labels(labels: Tensor | None, images: Tensor) -> Tensor:
    if labels is None:
        return torch.zeros(len(images), dtype=torch.long, device=images.device)
    checks.instance("labels", labels, Tensor, "a tensor of integers", "Use ImageData.from_tensor.")
    if labels.shape != images.shape[:1]:
        raise checks.value_error(
            f"{len(images)} labels, one per image",
            f"shape {tuple(labels.shape)}",
            "Pass as many labels as images.",
        )
    if labels.is_floating_point() or labels.is_complex():
        raise checks.type_error(
            "labels as integers", f"dtype {labels.dtype}", "Pass labels.long()."
        )
    return labels.to(images.device)
