"""Grids of images and reconstructions: what is drawn where."""

import numpy as np
import pytest
import torch
from drawn import drawn, is_within_figure, overlaps
from PIL import Image

from ppl_vae import plots

RNG = np.random.default_rng(0)


def images(count=5, channels=1, height=4, width=6):
    return RNG.random((count, channels, height, width))


def sheet(ax):
    (image,) = ax.images
    return image


@pytest.mark.parametrize("channels", [1, 3])
@pytest.mark.parametrize(
    ("count", "columns", "gap"), [(1, 1, 0), (5, 2, 0), (5, 3, 2), (64, 8, 1)]
)
def test_every_image_is_at_its_place_and_the_rest_is_white(channels, count, columns, gap):
    x = images(count, channels)
    found = np.asarray(sheet(plots.image_grid(x, columns=columns, gap=gap)).get_array())
    rows = -(-count // columns)
    rest = np.ones(found.shape[:2], dtype=bool)
    assert found.shape[:2] == (rows * (4 + gap) - gap, columns * (6 + gap) - gap)
    for number in range(count):
        top, left = (4 + gap) * (number // columns), (6 + gap) * (number % columns)
        place = slice(top, top + 4), slice(left, left + 6)
        expected = np.moveaxis(x[number], 0, -1)
        np.testing.assert_array_equal(found[place].reshape(4, 6, channels), expected)
        rest[place] = False
    assert (found[rest] == 1).all()


@pytest.mark.parametrize(
    ("count", "columns"), [(1, 1), (7, 7), (20, 8), (64, 8), (65, 9), (1000, 32)]
)
def test_rows_have_eight_images_or_make_a_square(count, columns):
    found = sheet(plots.image_grid(images(count, height=2, width=2), gap=0)).get_array()
    assert found.shape == (2 * -(-count // columns), 2 * columns)


def test_grey_images_keep_their_values_between_the_given_ends():
    x = 2 * images() - 1
    drawing = sheet(plots.image_grid(x, vmin=-1, vmax=1, columns=5, gap=0))
    assert drawing.get_clim() == (-1, 1)
    np.testing.assert_array_equal(drawing.get_array(), np.concatenate(x[:, 0], axis=-1))
    pixels = drawing.to_rgba(drawing.get_array())[..., :3]
    np.testing.assert_allclose(pixels[:4, :6, 0], (x[0, 0] + 1) / 2, atol=1 / 250)


def test_coloured_images_are_mapped_and_clipped():
    x = 3 * images(2, 3) - 1.5
    found = sheet(plots.image_grid(x, vmin=-1, vmax=1, gap=0)).get_array()
    expected = np.concatenate(np.moveaxis(x, 1, -1), axis=1)
    np.testing.assert_allclose(found, np.clip((expected + 1) / 2, 0, 1), rtol=1e-15)


def test_bytes_are_white_at_255_and_booleans_at_1():
    x = (255 * images()).astype(np.uint8)
    assert sheet(plots.image_grid(x)).get_clim() == (0, 255)
    colour = np.full((1, 3, 2, 2), 255, dtype=np.uint8)
    assert (sheet(plots.image_grid(colour)).get_array() == 1).all()
    assert sheet(plots.image_grid(images() > 0.5)).get_clim() == (0, 1)


@pytest.mark.parametrize("title", ["", "a title that is wider than one small image"])
@pytest.mark.parametrize("count", [1, 64, 300])
def test_nothing_is_cut_off(count, title):
    assert is_within_figure(plots.image_grid(images(count), title=title))
    x = images(count)
    assert is_within_figure(plots.reconstructions(x, x, title=title))


def test_pictures_are_drawn_on_the_axes_handed_in():
    _, axes = plots.subplots(1, 2)
    x = images()
    assert plots.image_grid(x, axes[0, 0], title="left") is axes[0, 0]
    assert plots.reconstructions(x, x, axes[0, 1]) is axes[0, 1]
    assert [len(ax.images) for ax in axes.flat] == [1, 1]
    assert axes[0, 0].get_title() == "left"


def test_tensors_without_gradient_are_arrays():
    x = torch.rand(2, 1, 3, 3)
    found = sheet(plots.image_grid(x, gap=0)).get_array()
    np.testing.assert_array_equal(found, torch.cat([x[0, 0], x[1, 0]], dim=-1).numpy())


@pytest.mark.parametrize("channels", [1, 3])
@pytest.mark.parametrize(("count", "columns"), [(1, None), (8, None), (11, None), (5, 2)])
def test_every_reconstruction_is_right_under_its_input(channels, count, columns):
    x = images(count, channels)
    y = images(count, channels)
    ax = plots.reconstructions(x, y, columns=columns)
    found = np.asarray(sheet(ax).get_array()).reshape(*sheet(ax).get_array().shape[:2], channels)
    per_row = min(columns or 8, count)
    step = len(found) + 3 if count <= per_row else 2 * 4 + 1 + 3
    for number in range(count):
        top, left = step * (number // per_row), 7 * (number % per_row)
        for image, start in ((x[number], top), (y[number], top + 5)):
            part = found[start : start + 4, left : left + 6]
            np.testing.assert_array_equal(part, np.moveaxis(image, 0, -1))


def test_rows_of_reconstructions_are_named_at_their_middles():
    x = images(16)
    ax = drawn(plots.reconstructions(x, x, names=("above", "below")))
    assert [t.get_text() for t in ax.get_yticklabels()] == ["above", "below"] * 2
    np.testing.assert_array_equal(ax.get_yticks(), [1.5, 6.5, 13.5, 18.5])
    assert not overlaps(ax.get_yticklabels())


@pytest.mark.parametrize(
    ("draw", "error", "message"),
    [
        (lambda: plots.image_grid(np.zeros((2, 4, 4))), ValueError, r"shape \(2, 4, 4\)"),
        (lambda: plots.image_grid(np.zeros((2, 2, 4, 4))), ValueError, r"grey \(channels 1\)"),
        (lambda: plots.image_grid(np.zeros((0, 1, 4, 4))), ValueError, "at least one"),
        (lambda: plots.image_grid(np.full((1, 1, 2, 2), np.nan)), ValueError, "4 of 4 that are"),
        (lambda: plots.image_grid([["a"]]), TypeError, "images as an array of numbers"),
        (lambda: plots.image_grid([[1], [1, 2]]), TypeError, "images as an array of numbers"),
        (
            lambda: plots.image_grid(torch.zeros(1, 1, 2, 2, requires_grad=True)),
            TypeError,
            r"tensor.detach\(\).cpu\(\).numpy\(\)",
        ),
        (lambda: plots.image_grid(images(), vmin=1, vmax=0), ValueError, "vmin below vmax"),
        (lambda: plots.image_grid(images(), vmin=1), ValueError, "vmin below vmax"),
        (lambda: plots.image_grid(images(), columns=0), ValueError, "columns as a whole number"),
        (lambda: plots.tile(images(), 1.5), ValueError, "columns as a whole number"),
        (lambda: plots.tile(np.zeros(3), 1), ValueError, "count, channels, height, width"),
        (lambda: plots.tile("images", 1), TypeError, "images as an array of numbers"),
        (
            lambda: plots.reconstructions(images(3), images(2)),
            ValueError,
            r"of one shape; got \(3, 1, 4, 6\) and \(2, 1, 4, 6\)",
        ),
        (lambda: plots.reconstructions(images(), np.zeros(3)), ValueError, "outputs of shape"),
        (lambda: plots.reconstructions("x", images()), TypeError, "inputs as an array"),
        (
            lambda: plots.reconstructions(images(), images(), vmin=2),
            ValueError,
            "vmin below vmax",
        ),
        (
            lambda: plots.reconstructions(images(), images(), columns=-1),
            ValueError,
            "columns as a whole number",
        ),
    ],
)
def test_bad_input(draw, error, message):
    with pytest.raises(error, match=message):
        draw()


@pytest.mark.parametrize(("channels", "mode"), [(1, "L"), (3, "RGB")])
def test_a_picture_is_saved_as_a_small_png(channels, mode, tmp_path):
    smooth = np.linspace(0, 1, 28)[:, None] * np.linspace(0, 1, 64 * 28).reshape(64, 1, 1, 28)
    x = np.concatenate([smooth, smooth / 2, smooth / 3][:channels], axis=1)
    ax = plots.image_grid(x)
    plots.save(ax, tmp_path / "grid.png")
    assert (tmp_path / "grid.png").stat().st_size < 200_000
    ax.get_figure().savefig(tmp_path / "plain.png", dpi=plots.DPI)
    with Image.open(tmp_path / "grid.png") as ours, Image.open(tmp_path / "plain.png") as plain:
        assert (ours.format, ours.mode) == ("PNG", mode)
        np.testing.assert_array_equal(ours.convert("RGB"), plain.convert("RGB"))
