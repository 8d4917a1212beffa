"""A user's own image files as image data."""

import numpy as np
import pytest
import torch
from PIL import Image

from ppl_vae import ImageData

RNG = np.random.default_rng(0)
read = ImageData.from_folder


def save(path, pixels, **options):
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(pixels).save(path, **options)
    return pixels


def grey(height=5, width=7):
    return RNG.integers(0, 256, (height, width), dtype=np.uint8)


def colour(height=5, width=7):
    return RNG.integers(0, 256, (height, width, 3), dtype=np.uint8)


def pixels(data, number=0):
    found = data.images[number].movedim(0, -1).numpy()
    return found[..., 0] if found.shape[-1] == 1 else found


def test_images_come_in_the_order_of_their_paths(tmp_path):
    made = {name: save(tmp_path / name, grey()) for name in ("b.png", "c.PNG", "a.bmp", "d.tif")}
    (tmp_path / "notes.txt").write_text("not an image")
    save(tmp_path / ".hidden.png", grey(3, 3))
    save(tmp_path / "__MACOSX" / "x.png", grey(3, 3))
    data = read(tmp_path)
    assert (len(data), data.image_shape) == (4, (1, 5, 7))
    for number, name in enumerate(sorted(made)):
        np.testing.assert_array_equal(pixels(data, number), made[name])
    assert not data.has_labels
    assert data.classes is None
    assert data.name == tmp_path.name


def test_folders_are_classes(tmp_path):
    save(tmp_path / "cats" / "1.png", colour())
    dog = save(tmp_path / "dogs" / "deep" / "1.png", colour())
    save(tmp_path / "cats" / "2.png", colour())
    (tmp_path / "empty").mkdir()
    data = read(tmp_path, binarize="none", split="train")
    assert data.image_shape == (3, 5, 7)
    assert data.classes == ("cats", "dogs")
    assert data.labels.tolist() == [0, 0, 1]
    assert data.has_labels
    np.testing.assert_array_equal(pixels(data, 2), dog)
    assert torch.equal(data.batch(slice(None)), data.images.double() / 255)
    assert repr(data) == (
        f"ImageData({tmp_path.name}, split=train, 3 images of (3, 5, 7), binarize=none)"
    )


def test_jpegs_are_read_as_they_were_meant(tmp_path):
    smooth = np.linspace(0, 255, 16 * 16).reshape(16, 16).astype(np.uint8)
    save(tmp_path / "1.jpg", smooth, quality=95)
    assert np.abs(pixels(read(tmp_path)).astype(int) - smooth).max() <= 8


def test_size_resizes_every_image_with_height_first(tmp_path):
    save(tmp_path / "1.png", np.full((10, 20), 90, dtype=np.uint8))
    save(tmp_path / "2.png", np.full((4, 3), 200, dtype=np.uint8))
    data = read(tmp_path, size=(6, 8))
    assert data.image_shape == (1, 6, 8)
    assert data.images.flatten(1).unique(dim=1).flatten().tolist() == [90, 200]
    assert read(tmp_path, size=4).image_shape == (1, 4, 4)


def test_an_image_of_the_wanted_size_is_not_changed(tmp_path):
    made = save(tmp_path / "1.png", grey())
    np.testing.assert_array_equal(pixels(read(tmp_path, size=(5, 7))), made)


def test_grey_and_colour_can_be_asked_for(tmp_path):
    one, other = save(tmp_path / "1.png", grey()), save(tmp_path / "2.png", colour())
    in_colour = read(tmp_path, grey=False)
    np.testing.assert_array_equal(pixels(in_colour), np.repeat(one[..., None], 3, axis=-1))
    np.testing.assert_array_equal(pixels(in_colour, 1), other)
    all_grey = read(tmp_path, grey=True)
    assert all_grey.image_shape == (1, 5, 7)
    luma = other @ [0.299, 0.587, 0.114]
    assert np.abs(pixels(all_grey, 1) - luma).max() <= 1


def test_sixteen_bits_keep_their_upper_part(tmp_path):
    deep = np.array([[0, 257, 65535], [128 * 257, 1000, 60000]], dtype=np.uint16)
    Image.fromarray(deep).save(tmp_path / "1.png")
    assert pixels(read(tmp_path)).tolist() == [[0, 1, 255], [128, 4, 233]]


def test_one_bit_is_black_and_white(tmp_path):
    made = grey() > 128
    Image.fromarray(made).save(tmp_path / "1.png")
    np.testing.assert_array_equal(pixels(read(tmp_path)), 255 * made.astype(np.uint8))


