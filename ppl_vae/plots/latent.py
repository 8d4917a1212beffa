"""The latent space: where data lie in it, and what decodes from it."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
from matplotlib.axes import Axes
from matplotlib.ticker import MaxNLocator
from numpy.typing import ArrayLike, NDArray

from ppl_vae.plots.figure import GREY, given_or_new, legend_outside
from ppl_vae.plots.images import show, tile
from ppl_vae.plots.inputs import as_codes, as_images, limits, positive_count, value_error

MARKERS = "osD^vP*X"
MAX_LABELS = 10 * len(MARKERS)
LEGEND_ROWS = 16


def latent_scatter(
    codes: ArrayLike,
    labels: ArrayLike | Sequence[object] | None = None,
    ax: Axes | None = None,
    *,
    title: str = "",
) -> Axes:
    """Draw codes in the plane, coloured by label, the legend outside.

    Codes of more than two dimensions are drawn by their first two principal components; the axes
    then say which share of the variance each holds. Both directions are to one scale.

    Args:
        codes: (count, dimensions), at least two dimensions.
        labels: (count,), numbers or words, one of them None or NaN where there is none (drawn
            grey); or None for no colours and no legend. At most 80 different ones.
        ax: where; a new figure if None. Hand in one of a figure with a constrained layout, so
            that there is room for the legend.
        title: above the picture.

    Returns:
        The Axes, with one collection of points a label.

    Raises:
        TypeError: `codes` is not an array of numbers.
        ValueError: codes of another shape, not one label per code, or too many different ones.

    Example:
        >>> codes = np.random.default_rng(0).normal(size=(100, 2))
        >>> ax = latent_scatter(codes, np.arange(100) % 10)
    """
    codes = as_codes("codes", codes)
    groups = _by_label(labels, len(codes))
    names = ["z, first dimension", "z, second dimension"]
    if codes.shape[1] > 2:
        codes, shares = principal_components(codes)
        names = [f"principal component {n} ({share:.0%})" for n, share in enumerate(shares, 1)]
    legend_columns = -(-len(groups) // LEGEND_ROWS)
    room = legend_columns * (0.6 + 0.08 * max(map(len, groups))) if any(groups) else 0.0
    ax = given_or_new(ax, (4.8 + min(room, 12.0), 4.4))
    size = float(np.clip(9000 / len(codes), 3, 20))
    number = 0
    for label, chosen in groups.items():
        style: dict[str, Any] = {"color": GREY, "marker": "o"}
        if label:
            style = {"color": f"C{number % 10}", "marker": MARKERS[number // 10]}
            number += 1
        ax.scatter(
            *codes[chosen].T,
            s=size,
            linewidths=0,
            label=label or "no label",
            rasterized=True,
            **style,
        )
    ax.set(xlabel=names[0], ylabel=names[1], title=title)
    # Equal ranges from the start: ticks that changed while drawing would spoil the layout.
    centre, half = _square(codes)
    ax.set(xlim=(centre[0] - half, centre[0] + half), ylim=(centre[1] - half, centre[1] + half))
    # At the left, so that what is free lies where the legend is.
    ax.set_aspect("equal", anchor="W")
    ax.xaxis.set_major_locator(MaxNLocator(4))
    ax.yaxis.set_major_locator(MaxNLocator(5))
    if number:
        legend_outside(ax, markerscale=(30 / size) ** 0.5)
    return ax


def principal_components(codes: ArrayLike, count: int = 2) -> tuple[NDArray[Any], NDArray[Any]]:
    """Return coordinates along the directions of most variance, and the variance's shares.

    Args:
        codes: (count, dimensions).
        count: of directions.

    Returns:
        Coordinates, (count, directions), centred; and for each direction its share of the whole
        variance, from 0 to 1. A direction's sign is such that its largest entry is above 0.

    Raises:
        TypeError: `codes` is not an array of numbers.
        ValueError: codes of another shape.

    Source:
        Singular value decomposition of the centred codes; the shares are s_i^2 / sum s^2.

    Example:
        >>> coordinates, shares = principal_components([[0, 0, 0], [1, 2, 2]], count=1)
        >>> coordinates.round(3).tolist(), shares.round(3).tolist()
        ([[-1.5], [1.5]], [1.0])
    """
    codes = as_codes("codes", codes).astype(float)
    centred = codes - codes.mean(axis=0)
    # The directions are those of the small matrix, whatever the number of codes.
    variances, directions = np.linalg.eigh(centred.T @ centred)
    variances, directions = variances[::-1][:count], directions[:, ::-1][:, :count]
    largest = np.abs(directions).argmax(axis=0)
    directions = directions * np.sign(directions[largest, np.arange(directions.shape[1])])
    total = np.square(centred).sum()
    shares = np.clip(variances, 0, None) / total if total > 0 else np.zeros(len(variances))
    return centred @ directions, shares


def latent_walk(
    decode: Callable[[NDArray[Any]], ArrayLike],
    ax: Axes | None = None,
    *,
    extent: float = 4.0,
    steps: int = 20,
    vmin: float | None = None,
    vmax: float | None = None,
    title: str = "",
) -> Axes:
    """Draw what a grid of two-dimensional codes decodes to, each image centred at its code.

    Args:
        decode: codes, (steps^2, 2), to images, (steps^2, channels, height, width).
        ax: where; a new figure if None.
        extent: the codes cover [-extent, extent] in both dimensions; the second one points up.
        steps: codes a side.
        vmin: the value that is black, 0 if None.
        vmax: the value that is white, 1 if None, or 255 for bytes.
        title: above the picture.

    Returns:
        The Axes, in units of the codes.

    Raises:
        TypeError: what `decode` returns is not an array of numbers.
        ValueError: it is not one image per code; or `steps` is below 1, `extent` not above 0.

    Example:
        >>> ax = latent_walk(lambda z: np.tile(z[:, :1, None, None], (1, 1, 4, 4)), steps=5)
    """
    steps = positive_count("steps", steps)
    if not extent > 0:
        raise value_error("extent above 0", repr(extent), "Choose a larger one.")
    line = np.linspace(-extent, extent, steps) if steps > 1 else np.zeros(1)
    first, second = np.meshgrid(line, line[::-1])
    images = as_images("decoded images", decode(np.stack([first.ravel(), second.ravel()], -1)))
    if len(images) != steps**2:
        raise value_error(
            f"{steps**2} decoded images, one per code",
            f"{len(images)}",
            "Return one for each code.",
        )
    ends = limits(images, vmin, vmax)
    # Half a cell more on each side, so that an image's middle is at its code.
    edge = extent * steps / max(steps - 1, 1)
    height, width = images.shape[2:]
    ax = given_or_new(ax, (4.4, 0.2 + 4.2 * height / width))
    sheet = tile(images, steps)
    show(ax, sheet, ends, extent=(-edge, edge, -edge, edge), aspect=height / width)
    ax.set(xlabel="z, first dimension", ylabel="z, second dimension", title=title)
    return ax


def _square(codes: NDArray[Any]) -> tuple[NDArray[Any], float]:
    """Return the middle, and half the side, of a square that holds all codes with a margin."""
    low, high = codes.min(axis=0).astype(float), codes.max(axis=0).astype(float)
    side = float((high - low).max())
    return (low + high) / 2, 0.54 * side if side > 0 else 1.0


def _by_label(labels: ArrayLike | Sequence[object] | None, count: int) -> dict[str, NDArray[Any]]:
    """Return which codes have which label, in the labels' order; "" is for those without."""
    if labels is None:
        return {"": np.ones(count, dtype=bool)}
    given = np.asarray(labels)
    if given.shape != (count,):
        raise value_error(
            f"{count} labels, one per code",
            f"shape {given.shape}",
            "Pass as many labels as codes, or None.",
        )
    missing = np.array(
        [value is None or value != value or value == "" for value in given.tolist()]
    )
    different = sorted(set(given[~missing].tolist()), key=lambda v: (isinstance(v, str), v))
    if len(different) > MAX_LABELS:
        raise value_error(
            f"at most {MAX_LABELS} different labels",
            f"{len(different)}",
            "Pass coarser labels, or None.",
        )
    groups = {"": missing} if missing.any() else {}
    return groups | {str(label): given == label for label in different}
