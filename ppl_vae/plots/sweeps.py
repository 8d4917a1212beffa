"""Means with their intervals, by setting."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
from matplotlib.axes import Axes
from matplotlib.ticker import NullFormatter, ScalarFormatter
from numpy.typing import ArrayLike

from ppl_vae.plots.figure import COLOURS, given_or_new, legend_outside
from ppl_vae.plots.inputs import as_array, value_error

_WIDE = 20  # a range of so many times its start is shown on a logarithmic axis
_LONG_WORDS = 30  # characters that have room below the Axes


def means_with_intervals(
    curves: Mapping[str, tuple[ArrayLike, ...]],
    ax: Axes | None = None,
    *,
    x_label: str = "",
    y_label: str = "",
    title: str = "",
) -> Axes:
    """Draw means with their intervals over a setting.

    Args:
        curves: by name (x, mean, low, high), each of shape (points,); x are numbers, or names
            that stand beside each other. Where low or high is NaN no interval is drawn.
        ax: where; a new figure if None.
        x_label: what x is.
        y_label: what the means are of, with their unit.
        title: above the picture.

    Returns:
        The Axes, with dots and bars for each curve, joined by a line where x are numbers.

    Raises:
        TypeError: means or bounds that are no numbers.
        ValueError: arrays of a curve that differ in shape, or no curve.

    Example:
        >>> ax = means_with_intervals(
        ...     {"trace": ([2, 4], [-30.0, -27.0], [-31.0, -27.5], [-29.0, -26.5])}
        ... )
    """
    if not curves:
        raise value_error("at least one curve", "none", "Finish a job.")
    ax = given_or_new(ax)
    wheres = [np.asarray(x) for x, *_ in curves.values()]
    numeric = all(np.issubdtype(x.dtype, np.number) for x in wheres)
    names = list(dict.fromkeys(str(each) for x in wheres for each in x))
    for number, (name, (x, *bounds)) in enumerate(curves.items()):
        mean, low, high = (as_array(f"curve {name!r}", each) for each in bounds)
        if not np.shape(x) == mean.shape == low.shape == high.shape or mean.ndim != 1:
            raise value_error(
                f"x, mean, low and high of one shape (points,) in curve {name!r}",
                f"shapes {np.shape(x)}, {mean.shape}, {low.shape}, {high.shape}",
                "Pass a number of each for every point.",
            )
        # Curves stand beside each other where names leave them room.
        aside = 0.0 if numeric else 0.5 * ((number + 0.5) / len(curves) - 0.5)
        at = (
            np.asarray(x)
            if numeric
            else np.array([names.index(str(e)) for e in np.asarray(x)]) + aside
        )
        bars = np.nan_to_num(np.stack([mean - low, high - mean]))
        colour = COLOURS[number % len(COLOURS)]
        ax.errorbar(
            at, mean, bars, fmt="o-" if numeric else "o", color=colour, capsize=3, label=name
        )
    if numeric:
        points = np.concatenate(wheres)
        if points.min() > 0 and points.max() >= _WIDE * points.min():
            ax.set_xscale("log")
            ax.set_xticks(np.unique(points))
            ax.xaxis.set_major_formatter(ScalarFormatter())
            ax.xaxis.set_minor_formatter(NullFormatter())
    else:
        slanted = sum(map(len, names)) > _LONG_WORDS
        ax.set_xticks(
            range(len(names)),
            names,
            rotation=30 if slanted else 0,
            ha="right" if slanted else "center",
        )
        ax.set_xlim(-0.5, len(names) - 0.5)
    ax.set(xlabel=x_label, ylabel=y_label, title=title)
    if len(curves) > 1:
        legend_outside(ax)
    return ax
