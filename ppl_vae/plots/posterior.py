"""A posterior in the latent plane, with Gaussians over it."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
from matplotlib.axes import Axes
from numpy.typing import ArrayLike, NDArray

from ppl_vae.plots.figure import BLUE, GREY, RED, given_or_new
from ppl_vae.plots.inputs import as_array, value_error

Ellipse = tuple[ArrayLike, ArrayLike]

_STYLES = ((RED, "--"), (BLUE, "-"), ("black", ":"))


def posterior_plane(
    first: ArrayLike,
    second: ArrayLike,
    density: ArrayLike,
    ellipses: Mapping[str, Ellipse],
    ax: Axes | None = None,
    *,
    masses: tuple[float, ...] = (0.5, 0.9),
    title: str = "",
    legend: bool = True,
) -> Axes:
    """Draw a density over two latent dimensions, and Gaussians as ellipses over it.

    A contour encloses the smallest region that holds one of `masses`, and so does an ellipse, so
    that the two can be compared: those of a Gaussian density lie on each other.

    Args:
        first: values of the first dimension, (columns,), evenly spaced, rising.
        second: values of the second dimension, (rows,), likewise.
        density: of the posterior, (rows, columns), at least 0; a constant factor does not matter.
        ellipses: a Gaussian each, by name: its mean, (2,), and the Cholesky factor of its
            covariance, (2, 2), lower triangular.
        ax: where; a new figure if None.
        masses: of the contours and the ellipses, between 0 and 1; the largest is drawn boldest.
        title: above the picture.
        legend: whether to name the lines.

    Returns:
        The Axes, both dimensions to the same scale.

    Raises:
        TypeError: an argument is not an array of numbers.
        ValueError: shapes that do not fit, a density that is negative, not finite or 0
            everywhere, or a mass that is not between 0 and 1.

    Example:
        >>> line = np.linspace(-3, 3, 61)
        >>> density = np.exp(-(line**2)[:, None] / 2 - (line**2)[None] / 2)
        >>> ax = posterior_plane(line, line, density, {"guide": (np.zeros(2), np.eye(2))})
    """
    first, second = as_array("first", first), as_array("second", second)
    density = as_array("density", density)
    if first.ndim != 1 or second.ndim != 1 or density.shape != (len(second), len(first)):
        raise value_error(
            "density of shape (len(second), len(first))",
            f"first {first.shape}, second {second.shape}, density {density.shape}",
            "Use numpy.meshgrid(first, second), which has the second dimension in rows.",
        )
    if not (np.isfinite(density).all() and (density >= 0).all() and density.max() > 0):
        raise value_error(
            "a density that is finite, at least 0, and above 0 somewhere",
            f"values from {density.min():g} to {density.max():g}",
            "Subtract the largest log-density before the exponential.",
        )
    if not masses or not all(0 < mass < 1 for mass in masses):
        raise value_error("masses between 0 and 1", f"{masses}", "Choose for example 0.9.")
    gaussians = {name: _gaussian(name, *ellipse) for name, ellipse in ellipses.items()}
    ax = given_or_new(ax, (4.4, 4.2))
    levels = sorted({_level(density, mass) for mass in masses})
    widths = np.linspace(1.0, 1.8, len(levels))[::-1]
    ax.contourf(first, second, density, levels=[*levels, np.inf], colors=_greys(len(levels)))
    ax.contour(first, second, density, levels=levels, colors=[GREY], linewidths=0.8)
    shares = ", ".join(f"{mass:.0%}" for mass in sorted(masses))
    ax.fill([], [], color=_greys(1)[0], label=f"posterior ({shares})")
    angle = np.linspace(0, 2 * np.pi, 200)
    circle = np.stack([np.cos(angle), np.sin(angle)])
    for number, (name, (loc, scale_tril)) in enumerate(gaussians.items()):
        colour, dashes = _STYLES[number % len(_STYLES)]
        for mass, width in zip(sorted(masses, reverse=True), widths, strict=False):
            line = loc[:, None] + np.sqrt(-2 * np.log1p(-mass)) * scale_tril @ circle
            shown = name if mass == max(masses) else None
            ax.plot(*line, dashes, color=colour, linewidth=width, label=shown)
        ax.plot(*loc, "+" if number else "x", color=colour, markersize=6)
    ax.set(xlabel="z, first dimension", ylabel="z, second dimension", title=title)
    ax.set_aspect("equal", adjustable="datalim")
    ax.locator_params(nbins=5)
    if legend:
        ax.legend(frameon=False)
    return ax


def _level(density: NDArray, mass: float) -> float:
    """Return the density above which the points of the grid hold `mass` of the whole."""
    falling = np.sort(density, axis=None)[::-1]
    share = np.cumsum(falling) / falling.sum()
    return float(falling[min(np.searchsorted(share, mass), len(falling) - 1)])


def _greys(count: int) -> list[tuple[float, float, float]]:
    return [(grey, grey, grey) for grey in np.linspace(0.88, 0.72, count)]


def _gaussian(name: str, loc: ArrayLike, scale_tril: ArrayLike) -> tuple[NDArray, NDArray]:
    loc, factor = (
        as_array(f"loc of {name!r}", loc),
        as_array(f"scale_tril of {name!r}", scale_tril),
    )
    if loc.shape != (2,) or factor.shape != (2, 2):
        raise value_error(
            f"loc and scale_tril of {name!r} of shapes (2,) and (2, 2)",
            f"{loc.shape} and {factor.shape}",
            "Pass one example's; of a diagonal Gaussian, numpy.diag(scale).",
        )
    return loc, factor
