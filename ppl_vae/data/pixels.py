"""Bytes to floats: binarised, or scaled."""

from __future__ import annotations

import math

import torch
from torch import Tensor

from ppl_vae import checks
from ppl_vae.seeding import Seed, seeded

BINARIZE = ("dynamic", "static", "threshold", "none")


def binarize(images: Tensor, how: str = "dynamic", *, seed: Seed = 0) -> Tensor:
    """Make a binary image of every grey one.

    Args:
        images: bytes, any shape.
        how: ``dynamic`` or ``static``, a draw that is 1 with probability pixel / 255;
            ``threshold``, 1 where the pixel is at least 128; ``none``, pixel / 255 itself.
        seed: of the draw: an int, a ``torch.Generator``, or None for a fresh stream.

    Returns:
        Zeros and ones (but for ``none``) of torch's default dtype, in the shape of `images`.

    Raises:
        TypeError: `images` is not a tensor of bytes.
        ValueError: an unknown way.

    Example:
        >>> binarize(torch.tensor([0, 255], dtype=torch.uint8)).tolist()
        [0.0, 1.0]
    """
    checks.name("how", how, BINARIZE)
    with seeded(seed, require_bytes(images).device):
        return pixels(images, how)


def pixels(
    images: Tensor,
    how: str,
    *,
    dtype: torch.dtype | None = None,
    pixel_range: tuple[float, float] = (0.0, 1.0),
) -> Tensor:
    """Return bytes as floats, binarised as `how` says.

        low + (high - low) b,   b = 1 if a random byte from 0..254 is below the pixel, else 0
                                (``dynamic``, ``static``);  pixel >= 128 (``threshold``);
                                pixel / 255 (``none``)

    Draws come from torch's global stream of the images' device. Nothing here depends on the
    values, or is read from the device, so that the function can be traced.

    Args:
        images: bytes, any shape; not checked.
        how: one of the four; not checked.
        dtype: of the result; torch's default dtype if None.
        pixel_range: low and high.

    Returns:
        Floats in [low, high], in the shape of `images`.
    """
    dtype = dtype or torch.get_default_dtype()
    if how in ("dynamic", "static"):
        found = draw(images).to(dtype)
    elif how == "threshold":
        found = (images >= 128).to(dtype)
    else:
        found = images.to(dtype) / 255
    low, high = pixel_range
    return found if (low, high) == (0.0, 1.0) else low + (high - low) * found


def draw(images: Tensor) -> Tensor:
    """Return True with probability pixel / 255, exactly: a byte from 0..254 lies below it."""
    return torch.randint_like(images, 255) < images


def require_bytes(images: object) -> Tensor:
    """Return `images`; raise TypeError unless it is a tensor of bytes."""
    if not isinstance(images, Tensor) or images.dtype != torch.uint8:
        came = f"dtype {images.dtype}" if isinstance(images, Tensor) else type(images).__name__
        raise TypeError(
            checks.message(
                "images as a tensor of bytes (torch.uint8)",
                came,
                "Convert pixels in [0, 1] with (255 * pixels).round().to(torch.uint8), or use "
                "ImageData.from_tensor.",
            )
        )
    return images


def require_range(pixel_range: object) -> tuple[float, float]:
    """Return black and white; raise unless they are two finite numbers that rise."""
    if (
        not isinstance(pixel_range, (tuple, list))
        or len(pixel_range) != 2
        or not all(isinstance(end, (int, float)) for end in pixel_range)
    ):
        raise TypeError(
            checks.message(
                "pixel_range as two numbers, of black and of white",
                repr(pixel_range),
                "Pass (0.0, 1.0) or (-1.0, 1.0).",
            )
        )
    low, high = map(float, pixel_range)
    if not (math.isfinite(low) and math.isfinite(high) and low < high):
        raise ValueError(
            checks.message(
                "pixel_range finite, the first below the second",
                repr(pixel_range),
                "Pass (0.0, 1.0) or (-1.0, 1.0).",
            )
        )
    return low, high
