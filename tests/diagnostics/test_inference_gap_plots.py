"""The pictures of a posterior in the plane and of the gap: what was drawn, and what is refused."""

import numpy as np
import pytest
from matplotlib.container import BarContainer

from ppl_vae import plots

LINE = np.linspace(-6, 6, 241)
FIRST, SECOND = np.meshgrid(LINE, LINE)
LOC, TRIL = np.array([0.5, -1.0]), np.array([[1.2, 0.0], [0.6, 0.5]])


def normal_density():
    inverse = np.linalg.inv(TRIL)
    u = inverse @ np.stack([FIRST.ravel() - LOC[0], SECOND.ravel() - LOC[1]])
    return np.exp(-0.5 * (u**2).sum(0)).reshape(FIRST.shape)


def test_the_contour_of_a_gaussian_is_its_ellipse():
    ax = plots.posterior_plane(
        LINE, LINE, normal_density(), {"same": (LOC, TRIL)}, masses=(0.5, 0.9), title="t"
    )
    ellipses = {
        mass: next(
            line.get_xydata()
            for line in ax.lines
            if len(line.get_xdata()) > 1 and (line.get_label() == "same") == (mass == 0.9)
        )
        for mass in (0.5, 0.9)
    }
    contours = [path for c in ax.collections for path in c.get_paths() if len(path.vertices) > 20]
    inverse = np.linalg.inv(TRIL)
    found = sorted(
        {
            round(float(np.median(np.linalg.norm(inverse @ (p.vertices - LOC).T, axis=0))), 2)
            for p in contours
        }
    )
    for mass, ellipse in ellipses.items():
        radius = np.linalg.norm(inverse @ (ellipse - LOC).T, axis=0)
        assert radius == pytest.approx(np.sqrt(-2 * np.log(1 - mass)), rel=1e-9)
        assert any(abs(each - radius[0]) < 0.02 for each in found)
    labels = [text.get_text() for text in ax.get_legend().get_texts()]
    assert labels == ["posterior (50%, 90%)", "same"]
    assert ax.get_title() == "t"
    assert ax.get_aspect() == 1


def test_it_draws_where_it_is_told_and_without_a_legend():
    _, axes = plots.subplots(1, 2)
    ellipses = {"guide": (LOC, TRIL), "best": (LOC + 1, TRIL), "third": (LOC - 1, TRIL)}
    ax = plots.posterior_plane(LINE, LINE, normal_density(), ellipses, axes[0, 1], legend=False)
    assert ax is axes[0, 1]
    assert ax.get_legend() is None
    colours = {line.get_color() for line in ax.lines}
    assert len(colours) == 3
    assert not axes[0, 0].lines


@pytest.mark.parametrize(
    ("change", "error", "message"),
    [
        ({"density": np.ones((3, 241))}, ValueError, "density of shape"),
        ({"first": LINE[None]}, ValueError, "density of shape"),
        ({"density": -normal_density()}, ValueError, "finite, at least 0, and above 0"),
        ({"density": 0 * normal_density()}, ValueError, "finite, at least 0, and above 0"),
        ({"density": np.nan * normal_density()}, ValueError, "finite, at least 0, and above 0"),
        ({"masses": (0.5, 1.0)}, ValueError, "masses between 0 and 1"),
        ({"masses": ()}, ValueError, "masses between 0 and 1"),
        ({"ellipses": {"a": (LOC, np.ones(2))}}, ValueError, r"\(2,\) and \(2, 2\)"),
        ({"density": [["a"]]}, TypeError, "density as an array of numbers"),
    ],
    ids=str,
)
def test_bad_posteriors(change, error, message):
    good = {"first": LINE, "second": LINE, "density": normal_density(), "ellipses": {}}
    with pytest.raises(error, match=message):
        plots.posterior_plane(**{**good, **change})


def bars(ax):
    return [each for each in ax.containers if isinstance(each, BarContainer)]


def test_parts_stand_on_each_other():
    ax = plots.evidence_gap(
        {"approximation": [0.5, 0.2, -0.1], "amortisation": [1.0, 2.0, 3.0]},
        errors={"amortisation": [0.1, 0.1, 0.1]},
        labels=["a", "b", "c"],
    )
    lower, upper = bars(ax)
    assert [p.get_height() for p in lower.patches] == [0.5, 0.2, -0.1]
    assert [p.get_y() for p in upper.patches] == [0.5, 0.2, 0.0]
    assert [p.get_height() for p in upper.patches] == [1.0, 2.0, 3.0]
    assert [text.get_text() for text in ax.get_xticklabels()] == ["a", "b", "c"]
    assert ax.get_yscale() == "linear"
    assert [t.get_text() for t in ax.get_legend().get_texts()] == ["approximation", "amortisation"]


def test_very_different_parts_stand_side_by_side():
    ax = plots.evidence_gap({"approximation": [0.02, -0.1], "amortisation": [90.0, 2.0]})
    assert ax.get_yscale() == "log"
    left, right = bars(ax)
    assert right.patches[0].get_x() >= left.patches[0].get_x() + left.patches[0].get_width()
    assert np.isnan(left.patches[1].get_height())
    assert right.patches[0].get_height() == 90.0


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"parts": {}}, "parts, and errors, of one shape"),
        ({"parts": {"a": [1.0], "b": [1.0, 2.0]}}, "parts, and errors, of one shape"),
        ({"errors": {"a": [1.0, 2.0, 3.0]}}, "parts, and errors, of one shape"),
        ({"parts": {"a": []}}, "parts, and errors, of one shape"),
        ({"labels": ["one"]}, "2 labels, one a bar"),
    ],
    ids=str,
)
def test_bad_gaps(change, message):
    with pytest.raises(ValueError, match=message):
        plots.evidence_gap(**{"parts": {"a": [1.0, 2.0]}, **change})
