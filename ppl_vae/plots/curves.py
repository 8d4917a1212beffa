"""Curves and bars: training, densities on a line, gradient variances."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np
from matplotlib.axes import Axes
from matplotlib.ticker import MaxNLocator
from numpy.typing import ArrayLike

from ppl_vae.plots.figure import COLOURS, GREY, given_or_new, legend_outside
from ppl_vae.plots.inputs import as_array, value_error


def elbo_history(
    curves: Mapping[str, Sequence[float] | ArrayLike],
    ax: Axes | None = None,
    *,
    first_epoch: int = 1,
    title: str = "",
) -> Axes:
    """Draw the ELBO per example, in nats, by epoch.

    Args:
        curves: a line each, of shape (epochs,), in nats per example; names that differ only by a
            final "train" or "test" share a colour, and "test" is dashed. An empty one is left out.
        ax: where; a new figure if None.
        first_epoch: of the first value.
        title: above the picture.

    Returns:
        The Axes, with one line a curve.

    Raises:
        TypeError: a curve is not an array of numbers.
        ValueError: a curve of another shape, or no curve with a value.

    Example:
        >>> ax = elbo_history({"train": [-120.0, -110.0], "test": [-121.0, -112.0]})
    """
    lines = {name: as_array(f"curve {name!r}", values) for name, values in curves.items()}
    for name, values in lines.items():
        if values.ndim != 1:
            raise value_error(
                f"curve {name!r} of shape (epochs,)",
                f"shape {values.shape}",
                "Pass one number an epoch.",
            )
    lines = {name: values for name, values in lines.items() if len(values)}
    if not lines:
        raise value_error("at least one curve with a value", "none", "Train an epoch.")
    ax = given_or_new(ax)
    colours: dict[str, str] = {}
    for name, values in lines.items():
        run = name.removesuffix("train").removesuffix("test")
        colour = colours.setdefault(run, COLOURS[len(colours) % len(COLOURS)])
        epochs = np.arange(first_epoch, first_epoch + len(values))
        style = "--" if name.endswith("test") else "-"
        # One point makes no line.
        marker = ("x" if name.endswith("test") else "o") if len(values) == 1 else ""
        ax.plot(epochs, values, style, marker=marker, color=colour, label=name)
    ax.set(xlabel="epoch", ylabel="ELBO per example (nats)", title=title)
    if max(map(len, lines.values())) == 1:
        ax.set_xlim(first_epoch - 1, first_epoch + 1)
    ax.xaxis.set_major_locator(MaxNLocator(integer=True))
    ax.legend(frameon=False)
    return ax


def posterior_against_guide(
    z: ArrayLike, densities: Mapping[str, ArrayLike], ax: Axes | None = None, *, title: str = ""
) -> Axes:
    """Draw densities over a one-dimensional latent; the first is filled.

    Args:
        z: where, (points,), rising.
        densities: by name, the posterior's first, each (points,), at least 0.
        ax: where; a new figure if None.
        title: above the picture.

    Returns:
        The Axes.

    Raises:
        TypeError: an argument is not an array of numbers.
        ValueError: `z` and a density have shapes that differ or are not (points,), or there is no
            density.

    Example:
        >>> z = np.linspace(-3, 3, 50)
        >>> ax = posterior_against_guide(z, {"posterior": np.exp(-z * z), "guide": np.exp(-z)})
    """
    z = as_array("z", z)
    values = {name: as_array(f"density {name!r}", d) for name, d in densities.items()}
    if not values:
        raise value_error("at least one density", "none", "Pass the posterior's first.")
    for name, density in values.items():
        if z.ndim != 1 or density.shape != z.shape:
            raise value_error(
                f"z and density {name!r} of one shape (points,)",
                f"{z.shape} and {density.shape}",
                "Evaluate the density at every z.",
            )
    ax = given_or_new(ax)
    for number, (name, density) in enumerate(values.items()):
        if number == 0:
            ax.fill_between(z, density, color=GREY, alpha=0.35, label=name, linewidth=0)
        else:
            colour = COLOURS[(number - 1) % len(COLOURS)]
            ax.plot(z, density, color=colour, label=name)
    ax.set(xlabel="z", ylabel="density", title=title, ylim=(0, None))
    ax.legend(frameon=False)
    return ax


def gradient_variance_bars(
    variances: Mapping[str, Mapping[str, float]],
    errors: Mapping[str, Mapping[str, float]] | None = None,
    ax: Axes | None = None,
    *,
    exact: Mapping[str, Mapping[str, float]] | None = None,
    title: str = "",
) -> Axes:
    """Draw gradient variances by parameter group, a bar per estimator, with standard errors.

    The axis is logarithmic where the variances differ by more than a factor of 30.

    Args:
        variances: estimator to group to variance, at least 0; a group may be missing. With no
            estimator the Axes say so.
        errors: the standard errors, likewise; what is missing is drawn without.
        ax: where; a new figure if None. Hand in one of a figure with a constrained layout, so
            that there is room for the legend.
        exact: closed forms, where there are some; drawn as lines across the bars.
        title: above the picture.

    Returns:
        The Axes, with one bar container an estimator, the legend outside.

    Raises:
        ValueError: a variance below 0.

    Example:
        >>> ax = gradient_variance_bars({"trace": {"all": 5.7}}, {"trace": {"all": 0.2}})
    """
    errors, exact = errors or {}, exact or {}
    for name, row in variances.items():
        for group, value in row.items():
            if value < 0:
                raise value_error(
                    "variances of at least 0",
                    f"{value:g} ({name}, {group})",
                    "Pass variances, not their logarithms.",
                )
    groups = list(dict.fromkeys(group for row in variances.values() for group in row))
    ax = given_or_new(ax, (max(7.2, 4.0 + 0.8 * len(groups)), 3.6))
    ax.set(ylabel="gradient variance", title=title)
    if not groups:
        ax.text(0.5, 0.5, "no variance to show", ha="center", transform=ax.transAxes)
        ax.set(xticks=[], yticks=[])
        return ax
    width = 0.8 / len(variances)
    for number, (name, row) in enumerate(variances.items()):
        at = np.arange(len(groups)) + (number - (len(variances) - 1) / 2) * width
        heights = [row.get(group, np.nan) for group in groups]
        bars = [errors.get(name, {}).get(group, np.nan) for group in groups]
        colour = COLOURS[number % len(COLOURS)]
        hatch = "///" if number >= len(COLOURS) else None
        style = {"color": colour, "hatch": hatch, "edgecolor": "white"}
        ax.bar(at, heights, 0.9 * width, yerr=bars, capsize=2, label=name, **style)
        for x, group in zip(at, groups, strict=True):
            if group in exact.get(name, {}):
                ax.hlines(exact[name][group], x - width / 2, x + width / 2, color="black")
    if any(exact.values()):
        ax.hlines([], 0, 0, color="black", label="closed form")
    ax.set_xticks(range(len(groups)), groups)
    if len(groups) > 5:
        ax.tick_params("x", rotation=30)
        for text in ax.get_xticklabels():
            text.set(ha="right", rotation_mode="anchor")
    positive = [v for row in variances.values() for v in row.values() if v > 0]
    if positive and max(positive) > 30 * min(positive):
        ax.set_yscale("log")
    legend_outside(ax)
    return ax
