import os
import shutil
import stat
import subprocess
import sys
from pathlib import Path

import pytest
import torch

from ppl_vae import ImageData, load, seeded
from ppl_vae.data import DATASETS, binarize
from ppl_vae.data.fetched import folder
from ppl_vae.data.pixels import BINARIZE

RAMP = torch.arange(256, dtype=torch.uint8).reshape(1, 1, 16, 16)
MNIST_FILES = (
    "train-images-idx3-ubyte.gz",
    "train-labels-idx1-ubyte.gz",
    "t10k-images-idx3-ubyte.gz",
    "t10k-labels-idx1-ubyte.gz",
)


def test_digits_are_bytes_split_once_and_for_all():
    train, test = load("digits"), load("digits", split="test")
    assert (len(train), len(test)) == (1437, 360)
    assert train.images.dtype is torch.uint8
    assert train.image_shape == (1, 8, 8)
    assert (train.images.min(), train.images.max()) == (0, 255)
    for data in (train, test):
        assert data.labels.bincount().min() >= 0.09 * len(data)
    rows = {tuple(image.flatten().tolist()) for image in train.images}
    assert not rows & {tuple(image.flatten().tolist()) for image in test.images}


def test_dynamic_draws_have_the_pixel_as_probability_and_are_fresh():
    data = ImageData(RAMP.expand(20_000, -1, -1, -1))
    x = data.batch(slice(None)).flatten(1)
    p = RAMP.flatten().to(x.dtype) / 255
    error = (p * (1 - p) / len(x)).sqrt()
    assert set(x.unique().tolist()) == {0.0, 1.0}
    assert bool((x[:, [0, 255]] == p[[0, 255]]).all())
    assert bool(((x.mean(0) - p).abs() <= 4.5 * error).all())
    assert not torch.equal(x, data.batch(slice(None)).flatten(1))


def test_static_is_one_draw_kept():
    data = ImageData(RAMP, binarize="static")
    assert torch.equal(data.batch(slice(None)), data.batch(slice(None)))
    assert torch.equal(data.images, ImageData(RAMP, binarize="static").images)
    assert not torch.equal(data.images, ImageData(RAMP, binarize="static", seed=1).images)
    assert set(data.batch(slice(None)).unique().tolist()) == {0.0, 1.0}


def test_threshold_and_none():
    x = ImageData(RAMP, binarize="threshold").batch(slice(None)).flatten()
    assert x.tolist() == [0.0] * 128 + [1.0] * 128
    grey = ImageData(RAMP, binarize="none").batch(slice(None)).flatten()
    assert torch.equal(grey, torch.arange(256.0) / 255)


@pytest.mark.parametrize("way", BINARIZE)
def test_batches_follow_dtype_and_seed(way):
    data = load("digits", binarize=way)
    with seeded(1):
        first = data.batch(torch.tensor([3, 1]), dtype=torch.float32)
    with seeded(1):
        again = data.batch(torch.tensor([3, 1]), dtype=torch.float32)
    assert first.dtype is torch.float32
    assert torch.equal(first, again)
    assert first.shape == (2, 1, 8, 8)


def test_parts_keep_their_labels():
    data = load("digits")
    part = data[torch.tensor([5, 2])]
    assert torch.equal(part.labels, data.labels[[5, 2]])
    assert len(data[10:20].to("cpu")) == 10


def test_batches_may_hold_labels():
    data = load("digits", labels=True, binarize="threshold")
    index = torch.tensor([5, 2])
    images, labels = data[:10].to("cpu").batch(index, dtype=torch.float32)
    assert torch.equal(images, load("digits", binarize="threshold").batch(index).float())
    assert images.dtype is torch.float32
    assert labels.dtype is torch.int64
    assert torch.equal(labels, data.labels[index])
    assert repr(data).endswith("binarize=threshold, with labels)")
    own = ImageData.from_tensor(RAMP, torch.tensor([3], dtype=torch.uint8), with_labels=True)
    assert own.batch(slice(None))[1].dtype is torch.int64


def test_binarize_needs_bytes_and_a_seed():
    assert torch.equal(binarize(RAMP, seed=1), binarize(RAMP, seed=1))
    with pytest.raises(TypeError, match="tensor of bytes"):
        binarize(RAMP.double())


