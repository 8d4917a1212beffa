"""Curves and bars: what is drawn where."""

import numpy as np
import pytest
from drawn import drawn, is_within_figure, labels, legend_is_outside, overlaps

from ppl_vae import plots

CURVES = {
    "sgd, train": [-200.0, -150.0, -140.0],
    "sgd, test": [-190.0, -151.0, -142.0],
    "adam, train": [-120.0, -110.0],
}
VARIANCES = {
    "trace": {"overall": 5.0, "encoder": 3.0, "decoder": 2.0},
    "analytic-kl": {"overall": 4.0, "encoder": 2.5},
}
ERRORS = {"trace": {"overall": 0.5, "encoder": 0.3}}


def test_history_shows_every_value_at_its_epoch():
    ax = plots.elbo_history(CURVES, first_epoch=5, title="runs")
    lines = {line.get_label(): line for line in ax.lines}
    assert list(lines) == list(CURVES) == labels(ax)
    for name, values in CURVES.items():
        assert lines[name].get_ydata().tolist() == values
        assert lines[name].get_xdata().tolist() == list(range(5, 5 + len(values)))
    assert lines["sgd, train"].get_color() == lines["sgd, test"].get_color()
    assert lines["sgd, train"].get_color() != lines["adam, train"].get_color()
    assert [line.get_linestyle() for line in ax.lines] == ["-", "--", "-"]
    assert (ax.get_xlabel(), ax.get_title()) == ("epoch", "runs")


def test_history_of_one_epoch_is_visible():
    ax = drawn(plots.elbo_history({"train": [-200.0], "test": [-190.0]}))
    assert [line.get_marker() for line in ax.lines] == ["o", "x"]
    ticks = [tick for tick in ax.get_xticks() if 0 <= tick <= 2]
    assert ticks == [0, 1, 2]


def test_history_without_a_test_part():
    ax = plots.elbo_history({"train": [-2.0, -1.0], "test": []})
    assert labels(ax) == ["train"]


def test_densities_are_drawn_over_z_and_the_first_is_filled():
    z = np.linspace(0, 1, 20)
    ax = plots.posterior_against_guide(z, {"posterior": z**2, "guide": 1 - z, "best": z})
    outline = ax.collections[0].get_paths()[0].vertices
    assert outline[:, 1].max() == 1
    assert [line.get_ydata().tolist() for line in ax.lines] == [(1 - z).tolist(), z.tolist()]
    assert labels(ax) == ["posterior", "guide", "best"]
    assert ax.get_ylim()[0] == 0


def test_bars_have_the_heights_errors_and_closed_forms_given():
    ax = plots.gradient_variance_bars(VARIANCES, ERRORS, exact={"trace": {"overall": 4.8}})
    for container, (name, row) in zip(_bars(ax), VARIANCES.items(), strict=True):
        assert container.get_label() == name
        heights = [patch.get_height() for patch in container.patches]
        groups = ["overall", "encoder", "decoder"]
        np.testing.assert_array_equal(heights, [row.get(group, np.nan) for group in groups])
    segments = _bars(ax)[0].errorbar.lines[2][0].get_segments()
    np.testing.assert_allclose(segments[0][:, 1], [4.5, 5.5])
    np.testing.assert_allclose(segments[1][:, 1], [2.7, 3.3])
    lines = [s for c in ax.collections for s in c.get_segments() if len(s) == 2]
    bar = _bars(ax)[0].patches[0]
    middle = bar.get_x() + bar.get_width() / 2
    assert any((s[:, 1] == 4.8).all() and s[0, 0] < middle < s[1, 0] for s in lines)
    assert "closed form" in labels(ax)
    first, second = (container.patches[0] for container in _bars(ax))
    assert first.get_x() + first.get_width() < second.get_x()


def _bars(ax):
    return [c for c in ax.containers if hasattr(c, "patches")]


@pytest.mark.parametrize(("largest", "scale"), [(30.0, "linear"), (31.0, "log")])
def test_the_axis_is_logarithmic_where_variances_differ_much(largest, scale):
    ax = plots.gradient_variance_bars({"a": {"all": 1.0}, "b": {"all": largest}, "c": {"all": 0}})
    assert ax.get_yscale() == scale


@pytest.mark.parametrize("groups", [1, 3, 6, 12])
def test_bars_have_their_legend_outside_and_no_text_on_another(groups):
    names = ["trace", "sticking-the-landing", "score-function", "an estimator of a user's own"]
    rows = {n: {f"group {g}": 1.0 + g for g in range(groups)} for n in names}
    ax = drawn(plots.gradient_variance_bars(rows, title="BernoulliVAE, 64 examples"))
    assert legend_is_outside(ax)
    assert is_within_figure(ax)
    assert not overlaps([*ax.get_legend().get_texts(), ax.title, ax.yaxis.label])
    if groups < 6:  # slanted ones have boxes that overlap though the words do not
        assert not overlaps(ax.get_xticklabels())


def test_no_estimator_has_no_bars_and_says_so():
    ax = drawn(plots.gradient_variance_bars({}, {}, title="exact only"))
    assert not ax.containers
    assert [text.get_text() for text in ax.texts] == ["no variance to show"]


def test_curves_and_bars_are_drawn_on_the_axes_handed_in():
    _, axes = plots.subplots(1, 3)
    z = np.linspace(0, 1, 3)
    assert plots.elbo_history(CURVES, axes[0, 0]) is axes[0, 0]
    assert plots.posterior_against_guide(z, {"posterior": z}, axes[0, 1]) is axes[0, 1]
    assert plots.gradient_variance_bars(VARIANCES, ERRORS, axes[0, 2]) is axes[0, 2]
    assert legend_is_outside(axes[0, 2])


Z = np.zeros(3)


@pytest.mark.parametrize(
    ("draw", "error", "message"),
    [
        (lambda: plots.elbo_history({}), ValueError, "at least one curve with a value; got none"),
        (lambda: plots.elbo_history({"train": []}), ValueError, "at least one curve"),
        (lambda: plots.elbo_history({"a": np.zeros((2, 2))}), ValueError, r"curve 'a' of shape"),
        (lambda: plots.elbo_history({"a": "words"}), TypeError, "curve 'a' as an array"),
        (lambda: plots.posterior_against_guide(Z, {}), ValueError, "at least one density"),
        (
            lambda: plots.posterior_against_guide(Z, {"guide": np.zeros(4)}),
            ValueError,
            r"one shape \(points,\); got \(3,\) and \(4,\)",
        ),
        (lambda: plots.posterior_against_guide("z", {"a": Z}), TypeError, "z as an array"),
        (
            lambda: plots.gradient_variance_bars({"trace": {"all": -1.0}}),
            ValueError,
            r"at least 0; got -1 \(trace, all\)",
        ),
    ],
)
def test_bad_input(draw, error, message):
    with pytest.raises(error, match=message):
        draw()
