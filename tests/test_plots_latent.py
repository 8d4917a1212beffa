"""Scatters and walks of the latent space: what is drawn where."""

import numpy as np
import pytest
from drawn import drawn, is_within_figure, labels, legend_is_outside, overlaps

from ppl_vae import plots

RNG = np.random.default_rng(0)
CODES = RNG.normal(size=(60, 2))


def points(ax):
    return {c.get_label(): np.asarray(c.get_offsets()) for c in ax.collections}


def test_codes_are_grouped_by_label_in_order():
    marks = np.arange(60) % 12
    ax = plots.latent_scatter(CODES, marks)
    found = points(ax)
    assert labels(ax) == list(found) == [str(n) for n in range(12)]
    for mark in range(12):
        np.testing.assert_array_equal(found[str(mark)], CODES[marks == mark])
    looks = {
        (tuple(c.get_facecolor()[0]), c.get_paths()[0].vertices.tobytes()) for c in ax.collections
    }
    assert len(looks) == 12


def test_all_codes_are_in_view_and_to_one_scale():
    codes = CODES * [1, 30]
    ax = drawn(plots.latent_scatter(codes))
    for (low, high), values in zip((ax.get_xlim(), ax.get_ylim()), codes.T, strict=True):
        assert low < values.min() <= values.max() < high
    unit = np.diff(ax.transData.transform([[0, 0], [1, 1]]), axis=0)[0]
    assert unit[0] == pytest.approx(unit[1])


def test_words_are_labels_too():
    ax = plots.latent_scatter(CODES, ["boot", "coat"] * 30)
    assert labels(ax) == ["boot", "coat"]
    np.testing.assert_array_equal(points(ax)["coat"], CODES[1::2])


def test_without_labels_all_codes_are_drawn_and_no_legend():
    ax = plots.latent_scatter(CODES)
    assert ax.get_legend() is None
    (found,) = points(ax).values()
    np.testing.assert_array_equal(found, CODES)


@pytest.mark.parametrize("missing", [None, float("nan")])
def test_labels_that_are_missing_are_named_so(missing):
    ax = plots.latent_scatter(CODES, [missing, 1, 2] * 20)
    found = points(ax)
    np.testing.assert_array_equal(found["no label"], CODES[::3])
    assert len(found) == 3
    assert len(labels(ax)) == 3


@pytest.mark.parametrize(
    ("count", "scale"), [(1, 1.0), (10, 1e-7), (10, 1e7), (2, 1e4), (35, 1e-2), (80, 1.0)]
)
def test_the_legend_is_outside_and_nothing_overlaps(count, scale):
    codes = scale * RNG.normal(size=(400, 5)) * [50, 1, 1, 1, 1] + 3
    ax = drawn(plots.latent_scatter(codes, np.arange(400) % count, title="codes"))
    assert legend_is_outside(ax)
    assert not overlaps(ax.get_xticklabels())
    assert not overlaps(ax.get_yticklabels())
    words = [ax.xaxis.label, ax.title, ax.xaxis.get_offset_text(), ax.yaxis.get_offset_text()]
    assert not overlaps([*ax.get_legend().get_texts(), *words])
    assert is_within_figure(ax)


def test_the_legend_of_long_words_fits_too():
    ax = plots.latent_scatter(CODES, [f"ankle boot {n}" for n in range(60)])
    assert legend_is_outside(ax)
    assert is_within_figure(ax)


def test_the_legend_is_outside_of_axes_handed_in():
    _, axes = plots.subplots(1, 2, size=(5, 4))
    for ax in axes.flat:
        assert plots.latent_scatter(CODES, np.arange(60) % 10, ax) is ax
    assert legend_is_outside(axes[0, 1])
    right_edge = axes[0, 0].get_legend().get_window_extent().x1
    assert right_edge <= axes[0, 1].get_window_extent().x0


def test_many_dimensions_are_drawn_by_principal_components():
    scores = RNG.normal(size=(50, 2)) * [3, 1]
    scores -= scores.mean(0)
    scores = np.linalg.qr(scores)[0] * [3, 1]
    basis = np.linalg.qr(RNG.normal(size=(6, 2)))[0]
    ax = plots.latent_scatter(scores @ basis.T + 7)
    (found,) = points(ax).values()
    for number in range(2):
        sign = np.sign(found[0, number] * scores[0, number])
        np.testing.assert_allclose(sign * found[:, number], scores[:, number], atol=1e-12)
    assert ax.get_xlabel() == "principal component 1 (90%)"
    assert ax.get_ylabel() == "principal component 2 (10%)"


