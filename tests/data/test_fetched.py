"""MNIST and its like, on small files of the same format; nothing here uses a network."""

import gzip
import hashlib
import http.client
import struct
from urllib.error import URLError

import numpy as np
import pytest
import torch

from ppl_vae import load

CLASSES = {"mnist": "MNIST", "fashion-mnist": "FashionMNIST", "kmnist": "KMNIST"}
FILES = {
    "train-images-idx3-ubyte.gz": 7,
    "train-labels-idx1-ubyte.gz": 7,
    "t10k-images-idx3-ubyte.gz": 3,
    "t10k-labels-idx1-ubyte.gz": 3,
}


def content(file, count, seed):
    rng = np.random.default_rng([seed, count])
    if "images" in file:
        images = rng.integers(0, 256, (count, 28, 28), dtype=np.uint8)
        return struct.pack(">IIII", 2051, count, 28, 28) + images.tobytes()
    return struct.pack(">II", 2049, count) + rng.integers(0, 10, count, dtype=np.uint8).tobytes()


@pytest.fixture(autouse=True)
def _no_network(monkeypatch):
    def refuse(*_, **__):
        raise URLError("no network")

    for name in ("_get_redirect_url", "_urlretrieve"):
        monkeypatch.setattr(f"torchvision.datasets.utils.{name}", refuse)


@pytest.fixture
def put(monkeypatch, tmp_path):
    """Put a data set's four packed files in place, with their sums for the right ones."""
    sums = {}
    for number, (name, cls) in enumerate(CLASSES.items()):
        packed = {f: gzip.compress(content(f, n, number), mtime=0) for f, n in FILES.items()}
        sums[name] = packed
        resources = [(file, hashlib.md5(data).hexdigest()) for file, data in packed.items()]
        monkeypatch.setattr(f"torchvision.datasets.{cls}.resources", resources)

    def write(name, *, files_of=None):
        raw = tmp_path / CLASSES[name] / "raw"
        raw.mkdir(parents=True)
        for file, data in sums[files_of or name].items():
            (raw / file).write_bytes(data)
        return raw

    return write


@pytest.mark.parametrize("name", CLASSES)
def test_packed_files_in_place_are_checked_and_unpacked(name, put, tmp_path):
    raw = put(name)
    number = list(CLASSES).index(name)
    for split, stem, count in (("train", "train", 7), ("test", "t10k", 3)):
        data = load(name, split=split, data_dir=tmp_path, binarize="none", pixel_range=(-1, 1))
        images = content("images", count, number)[16:]
        assert data.images.numpy().tobytes() == images
        assert data.image_shape == (1, 28, 28)
        assert bytes(data.labels.tolist()) == content("labels", count, number)[8:]
        assert data.labels.dtype is torch.long
        assert repr(data) == (
            f"ImageData({name}, split={split}, {count} images of (1, 28, 28), binarize=none, "
            "pixel_range=(-1.0, 1.0))"
        )
        assert (raw / f"{stem}-images-idx3-ubyte").is_file()


@pytest.mark.parametrize("name", CLASSES)
def test_unpacked_files_alone_are_enough(name, put, tmp_path):
    raw = put(name)
    load(name, data_dir=tmp_path)
    for file in raw.glob("*.gz"):
        file.unlink()
    assert len(load(name, data_dir=tmp_path)) == 7


@pytest.mark.parametrize("name", CLASSES)
def test_missing_files_are_named_with_their_folder(name, tmp_path, monkeypatch):
    monkeypatch.setenv("PPL_VAE_DATA", str(tmp_path))
    with pytest.raises(FileNotFoundError) as error:
        load(name)
    raw = tmp_path / CLASSES[name] / "raw"
    text = str(error.value)
    for file in FILES:
        assert file in text
    assert f"of {CLASSES[name]} in {raw};" in text
    assert "could not be downloaded" in text
    assert f"Put the four files into {raw}, or name the folder that holds" in text


def test_one_missing_file_is_missing(put, tmp_path):
    (put("kmnist") / "t10k-labels-idx1-ubyte.gz").unlink()
    with pytest.raises(FileNotFoundError, match="t10k-labels-idx1-ubyte.gz of KMNIST"):
        load("kmnist", data_dir=tmp_path)


def test_a_damaged_packed_file_is_not_used(put, tmp_path):
    file = put("fashion-mnist") / "train-images-idx3-ubyte.gz"
    file.write_bytes(file.read_bytes()[:-1])
    with pytest.raises(FileNotFoundError, match="missing or damaged ones"):
        load("fashion-mnist", data_dir=tmp_path)


def test_another_data_sets_files_are_not_taken(put, tmp_path):
    put("fashion-mnist", files_of="kmnist")
    with pytest.raises(FileNotFoundError, match="missing or damaged ones"):
        load("fashion-mnist", data_dir=tmp_path)


def test_another_data_sets_files_are_found_beside_unpacked_ones(put, tmp_path):
    raw = put("kmnist")
    load("kmnist", data_dir=tmp_path)
    raw.parent.rename(tmp_path / "MNIST")
    with pytest.raises(ValueError, match="train-images-idx3-ubyte.gz with another md5 sum than"):
        load("mnist", data_dir=tmp_path)


@pytest.mark.parametrize("length", [0, 3, 10, 500])
def test_a_file_that_was_half_unpacked_is_named(length, put, tmp_path):
    raw = put("mnist")
    load("mnist", data_dir=tmp_path)
    file = raw / "train-images-idx3-ubyte"
    file.write_bytes(file.read_bytes()[:length])
    with pytest.raises(ValueError, match=f"own files in {raw}; got unpacked files .*Delete what"):
        load("mnist", data_dir=tmp_path)


def test_images_without_their_labels(put, tmp_path):
    raw = put("mnist")
    load("mnist", data_dir=tmp_path)
    (raw / "train-labels-idx1-ubyte").write_bytes(content("labels", 5, 0))
    with pytest.raises(ValueError, match="got 7 images and 5 labels"):
        load("mnist", data_dir=tmp_path)


@pytest.mark.parametrize("error", [ConnectionResetError("reset"), http.client.IncompleteRead(b"")])
def test_a_download_that_breaks_off(error, tmp_path, monkeypatch):
    def fail(*_, **__):
        raise error

    monkeypatch.setattr("torchvision.datasets.utils._get_redirect_url", fail)
    with pytest.raises(FileNotFoundError, match="could not be downloaded"):
        load("kmnist", data_dir=tmp_path)


def test_the_folder_that_cannot_be_written(tmp_path):
    (tmp_path / "KMNIST").write_text("a file where the folder should be")
    with pytest.raises(PermissionError, match="data folder that can be written"):
        load("kmnist", data_dir=tmp_path)
