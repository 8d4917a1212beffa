"""What a picture shows, once it is drawn."""

import itertools

from matplotlib.axes import Axes
from matplotlib.text import Text


def drawn(ax: Axes) -> Axes:
    """Return `ax` after its figure was laid out and drawn."""
    ax.get_figure(root=True).canvas.draw()
    return ax


def legend_is_outside(ax: Axes) -> bool:
    """Return whether the legend lies right of the Axes, and within the figure."""
    figure = drawn(ax).get_figure(root=True)
    box = ax.get_legend().get_window_extent()
    return box.x0 >= ax.get_window_extent().x1 and box.x1 <= figure.bbox.x1


def overlaps(texts: list[Text]) -> list[tuple[str, str]]:
    """Return the pairs of shown texts that lie on each other."""
    shown = [text for text in texts if text.get_visible() and text.get_text()]
    return [
        (one.get_text(), other.get_text())
        for one, other in itertools.combinations(shown, 2)
        if one.get_window_extent().overlaps(other.get_window_extent())
    ]


def labels(ax: Axes) -> list[str]:
    """Return the legend's entries."""
    return [text.get_text() for text in ax.get_legend().get_texts()]


def is_within_figure(ax: Axes) -> bool:
    """Return whether all that belongs to `ax`, titles and labels too, lies in the figure."""
    box, page = drawn(ax).get_tightbbox(), ax.get_figure(root=True).bbox
    slack = 1.0
    return (
        box.x0 >= page.x0 - slack
        and box.y0 >= page.y0 - slack
        and box.x1 <= page.x1 + slack
        and box.y1 <= page.y1 + slack
    )
