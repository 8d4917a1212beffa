"""A user's own images, as the bytes that `ImageData` keeps."""

from __future__ import annotations

from typing import Any

import numpy as np
import torch
from torch import Tensor

from ppl_vae import checks

GREY, COLOUR = 1, 3
ORDERS = ("first", "last")


def as_bytes(images: Tensor | np.ndarray[Any, Any], channels: str | None = None) -> Tensor:
    """Return images as bytes, (count, channels, height, width); see `ImageData.from_tensor`."""
    if isinstance(images, np.ndarray) and images.dtype.kind in "buif":
        images = torch.from_numpy(images.copy())
    if not isinstance(images, Tensor):
        raise checks.type_error(
            "images as a torch tensor or a NumPy array of numbers",
            type(images).__name__,
            "Stack them, for instance with torch.stack.",
        )
    return _quantised(_channels_first(checks.nonempty("images", images.detach()), channels))


def as_labels(labels: object) -> Tensor:
    """Return any sequence of integers as a tensor; raise TypeError if it is not one."""
    try:
        return torch.as_tensor(labels)
    except (TypeError, ValueError, RuntimeError) as error:
        raise checks.type_error(
            "labels as integers",
            f"{type(labels).__name__} ({error})",
            "Number the classes, and pass their names as classes=.",
        ) from None


def _channels_first(images: Tensor, channels: str | None) -> Tensor:
    if channels is not None:
        checks.name("channels", channels, ORDERS)
    shape = tuple(images.shape)
    if images.dim() == 3 and channels is None:
        if shape[-1] in (GREY, COLOUR):
            raise checks.value_error(
                "images whose shape says where the channels are",
                f"shape {shape}, one image with its channels last or grey ones {shape[-1]} "
                "pixels wide",
                "Pass images[None] for the one, images[:, None] for the other.",
            )
        return images.unsqueeze(1)
    first = images.dim() == 4 and shape[1] in (GREY, COLOUR)
    last = images.dim() == 4 and shape[-1] in (GREY, COLOUR)
    if first and last and channels is None:
        raise checks.value_error(
            "images whose shape says where the channels are",
            f"shape {shape}, in which dimension 1 or dimension 3 could be",
            "Pass channels='first' or channels='last'.",
        )
    if first and channels != "last":
        return images
    if last and channels != "first":
        return images.movedim(-1, 1).contiguous()
    wanted = {
        "first": "(count, channels, height, width)",
        "last": "(count, height, width, channels)",
    }
    shapes = f"(count, height, width), {wanted['first']} or {wanted['last']}"
    raise checks.value_error(
        f"images of shape {shapes if channels is None else wanted[channels]}, channels 1 or 3",
        f"shape {shape}",
        "Reshape them, or drop channels beyond colour, such as transparency.",
    )


def _quantised(images: Tensor) -> Tensor:
    if images.dtype == torch.bool:
        return images.to(torch.uint8) * 255
    if images.dtype == torch.uint8:
        if images.max() == 1:
            raise checks.value_error(
                "bytes from 0 (black) to 255 (white)",
                "bytes that are all 0 or 1, almost black",
                "Pass images.bool() or images.float() if 1 is white.",
            )
        return images
    if not images.is_floating_point():
        raise checks.type_error(
            "images of bytes (torch.uint8), floats or booleans",
            f"dtype {images.dtype}",
            "Convert pixels from 0 to 255 with images.to(torch.uint8).",
        )
    low, high = float(images.min()), float(images.max())
    if not (low >= 0 and high <= 1):
        raise checks.value_error(
            "floating-point pixels in [0, 1]",
            "NaN" if low != low else f"values from {low:g} to {high:g}",
            "Rescale them: divide by 255, or map [low, high] by (x - low) / (high - low).",
        )
    # In float32 at least: in a narrower dtype 255 x itself would be rounded.
    wide = images if images.dtype == torch.float64 else images.float()
    return (255 * wide).round().to(torch.uint8)
