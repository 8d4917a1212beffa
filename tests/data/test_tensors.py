"""A user's own tensors as image data."""

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from ppl_vae import BernoulliVAE, ConvGaussianVAE, ImageData, fit

make = ImageData.from_tensor


def grey(count=4, height=5, width=6):
    return torch.rand(count, height, width)


@pytest.mark.parametrize("dtype", [torch.float64, torch.float32, torch.float16, torch.bfloat16])
def test_floats_become_the_nearest_byte(dtype):
    x = grey().to(dtype)
    data = make(x)
    assert data.images.dtype is torch.uint8
    assert data.image_shape == (1, 5, 6)
    error = data.images[:, 0].double() / 255 - x.double()
    assert error.abs().max() <= 1 / 510 + 1e-7


@pytest.mark.parametrize("dtype", [torch.float64, torch.float32])
def test_multiples_of_a_255th_are_kept_exactly(dtype):
    every = torch.arange(256, dtype=torch.uint8).reshape(1, 16, 16)
    data = make(every.to(dtype) / 255, binarize="none")
    assert torch.equal(data.images[:, 0], every)
    assert torch.equal(data.batch(slice(None), dtype=dtype)[:, 0], every.to(dtype) / 255)


def test_bytes_and_booleans():
    x = (255 * grey()).to(torch.uint8)
    assert torch.equal(make(x).images[:, 0], x)
    assert torch.equal(make(x > 99).images[:, 0], (x > 99).to(torch.uint8) * 255)
    assert make(torch.zeros_like(x)).images.max() == 0


@pytest.mark.parametrize("channels", [1, 3])
@pytest.mark.parametrize("kind", [torch.Tensor, np.ndarray])
def test_channels_may_be_first_or_last(channels, kind):
    first = (255 * torch.rand(2, channels, 5, 6)).to(torch.uint8)
    last = first.movedim(1, -1)
    for images, where in ((first, None), (first, "first"), (last, None), (last, "last")):
        data = make(images if kind is torch.Tensor else images.numpy(), channels=where)
        assert data.image_shape == (channels, 5, 6)
        assert torch.equal(data.images, first)


@pytest.mark.parametrize("shape", [(2, 3, 5, 3), (4, 1, 1, 1), (2, 1, 5, 3), (2, 3, 3, 1)])
def test_shapes_that_could_be_both_need_a_word(shape):
    with pytest.raises(ValueError, match=r"Pass channels='first' or channels='last'"):
        make(torch.rand(shape))
    assert make(torch.rand(shape), channels="first").image_shape == shape[1:]
    last = make(torch.rand(shape), channels="last").image_shape
    assert last == (shape[3], shape[1], shape[2])


@given(
    st.integers(1, 4), st.sampled_from([1, 3]), st.integers(4, 9), st.integers(4, 9), st.booleans()
)
def test_any_size_becomes_the_image_shape(count, channels, height, width, colour_last):
    shape = (count, height, width, channels) if colour_last else (count, channels, height, width)
    data = make(torch.zeros(shape))
    assert (len(data), data.image_shape) == (count, (channels, height, width))


def test_labels_options_and_the_original_are_kept():
    x, labels = grey(), [3, 1, 2, 1]
    before = x.clone()
    data = make(x, labels, binarize="threshold", name="mine", split="train", classes="abcd")
    assert torch.equal(x, before)
    assert data.labels.tolist() == labels
    assert data.has_labels
    assert data[1:3].classes == ("a", "b", "c", "d")
    assert not make(x).has_labels
    assert repr(data) == (
        "ImageData(mine, split=train, 4 images of (1, 5, 6), binarize=threshold)"
    )


def test_the_pixel_range_is_kept_by_parts_and_copies_and_shown():
    data = make(grey(), binarize="none", pixel_range=(-1, 1))
    for part in (data, data[1:3], data[torch.tensor([2])], data.to("cpu")):
        assert part.pixel_range == (-1.0, 1.0)
        assert repr(part).endswith("binarize=none, pixel_range=(-1.0, 1.0))")
        x = part.batch(slice(None), dtype=torch.float64)
        assert torch.equal(x, -1 + 2 * (part.images.double() / 255))


