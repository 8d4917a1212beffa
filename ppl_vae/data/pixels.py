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
        Zeros and ones (except for ``none``) of torch's default dtype, in the shape of `images`.

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
    """Return bytes as floats in [low, high], binarised as `how` says; nothing is checked.

        low + (high - low) b,   b = 1 with probability pixel / 255 (``dynamic``, ``static``);
                                pixel >= 128 (``threshold``);  pixel / 255 (``none``)

    Draws come from torch's global stream of the images' device. Nothing here depends on the
    values, or is read from the device, so the function can be traced.
    """
    dtype = dtype or torch.get_default_dtype()
    if how in ("dynamic", "static"):
        scaled = draw(images).to(dtype)
    elif how == "threshold":
        scaled = (images >= 128).to(dtype)
    else:
        scaled = images.to(dtype) / 255
    low, high = pixel_range
    return scaled if (low, high) == (0.0, 1.0) else low + (high - low) * scaled


def draw(images: Tensor) -> Tensor:
    """Return True with probability pixel / 255, exactly.

        a < x  or  (a = x and b < x)  or  (a = b = 255 and c < x)

    for random bytes a and b from 0..255 and c from 0..254. Since 256 x + x = 257 x, the first two
    have probability 257 x / 65536; the third, x / (255 * 65536), makes it x / 255. It is needed
    so rarely that one c serves a whole image (the first dimension counts images): sharing it
    couples two pixels by 2 ** -32, the error of whole numbers from 32 random bits in any case.
    This takes half of the random bits that a float would.
    """
    count = images.numel()
    words = torch.randint(-(2**63), 2**63 - 1, ((count + 3) // 4,), device=images.device)
    bits = words.view(torch.uint8)
    a, b = (part.view(images.shape) for part in (bits[:count], bits[count : 2 * count]))
    each = images.shape[:1] + (1,) * (images.dim() - 1)
    c = torch.randint(255, each, dtype=torch.uint8, device=images.device)
    return is_one(images, a, b, c)


def is_one(x: Tensor, a: Tensor, b: Tensor, c: Tensor) -> Tensor:
    """Return whether pixels become 1, given their random bytes; see `draw`."""
    return (a < x) | ((a == x) & (b < x)) | ((a == 255) & (b == 255) & (c < x))


def require_bytes(images: object) -> Tensor:
    """Return `images`; raise TypeError unless it is a tensor of bytes."""
    if not isinstance(images, Tensor) or images.dtype != torch.uint8:
        came = f"dtype {images.dtype}" if isinstance(images, Tensor) else type(images).__name__
        raise checks.type_error(
            "images as a tensor of bytes (torch.uint8)",
            came,
            "Convert pixels in [0, 1] with (255 * pixels).round().to(torch.uint8), or use "
            "ImageData.from_tensor.",
        )
    return images


def require_range(pixel_range: object) -> tuple[float, float]:
    """Return black and white; raise unless they are two finite numbers that rise."""
    if (
        not isinstance(pixel_range, (tuple, list))
        or len(pixel_range) != 2
        or not all(isinstance(end, (int, float)) for end in pixel_range)
    ):
        raise checks.type_error(
            "pixel_range as two numbers, of black and of white",
            repr(pixel_range),
            "Pass (0.0, 1.0) or (-1.0, 1.0).",
        )
    low, high = map(float, pixel_range)
    if not (math.isfinite(low) and math.isfinite(high) and low < high):
        raise checks.value_error(
            "pixel_range finite, the first below the second",
            repr(pixel_range),
            "Pass (0.0, 1.0) or (-1.0, 1.0).",
        )
    return low, high
