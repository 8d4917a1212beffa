"""Data sets by name, and a user's own: images as bytes, arrays as a program's arguments."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any, Literal, NamedTuple, overload

from ppl_vae import checks
from ppl_vae.data import digits, pbmc, reuters
from ppl_vae.data.arrays import ArrayData
from ppl_vae.data.fetched import read_torchvision
from ppl_vae.data.images import Arrays, ImageData
from ppl_vae.data.pixels import BINARIZE, binarize
from ppl_vae.data.shards.sharded_data import ShardedData

SPLITS = ("train", "test")


class Dataset(NamedTuple):
    """A data set that `load` knows: what it is, and how to read one split of it in a folder."""

    description: str
    read: Callable[[str, Path | None], Arrays | ArrayData]


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
    # Zheng and others, Nature Communications 8, 14049, 2017.
    "pbmc": Dataset(
        "Counts of 765 genes in 700 blood cells of ten types, which scanpy carries with it.",
        pbmc.read,
    ),
    # Lewis, Yang, Rose and Li, Journal of Machine Learning Research 5, 2004.
    "reuters": Dataset(
        "Counts of 4258 words in 395 news stories, which the lda package carries with it.",
        reuters.read,
    ),
}
COUNTS = ("pbmc", "reuters")
Images = Literal["digits", "mnist", "fashion-mnist", "kmnist"]


@overload
def load(
    name: Images,
    *,
    split: str = ...,
    data_dir: str | Path | None = ...,
    binarize: str | None = ...,
    pixel_range: tuple[float, float] | None = ...,
    labels: bool = ...,
) -> ImageData: ...
@overload
def load(
    name: Literal["pbmc", "reuters"], *, split: str = ..., data_dir: str | Path | None = ...
) -> ArrayData: ...
@overload
def load(
    name: str,
    *,
    split: str = ...,
    data_dir: str | Path | None = ...,
    binarize: str | None = ...,
    pixel_range: tuple[float, float] | None = ...,
    labels: bool = ...,
) -> Any: ...  # noqa: ANN401
def load(
    name: str,
    *,
    split: str = "train",
    data_dir: str | Path | None = None,
    binarize: str | None = None,
    pixel_range: tuple[float, float] | None = None,
    labels: bool = False,
) -> ImageData | ArrayData:
    """Return a data set by its name.

    Args:
        name: one of `DATASETS`.
        split: ``train`` or ``test``.
        data_dir: folder of the files that have to be fetched; else ``$PPL_VAE_DATA``, else the
            user's cache folder.
        binarize: of images: ``dynamic`` (the default), ``static``, ``threshold`` or ``none``; see
            `ImageData`.
        pixel_range: of images: the values of black and white, (0, 1) by default, or, for Normal
            pixels, (-1, 1).
        labels: of images: whether batches are ``(images, labels)``, for a program that takes both.

    Returns:
        The images as bytes with their labels; for counts an `ArrayData`, ``{"x": counts}``, with
        ``data["labels"]`` and others beside, named by ``data.categories`` and ``data.features``.

    Raises:
        ImportError: the data come with a library that is not installed; the extra is named.
        TypeError: `pixel_range` is not two numbers.
        ValueError: an unknown name, split or way to binarise (the nearest known one is suggested);
            an option for images with counts; a `pixel_range` that does not rise; damaged files, or
            another data set's.
        FileNotFoundError: files that are neither in the folder nor can be downloaded.
        PermissionError: a folder that cannot be written.

    Example:
        >>> load("digits", split="test")
        ImageData(digits, split=test, 360 images of (1, 8, 8), binarize=dynamic)
    """
    checks.name("data set", name, DATASETS)
    checks.name("split", split, SPLITS)
    checks.instance("labels", labels, bool, "a bool", "Pass True for batches of both.")
    options = {"binarize": binarize, "pixel_range": pixel_range, "labels": labels or None}
    given = {key: value for key, value in options.items() if value is not None}
    if name in COUNTS and given:
        key, value = next(iter(given.items()))
        images = ", ".join(known for known in DATASETS if known not in COUNTS)
        raise checks.value_error(
            f"{key} with a data set of images: {images}",
            f"{key}={value!r} with {name}, which holds counts",
            "Leave the option out, or choose images.",
        )
    if binarize is not None:
        checks.name("binarize", binarize, BINARIZE)
    found = DATASETS[name].read(
        split, None if data_dir is None else checks.path("data_dir", data_dir)
    )
    if isinstance(found, ArrayData):
        return found
    given.pop("labels", None)
    return ImageData(*found, with_labels=labels, name=name, split=split, **given)


__all__ = [
    "DATASETS",
    "SPLITS",
    "ArrayData",
    "ImageData",
    "ShardedData",
    "binarize",
    "load",
]
