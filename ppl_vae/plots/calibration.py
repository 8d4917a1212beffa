"""Ranks that are to be uniform: their distribution functions in a band."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from matplotlib.axes import Axes
from numpy.typing import ArrayLike

from ppl_vae.plots.figure import BLUE, COLOURS, GREY, given_or_new, legend_outside
from ppl_vae.plots.inputs import as_array, value_error

_NAMED = 7


def rank_ecdf(
    ecdf: ArrayLike,
    lower: ArrayLike,
    upper: ArrayLike,
    ax: Axes | None = None,
    *,
    labels: Sequence[object] | None = None,
    title: str = "",
) -> Axes:
    """Draw distribution functions of ranks less the uniform one, with a band around it.

    Those that leave the band have colours and names, up to 7 of them, the farthest first; the
    others are grey.

    Args:
        ecdf: the share of ranks below k = 1, ..., points, (points, curves), for ranks from 0 to
            `points`.
        lower: the band's lower end, (points,).
        upper: the band's upper end, (points,).
        ax: where; a new figure if None. Hand in one of a figure with a constrained layout, so
            that there is room for the legend.
        labels: of the curves, (curves,); their numbers if None.
        title: above the picture.

    Returns:
        The Axes, with one line a curve, the legend outside.

    Raises:
        TypeError: an argument is not an array of numbers.
        ValueError: no curve or no point, shapes that differ, or as many labels as curves are not
            given.

    Example:
        >>> k = np.arange(1, 4) / 4
        >>> ax = rank_ecdf(k[:, np.newaxis] ** 2, k - 0.1, k + 0.1, labels=["z"])
    """
    curves, low, high = as_array("ecdf", ecdf), as_array("lower", lower), as_array("upper", upper)
    if curves.ndim != 2 or 0 in curves.shape or {low.shape, high.shape} != {curves.shape[:1]}:
        raise value_error(
            "ecdf of shape (points, curves), at least one of each, and ends of shape (points,)",
            f"{curves.shape}, {low.shape} and {high.shape}",
            "Pass one column a curve.",
        )
    labels = list(range(curves.shape[1])) if labels is None else list(labels)
    if len(labels) != curves.shape[1]:
        raise value_error(
            f"{curves.shape[1]} labels, one a curve", f"{len(labels)}", "Pass one for every curve."
        )
    ax = given_or_new(ax)
    at = np.arange(1, len(curves) + 1) / (len(curves) + 1)
    excess = np.maximum(curves - high[:, np.newaxis], low[:, np.newaxis] - curves).max(0)
    out = [number for number in np.argsort(-excess, kind="stable") if excess[number] > 0]
    named = out[:_NAMED]
    # At both ends every curve is right.
    ends = np.concatenate([[0.0], at, [1.0]])

    def whole(values: ArrayLike) -> np.ndarray:
        return np.concatenate([[0.0], np.asarray(values) - at, [0.0]])

    ax.fill_between(ends, whole(low), whole(high), color=BLUE, alpha=0.15, linewidth=0)
    ax.axhline(0, color="black", linewidth=0.8)
    rest = [number for number in range(len(labels)) if number not in named]
    for count, number in enumerate(rest):
        name = f"{len(rest)} others" if named else f"all {len(rest)}"
        label = (str(labels[number]) if len(rest) == 1 else name) if count == 0 else None
        ax.plot(ends, whole(curves[:, number]), color=GREY, linewidth=0.8, label=label)
    colours = [colour for colour in COLOURS if colour != BLUE]
    for colour, number in zip(colours, named, strict=False):
        ax.plot(ends, whole(curves[:, number]), color=colour, label=str(labels[number]))
    ax.set(xlabel="rank / number of ranks", ylabel="ECDF less uniform", title=title, xlim=(0, 1))
    legend_outside(ax)
    return ax