@pytest.mark.parametrize(
    ("make", "error", "message"),
    [
        (lambda: ImageData(RAMP.double()), TypeError, "tensor of bytes"),
        (lambda: ImageData(RAMP[:0]), ValueError, "at least one entry"),
        (lambda: ImageData(RAMP[0]), ValueError, "shape .count, channels, height, width."),
        (lambda: ImageData(RAMP, torch.zeros(3)), ValueError, "1 labels, one per image"),
        (lambda: ImageData(RAMP, binarize="hard"), ValueError, "binarize as one of"),
        (lambda: load("mnits"), ValueError, "Did you mean 'mnist'"),
        (lambda: load("digits", split="val"), ValueError, "split as one of train, test"),
        (lambda: load("digits", binarize="dynamical"), ValueError, "Did you mean 'dynamic'"),
        (
            lambda: load("pbmc", binarize="none"),
            ValueError,
            "binarize='none' with pbmc, which holds",
        ),
        (lambda: load("pbmc", pixel_range=(0, 1)), ValueError, "pixel_range=.0, 1. with pbmc"),
        (lambda: load("pbmc", labels=True), ValueError, "labels=True with pbmc.*choose images"),
        (lambda: ImageData(RAMP, with_labels=True), ValueError, "labels for batches to hold"),
    ],
)
def test_bad_input(make, error, message):
    with pytest.raises(error, match=message):
        make()


@pytest.fixture
def no_network(monkeypatch):
    """Downloads fail at once, as they do without a network."""

    def refuse(*_, **__):
        raise RuntimeError("no network")

    monkeypatch.setattr("torchvision.datasets.mnist.download_and_extract_archive", refuse)


@pytest.mark.usefixtures("no_network")
def test_missing_mnist_names_the_files_and_the_folder(tmp_path):
    with pytest.raises(FileNotFoundError) as error:
        load("mnist", data_dir=tmp_path)
    for name in MNIST_FILES:
        assert name in str(error.value)
    assert str(tmp_path / "MNIST" / "raw") in str(error.value)


@pytest.mark.usefixtures("no_network")
def test_the_environment_names_the_folder(tmp_path, monkeypatch):
    monkeypatch.setenv("PPL_VAE_DATA", str(tmp_path))
    assert folder(None) == tmp_path
    with pytest.raises(FileNotFoundError, match=str(tmp_path)):
        load("mnist")


def test_a_folder_that_cannot_be_written(tmp_path):
    (tmp_path / "MNIST").write_text("a file where the folder should be")
    with pytest.raises(PermissionError, match="data folder that can be written"):
        load("mnist", data_dir=tmp_path)


@pytest.mark.skipif(os.geteuid() == 0, reason="root may write anywhere")
def test_a_read_only_folder(tmp_path):
    tmp_path.chmod(stat.S_IRUSR | stat.S_IXUSR)
    with pytest.raises(PermissionError, match="data folder that can be written"):
        load("mnist", data_dir=tmp_path)


def _mnist_files():
    """Where the four official files are, if they are at hand."""
    candidates = [folder(None), Path(__file__).parents[2].parent / "shared" / "data"]
    for root in candidates:
        if all((root / "MNIST" / "raw" / name).is_file() for name in MNIST_FILES):
            return root / "MNIST" / "raw"
    return None


@pytest.mark.skipif(_mnist_files() is None, reason="the MNIST files are not at hand")
def test_mnist_is_unpacked_from_its_files(tmp_path):
    raw = tmp_path / "MNIST" / "raw"
    raw.mkdir(parents=True)
    for name in MNIST_FILES:
        shutil.copyfile(_mnist_files() / name, raw / name)
    train, test = (load("mnist", split=split, data_dir=tmp_path) for split in ("train", "test"))
    assert (len(train), len(test)) == (60_000, 10_000)
    assert train.images.dtype is torch.uint8
    assert train.labels[:3].tolist() == [5, 0, 4]


def test_every_data_set_has_a_description_for_the_list():
    for dataset in DATASETS.values():
        assert dataset.description


def test_nothing_is_imported_before_it_is_needed():
    late = {"torchvision", "sklearn", "PIL", "pandas", "h5py", "scanpy", "anndata"}
    code = f"import sys, ppl_vae.data; sys.exit(bool({late} & {{*sys.modules}}))"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0
