"""Images in rows, and images above their reconstructions."""

from __future__ import annotations

from typing import Any

import numpy as np
from matplotlib.axes import Axes
from numpy.typing import ArrayLike, NDArray

from ppl_vae.plots.figure import given_or_new
from ppl_vae.plots.inputs import Limits, as_images, limits, positive_count, value_error

WIDTH = 4.8


def tile(images: ArrayLike, columns: int, *, gap: int = 0, fill: float = 0.0) -> NDArray[Any]:
    """Return images side by side, in rows, as one.

    Args:
        images: (count, channels, height, width), channels 1 or 3.
        columns: images in a row; the last row is filled up with `fill`.
        gap: pixels between neighbours, of the value `fill`.
        fill: value where there is no image.

    Returns:
        (rows (height + gap) - gap, columns (width + gap) - gap), with a last dimension of 3 if
        the images are in colour.

    Raises:
        TypeError: `images` is not an array of numbers.
        ValueError: another shape, or `columns` below 1.

    Example:
        >>> tile(np.arange(3.0).reshape(3, 1, 1, 1), columns=2, fill=9)
        array([[0., 1.],
               [2., 9.]])
    """
    images = as_images("images", images)
    columns = positive_count("columns", columns)
    count, channels, height, width = images.shape
    rows, tall, wide = -(-count // columns), height + gap, width + gap
    sheet = np.full((rows * columns, channels, tall, wide), fill, dtype=images.dtype)
    sheet[:count, :, :height, :width] = images
    sheet = sheet.reshape(rows, columns, channels, tall, wide).transpose(0, 3, 1, 4, 2)
    sheet = sheet.reshape(rows * tall, columns * wide, channels)
    sheet = sheet[: rows * tall - gap, : columns * wide - gap]
    return sheet if channels == 3 else sheet[..., 0]


def image_grid(
    images: ArrayLike,
    ax: Axes | None = None,
    *,
    columns: int | None = None,
    vmin: float | None = None,
    vmax: float | None = None,
    gap: int = 1,
    title: str = "",
) -> Axes:
    """Draw images in rows: inputs, samples, or any others.

    Args:
        images: (count, channels, height, width), channels 1 or 3, at least one image.
        ax: where; a new figure if None.
        columns: images in a row; None is 8, or more for more than 64 images, so that the picture
            stays about square.
        vmin: the value that is black, 0 if None; what lies below is black too.
        vmax: the value that is white, 1 if None, or 255 for bytes; what lies above is white too.
        gap: white pixels between neighbours.
        title: above the picture.

    Returns:
        The Axes; their one image is `tile`'s.

    Raises:
        TypeError: `images` is not an array of numbers.
        ValueError: images of another shape or not finite, `vmin` not below `vmax`, or `columns`
            below 1.

    Example:
        >>> ax = image_grid(np.random.default_rng(0).random((20, 1, 28, 28)))
    """
    images = as_images("images", images)
    ends = limits(images, vmin, vmax)
    columns = row_length(len(images), columns)
    sheet = tile(images, columns, gap=gap, fill=ends[1])
    ax = given_or_new(ax, _size(sheet, columns, title))
    show(ax, sheet, ends)
    ax.set_axis_off()
    ax.set_title(title)
    return ax


def reconstructions(
    inputs: ArrayLike,
    outputs: ArrayLike,
    ax: Axes | None = None,
    *,
    columns: int | None = None,
    vmin: float | None = None,
    vmax: float | None = None,
    names: tuple[str, str] = ("input", "output"),
    title: str = "",
) -> Axes:
    """Draw images, and under each its reconstruction.

    Args:
        inputs: (count, channels, height, width), channels 1 or 3, at least one image.
        outputs: their reconstructions, of the same shape.
        ax: where; a new figure if None.
        columns: pairs in a row; None is 8, or more for more than 64 pairs.
        vmin: the value that is black, 0 if None.
        vmax: the value that is white, 1 if None, or 255 for bytes.
        names: of the two rows, at their left.
        title: above the picture.

    Returns:
        The Axes.

    Raises:
        TypeError: one of the two is not an array of numbers.
        ValueError: shapes that differ or are not images', images that are not finite, `vmin` not
            below `vmax`, or `columns` below 1.

    Example:
        >>> images = np.random.default_rng(0).random((16, 1, 8, 8))
        >>> ax = reconstructions(images, images.round())
    """
    inputs, outputs = as_images("inputs", inputs), as_images("outputs", outputs)
    if inputs.shape != outputs.shape:
        raise value_error(
            "inputs and outputs of one shape",
            f"{inputs.shape} and {outputs.shape}",
            "Pass each image with its own reconstruction.",
        )
    ends = limits(inputs, vmin, vmax)
    columns = row_length(len(inputs), columns)
    height = inputs.shape[2]
    between = max(3, height // 4)
    bands, ticks, top = [], [], 0
    for start in range(0, len(inputs), columns):
        part = slice(start, start + columns)
        above, below = (tile(x[part], columns, gap=1, fill=ends[1]) for x in (inputs, outputs))
        white = np.full((between, *above.shape[1:]), ends[1], dtype=above.dtype)
        ticks += [top + (height - 1) / 2, top + height + 1 + (height - 1) / 2]
        bands += [above, white[:1], below, white]
        top += 2 * height + 1 + between
    sheet = np.concatenate(bands[:-1])
    width, tall = _size(sheet, columns, title)
    ax = given_or_new(ax, (width + 0.085 * max(map(len, names)), tall))
    show(ax, sheet, ends)
    ax.set_xticks([])
    ax.set_yticks(ticks, names * (len(ticks) // 2))
    ax.tick_params(length=0)
    ax.spines[:].set_visible(False)
    ax.set_title(title)
    return ax


def show(
    ax: Axes,
    sheet: NDArray[Any],
    ends: Limits,
    *,
    extent: tuple[float, float, float, float] | None = None,
    aspect: float = 1.0,
) -> None:
    """Draw one image, (height, width) or (height, width, 3), black and white at `ends`."""
    if sheet.ndim == 3:
        # Matplotlib takes colours in [0, 1] only.
        sheet = np.clip((sheet.astype(float) - ends[0]) / (ends[1] - ends[0]), 0, 1)
    # Smoothed unless much enlarged: shrunken lines would break up.
    style = {"cmap": "gray", "vmin": ends[0], "vmax": ends[1], "interpolation": "antialiased"}
    ax.imshow(sheet, extent=extent, aspect=aspect, **style)


def row_length(count: int, columns: int | None) -> int:
    """Return how many of `count` images stand in a row."""
    if columns is None:
        columns = max(8, int(np.ceil(np.sqrt(count))))
    return min(positive_count("columns", columns), count)


def _size(sheet: NDArray[Any], columns: int, title: str) -> tuple[float, float]:
    """Return width and height in inches: small for a few images, room for the title."""
    width = min(WIDTH, max(0.75 * columns, 1.6))
    height = width * sheet.shape[0] / sheet.shape[1]
    return max(width, min(0.085 * len(title), WIDTH)), min(height, 2 * WIDTH) + 0.3
