"""Image data sets, by name, kept as bytes and binarised on use."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import NamedTuple

from ppl_vae import checks
from ppl_vae.data import digits
from ppl_vae.data.fetched import read_torchvision
from ppl_vae.data.images import Arrays, ImageData
from ppl_vae.data.pixels import BINARIZE, binarize

SPLITS = ("train", "test")


class Dataset(NamedTuple):
    """A data set that `load` knows: what it is, and how to read one split of it in a folder."""

    description: str
    read: Callable[[str, Path | None], Arrays]


DATASETS = {
    "digits": Dataset(
        "The 1797 handwritten digits of 8 x 8 pixels that scikit-learn carries with it.",
        digits.read,
    ),
    # LeCun, Bottou, Bengio and Haffner, Proceedings of the IEEE 86, 1998.
    "mnist": Dataset(
        "MNIST, 70000 handwritten digits of 28 x 28 pixels, by torchvision.",
        partial(read_torchvision, "MNIST"),
    ),
    # Xiao, Rasul and Vollgraf, arXiv 1708.07747, 2017.
    "fashion-mnist": Dataset(
        "Fashion-MNIST, 70000 pieces of clothing of 28 x 28 pixels, by torchvision.",
        partial(read_torchvision, "FashionMNIST"),
    ),
    # Clanuwat and others, arXiv 1812.01718, 2018.
    "kmnist": Dataset(
        "Kuzushiji-MNIST, 70000 cursive Japanese characters of 28 x 28 pixels, by torchvision.",
        partial(read_torchvision, "KMNIST"),
    ),
}


def load(
    name: str,
    *,
    split: str = "train",
    data_dir: str | Path | None = None,
    binarize: str = "dynamic",
    pixel_range: tuple[float, float] = (0.0, 1.0),
) -> ImageData:
    """Return a data set by its name.

    Args:
        name: one of `DATASETS`.
        split: ``train`` or ``test``.
        data_dir: folder of the files that have to be fetched; else ``$PPL_VAE_DATA``, else the
            user's cache folder.
        binarize: ``dynamic``, ``static``, ``threshold`` or ``none``; see `ImageData`.
        pixel_range: the values of black and white, (0, 1) or, for Normal pixels, (-1, 1).

    Returns:
        The images as bytes with their labels.

    Raises:
        TypeError: `pixel_range` is not two numbers.
        ValueError: an unknown name, split or way to binarise (the nearest known one is suggested);
            a `pixel_range` that does not rise; damaged files, or another data set's.
        FileNotFoundError: files that are neither in the folder nor can be downloaded.
        PermissionError: a folder that cannot be written.

    Example:
        >>> load("digits", split="test")
        ImageData(digits, split=test, 360 images of (1, 8, 8), binarize=dynamic)
    """
    checks.name("data set", name, DATASETS)
    checks.name("split", split, SPLITS)
    checks.name("binarize", binarize, BINARIZE)
    images, labels = DATASETS[name].read(split, None if data_dir is None else Path(data_dir))
    return ImageData(
        images, labels, binarize=binarize, pixel_range=pixel_range, name=name, split=split
    )


__all__ = ["DATASETS", "SPLITS", "ImageData", "binarize", "load"]
