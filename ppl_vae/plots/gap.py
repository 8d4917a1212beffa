"""What separates an ELBO from the evidence, as bars."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from itertools import cycle
from typing import Any

import numpy as np
from matplotlib.axes import Axes
from numpy.typing import ArrayLike, NDArray

from ppl_vae.plots.figure import COLOURS, given_or_new, legend_outside
from ppl_vae.plots.inputs import as_array, value_error

_STACKED_UP_TO = 30
_Parts = Mapping[str, NDArray[Any]]


def evidence_gap(
    parts: Mapping[str, ArrayLike],
    ax: Axes | None = None,
    *,
    errors: Mapping[str, ArrayLike] | None = None,
    labels: Sequence[object] | None = None,
    title: str = "",
    xlabel: str = "example",
) -> Axes:
    """Draw the parts of a gap, one group of bars an example.

    The parts stand on top of each other, so that the whole bar is the gap. Where the largest is
    more than 30 times the smallest they stand side by side, on a logarithmic axis, from which
    parts that noise has made negative are missing.

    Args:
        parts: by name, each (bars,), in nats; the first is at the bottom, or left. Noise may have
            made one slightly negative: it is drawn downwards.
        ax: where; a new figure if None. Hand in one of a figure with a constrained layout, so
            that there is room for the legend.
        errors: standard errors of the parts, likewise, drawn at the end of each part; what is
            missing is drawn without.
        labels: under the bars, (bars,); their numbers if None.
        title: above the picture.
        xlabel: under the labels.

    Returns:
        The Axes, with one bar container a part, the legend outside.

    Raises:
        TypeError: an argument is not an array of numbers.
        ValueError: no part, shapes that differ, or as many labels as bars are not given.

    Example:
        >>> ax = evidence_gap({"approximation": [0.2, 0.1], "amortisation": [1.5, 0.7]})
    """
    heights = {name: as_array(f"part {name!r}", part) for name, part in parts.items()}
    errors = {name: as_array(f"error {name!r}", each) for name, each in (errors or {}).items()}
    shapes = {part.shape for part in [*heights.values(), *errors.values()]}
    if len(shapes) != 1 or len(shape := shapes.pop()) != 1 or shape[0] == 0:
        came = ", ".join(f"{name} {part.shape}" for name, part in heights.items()) or "none"
        raise value_error(
            "parts, and errors, of one shape (bars,)", came, "Pass one number a bar."
        )
    labels = list(range(shape[0])) if labels is None else list(labels)
    if len(labels) != shape[0]:
        raise value_error(
            f"{shape[0]} labels, one a bar", f"{len(labels)}", "Pass one for every bar."
        )
    ax = given_or_new(ax, (max(5.2, min(3.0 + 0.32 * shape[0], 14.0)), 3.6))
    at = np.arange(shape[0])
    positive = [value for height in heights.values() for value in height if value > 0]
    if positive and max(positive) > _STACKED_UP_TO * min(positive):
        _side_by_side(ax, at, heights, errors)
        ax.set_yscale("log")
    else:
        _stacked(ax, at, heights, errors)
        ax.axhline(0, color="black", linewidth=0.8)
    ax.set_xticks(at, [str(label) for label in labels])
    if max(len(str(label)) for label in labels) * shape[0] > 60:
        ax.tick_params("x", rotation=90)
    ax.set(xlabel=xlabel, ylabel="nats below log p(x)", title=title)
    legend_outside(ax)
    return ax


def _stacked(ax: Axes, at: NDArray[Any], heights: _Parts, errors: _Parts) -> None:
    above, below = np.zeros(len(at)), np.zeros(len(at))
    for (name, height), colour in zip(heights.items(), cycle(COLOURS)):
        bottom = np.where(height >= 0, above, below)
        ax.bar(at, height, 0.8, bottom=bottom, label=name, color=colour)
        if name in errors:
            ax.errorbar(at, bottom + height, errors[name], fmt="none", ecolor="black", capsize=2)
        above, below = above + height.clip(min=0), below + height.clip(max=0)


def _side_by_side(ax: Axes, at: NDArray[Any], heights: _Parts, errors: _Parts) -> None:
    width = 0.8 / len(heights)
    for number, ((name, height), colour) in enumerate(zip(heights.items(), cycle(COLOURS))):
        place = at + (number - (len(heights) - 1) / 2) * width
        drawn = np.where(height > 0, height, np.nan)
        bars = errors.get(name)
        ax.bar(place, drawn, 0.9 * width, yerr=bars, capsize=2, label=name, color=colour)