def test_principal_components_agree_with_scikit_learn():
    from sklearn.decomposition import PCA

    codes = RNG.normal(size=(40, 6)) @ RNG.normal(size=(6, 6))
    found, shares = plots.principal_components(codes, count=3)
    referee = PCA(3).fit(codes)
    expected = referee.transform(codes)
    signs = np.sign((found * expected).sum(0))
    np.testing.assert_allclose(found, signs * expected, atol=1e-10)
    np.testing.assert_allclose(shares, referee.explained_variance_ratio_, rtol=1e-10)


@pytest.mark.parametrize("codes", [np.ones((5, 3)), np.zeros((1, 4))])
def test_codes_that_do_not_vary_have_no_shares(codes):
    coordinates, shares = plots.principal_components(codes)
    assert (coordinates == 0).all()
    assert shares.tolist() == [0, 0]
    drawn(plots.latent_scatter(codes))


def decode(z):
    """The first pixel is the first dimension, the second the second."""
    return np.stack([z, z[:, ::-1]], axis=1)[:, None] / 10 + 0.5


def test_every_image_of_a_walk_is_centred_at_its_code():
    ax = plots.latent_walk(decode, extent=4, steps=5)
    (image,) = ax.images
    left, right, bottom, top = image.get_extent()
    sheet = np.asarray(image.get_array())
    assert sheet.shape == (10, 10)
    for row in range(5):
        for column in range(5):
            first = left + (right - left) * (column + 0.5) / 5
            second = top + (bottom - top) * (row + 0.5) / 5
            part = sheet[2 * row : 2 * row + 2, 2 * column : 2 * column + 2]
            np.testing.assert_allclose(part, decode(np.array([[first, second]]))[0, 0])
    assert (first, second) == (4, -4)


@pytest.mark.parametrize("channels", [1, 3])
def test_pixels_of_a_walk_are_square_and_its_ends_as_given(channels):
    ax = plots.latent_walk(
        lambda z: np.zeros((len(z), channels, 6, 3)), steps=4, vmin=-1, vmax=1, title="walk"
    )
    (image,) = drawn(ax).images
    box = ax.get_window_extent()
    assert box.height / box.width == pytest.approx(2, rel=1e-3)
    shade = 0 if channels == 1 else 0.5
    assert (image.get_array() == shade).all()
    assert is_within_figure(ax)


def test_a_walk_of_one_step_is_the_prior_mean():
    seen = []
    plots.latent_walk(lambda z: seen.append(z) or np.zeros((1, 1, 2, 2)), steps=1)
    assert seen[0].tolist() == [[0, 0]]


@pytest.mark.parametrize(
    ("draw", "error", "message"),
    [
        (lambda: plots.latent_scatter(np.zeros(5)), ValueError, "codes of shape"),
        (lambda: plots.latent_scatter(np.zeros((5, 1))), ValueError, "at least two dimensions"),
        (lambda: plots.latent_scatter("codes"), TypeError, "codes as an array of numbers"),
        (lambda: plots.latent_scatter(CODES, [1, 2]), ValueError, "60 labels, one per code"),
        (
            lambda: plots.latent_scatter(np.zeros((81, 2)), range(81)),
            ValueError,
            "at most 80 different labels; got 81",
        ),
        (lambda: plots.principal_components(np.zeros(5)), ValueError, "codes of shape"),
        (lambda: plots.principal_components("codes"), TypeError, "codes as an array"),
        (lambda: plots.latent_walk(decode, steps=0), ValueError, "steps as a whole number"),
        (lambda: plots.latent_walk(decode, extent=0), ValueError, "extent above 0"),
        (lambda: plots.latent_walk(lambda z: "?"), TypeError, "decoded images as an array"),
        (
            lambda: plots.latent_walk(lambda z: np.zeros((3, 1, 2, 2)), steps=2),
            ValueError,
            "4 decoded images, one per code; got 3",
        ),
    ],
)
def test_bad_input(draw, error, message):
    with pytest.raises(error, match=message):
        draw()
