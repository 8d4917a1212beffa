"""Distribution functions of ranks: which are drawn in which way, and where."""

import numpy as np
import pytest
from drawn import drawn, is_within_figure, labels, legend_is_outside

from ppl_vae import plots

K = np.arange(1, 8) / 8


def test_curves_outside_of_the_band_have_names_and_colours():
    curves = np.stack([K, K + 0.2, K - 0.3, K + 0.05], axis=1)
    ax = drawn(plots.rank_ecdf(curves, K - 0.1, K + 0.1, labels=["a", "b", "c", "d"], title="t"))
    lines = {line.get_label(): line for line in ax.lines}
    assert set(labels(ax)) == {"2 others", "c", "b"}
    assert lines["b"].get_ydata().tolist() == pytest.approx([0.0, *[0.2] * 7, 0.0])
    assert lines["b"].get_xdata().tolist() == [0.0, *K, 1.0]
    colours = [lines[name].get_color() for name in ("2 others", "c", "b")]
    assert len(set(colours)) == 3
    assert colours[0] == plots.GREY
    assert ax.get_title() == "t"
    assert legend_is_outside(ax)
    assert is_within_figure(ax)


def test_many_curves_and_one():
    out = np.linspace(0.2, 0.5, 20) + K[:, np.newaxis]
    ax = plots.rank_ecdf(out, K - 0.1, K + 0.1)
    assert len(ax.lines) == 21
    assert set(labels(ax)) == {"13 others", *map(str, range(13, 20))}
    ax = plots.rank_ecdf(K[:, np.newaxis], K - 0.1, K + 0.1, labels=["z"])
    assert labels(ax) == ["z"]


@pytest.mark.parametrize(
    ("curves", "options", "error", "message"),
    [
        (K, {}, ValueError, "ecdf of shape"),
        (np.zeros((7, 0)), {}, ValueError, "at least one of each"),
        (np.zeros((6, 1)), {}, ValueError, "ends of shape"),
        (np.zeros((7, 2)), {"labels": ["a"]}, ValueError, "2 labels, one a curve"),
        ("curves", {}, TypeError, "ecdf as an array"),
    ],
)
def test_bad_input(curves, options, error, message):
    with pytest.raises(error, match=message):
        plots.rank_ecdf(curves, K - 0.1, K + 0.1, **options)