def test_transparent_pixels_are_black(tmp_path):
    made = np.concatenate([colour(), np.full((5, 7, 1), 255, dtype=np.uint8)], axis=-1)
    made[0, :, 3] = 0
    made[1, :, 3] = 51
    Image.fromarray(made).save(tmp_path / "1.png")
    found = pixels(read(tmp_path))
    assert (found[0] == 0).all()
    assert np.abs(found[1] - made[1, :, :3] * 0.2).max() <= 1
    np.testing.assert_array_equal(found[2:], made[2:, :, :3])


@pytest.mark.parametrize("transparency", [None, 0, bytes([0, 255, 255])])
def test_palettes_are_grey_if_their_colours_are(tmp_path, transparency):
    index = np.array([[0, 1, 2]], dtype=np.uint8)
    for name, palette in (("grey", [9] * 3 + [80] * 3 + [99] * 3), ("colour", range(9))):
        image = Image.fromarray(index)
        image.putpalette(list(palette))
        options = {} if transparency is None else {"transparency": transparency}
        (tmp_path / name).mkdir()
        image.save(tmp_path / name / "1.png", **options)
    first = 9 if transparency is None else 0
    assert pixels(read(tmp_path / "grey")).tolist() == [[first, 80, 99]]
    assert pixels(read(tmp_path / "colour"))[0, 1:].tolist() == [[3, 4, 5], [6, 7, 8]]


def test_a_cameras_orientation_is_followed(tmp_path):
    made = grey()
    exif = Image.Exif()
    exif[274] = 6  # to be turned by 90 degrees, clockwise
    save(tmp_path / "1.png", made, exif=exif)
    np.testing.assert_array_equal(pixels(read(tmp_path)), np.rot90(made, -1))


def test_of_an_animation_the_first_image_is_taken(tmp_path):
    first, second = Image.fromarray(grey()), Image.fromarray(grey())
    first.save(tmp_path / "1.gif", save_all=True, append_images=[second])
    np.testing.assert_array_equal(pixels(read(tmp_path)), np.asarray(first))


def test_no_folder_a_file_or_no_images(tmp_path):
    with pytest.raises(FileNotFoundError, match="none; got nothing of that name"):
        read(tmp_path / "none")
    (tmp_path / "notes.txt").write_text("")
    with pytest.raises(FileNotFoundError, match="notes.txt; got a file"):
        read(tmp_path / "notes.txt")
    with pytest.raises(
        FileNotFoundError, match=r"a folder with images \(.*\.png.*; got one without"
    ):
        read(tmp_path)


def test_several_sizes_name_two_files(tmp_path):
    save(tmp_path / "a.png", grey())
    save(tmp_path / "b.png", grey())
    save(tmp_path / "c.png", grey(6, 7))
    with pytest.raises(
        ValueError, match=r"a.png of 5 x 7 and .*c.png of 6 x 7 \(height x width\)"
    ):
        read(tmp_path)


def test_grey_and_colour_name_two_files(tmp_path):
    save(tmp_path / "a.png", colour())
    save(tmp_path / "b.png", grey())
    with pytest.raises(ValueError, match=r"a.png, in colour, and .*b.png, grey. Pass grey=True"):
        read(tmp_path)


@pytest.mark.parametrize("content", [b"", b"no image", None])
def test_a_file_that_cannot_be_read_is_named(tmp_path, content):
    save(tmp_path / "a.png", grey())
    whole = tmp_path / "b.png"
    save(whole, grey(50, 50))
    whole.write_bytes(whole.read_bytes()[:600] if content is None else content)
    with pytest.raises(ValueError, match=r"can be read, .*b.png; got .*Mend the file or take it"):
        read(tmp_path)


def test_numbers_that_are_no_bytes_are_refused(tmp_path):
    Image.fromarray(np.zeros((2, 2), dtype=np.float32)).save(tmp_path / "a.tif")
    with pytest.raises(ValueError, match="a.tif; got ValueError .floating-point pixels"):
        read(tmp_path)
    Image.fromarray(np.full((2, 2), 70_000, dtype=np.int32)).save(tmp_path / "a.tif")
    with pytest.raises(ValueError, match="grey values from 70000 to 70000"):
        read(tmp_path)


def test_images_beside_folders_of_images(tmp_path):
    save(tmp_path / "loose.png", grey())
    save(tmp_path / "cats" / "1.png", grey())
    with pytest.raises(ValueError, match=r"both, loose.png and cats/1.png. Move the loose ones"):
        read(tmp_path)


@pytest.mark.parametrize(
    ("size", "error", "message"),
    [
        (0, ValueError, "height of at least 1"),
        ((4, -1), ValueError, "width of at least 1"),
        (2.5, TypeError, "height as an int"),
        ((4, 4, 3), TypeError, r"size as a number, or \(height, width\)"),
    ],
)
def test_bad_sizes(tmp_path, size, error, message):
    save(tmp_path / "1.png", grey())
    with pytest.raises(error, match=message):
        read(tmp_path, size=size)