def test_colour_images_train_the_pairs_of_their_shape():
    x = torch.rand(6, 3, 8, 8)
    options = {"progress": False, "num_epochs": 1, "device": "cpu"}
    data = make(x)
    history = fit(BernoulliVAE(data.image_shape, 2, (8,), seed=0), data, **options)
    assert history.train_elbo[0] < -6
    signed = make(x, **ConvGaussianVAE.data_options)
    assert signed.pixel_range == (-1.0, 1.0)
    fit(ConvGaussianVAE(2, image_shape=data.image_shape, seed=0), signed, **options)


@pytest.mark.parametrize(
    ("images", "message"),
    [
        (torch.rand(5, 1, 9, 9), r"x of shape \(batch, 1, 8, 8\) or \(batch, 64\)"),
        (torch.rand(5, 3, 8, 8), r"got shape \(5, 3, 8, 8\)"),
        (torch.rand(5, 8, 7), "build the pair with their image_shape"),
    ],
)
@pytest.mark.parametrize("cls", [BernoulliVAE, ConvGaussianVAE])
def test_images_that_are_not_the_pairs_are_refused_before_work(images, message, cls, tmp_path):
    pair = cls(image_shape=(1, 8, 8), latent_dim=2, seed=0)
    with pytest.raises(ValueError, match=message):
        fit(pair, make(images), run_dir=tmp_path / "run", progress=False, device="cpu")
    assert not (tmp_path / "run").exists()


BYTES = torch.zeros(4, 5, 6, dtype=torch.uint8)


@pytest.mark.parametrize(
    ("build", "error", "message"),
    [
        (lambda: make([[0.0]]), TypeError, "torch tensor or a NumPy array of numbers; got list"),
        (lambda: make(np.array([["a"]])), TypeError, "NumPy array of numbers; got ndarray"),
        (lambda: make(BYTES.long()), TypeError, "got dtype torch.int64"),
        (lambda: make(grey() + 1), ValueError, "divide by 255"),
        (lambda: make(grey() - 0.5), ValueError, r"pixels in \[0, 1\]; got values from -0\."),
        (lambda: make(grey() * torch.nan), ValueError, r"pixels in \[0, 1\]; got NaN"),
        (lambda: make(grey() / 0), ValueError, r"values from inf to inf"),
        (lambda: make((grey() > 0.5).to(torch.uint8)), ValueError, r"Pass images.bool\(\)"),
        (lambda: make(grey(0)), ValueError, "images with at least one entry"),
        (lambda: make(grey()[0]), ValueError, r"got shape \(5, 6\)"),
        (lambda: make(torch.rand(2, 4, 5, 6)), ValueError, "channels 1 or 3; got shape"),
        (lambda: make(torch.rand(2, 5, 6, 4)), ValueError, "such as transparency"),
        (lambda: make(torch.rand(8, 9, 3)), ValueError, r"images\[None\] for the one"),
        (
            lambda: make(torch.rand(2, 3, 8, 9), channels="last"),
            ValueError,
            r"\(count, height, width, channels\), channels 1 or 3; got shape",
        ),
        (lambda: make(grey(), channels="last"), ValueError, "images of shape"),
        (lambda: make(grey()[:, None], channels="frist"), ValueError, "Did you mean 'first'"),
        (lambda: make(grey(), [1, 2]), ValueError, "4 labels, one per image"),
        (lambda: make(grey(), [0.5, 1, 2, 3]), TypeError, "labels as integers; got dtype"),
        (lambda: make(grey(), ["a", "b", "c", "d"]), TypeError, "pass their names as classes="),
        (lambda: make(grey(), pixel_range=(1, -1)), ValueError, "pixel_range finite, the first"),
        (lambda: make(grey(), pixel_range=(0, torch.inf)), ValueError, "pixel_range finite"),
        (lambda: make(grey(), pixel_range=1.0), TypeError, "pixel_range as two numbers"),
        (lambda: make(grey(), pixel_range=("0", "1")), TypeError, "pixel_range as two numbers"),
        (lambda: make(grey(), binarize="hard"), ValueError, "binarize as one of"),
        (lambda: make(grey())[2], TypeError, r"Use data\[2:3\] for one image"),
    ],
)
def test_bad_input(build, error, message):
    with pytest.raises(error, match=message):
        build()
