"""Image data sets, by name, kept as bytes and binarised on use."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

from ppl_vae import checks
from ppl_vae.data import digits, mnist
from ppl_vae.data.images import BINARIZE, ImageData, binarize
from ppl_vae.data.images import Arrays as Arrays

SPLITS = ("train", "test")

DATASETS: dict[str, Callable[[str, Path | None], Arrays]] = {
    "digits": digits.read,
    "mnist": mnist.read,
}


def load(
    name: str,
    *,
    split: str = "train",
    data_dir: str | Path | None = None,
    binarize: str = "dynamic",
) -> ImageData:
    """Return a data set by its name.

    Args:
        name: one of `DATASETS`.
        split: ``train`` or ``test``.
        data_dir: folder of the files that have to be fetched; else ``$PPL_VAE_DATA``, else the
            user's cache folder.
        binarize: ``dynamic``, ``static``, ``threshold`` or ``none``; see `ImageData`.

    Returns:
        The images as bytes with their labels.

    Raises:
        ValueError: an unknown name, split or way to binarise; the nearest known one is suggested.
        FileNotFoundError: files that are neither in the folder nor can be downloaded.
        PermissionError: a folder that cannot be written.

    Example:
        >>> load("digits", split="test")
        ImageData(digits, split=test, 360 images of (1, 8, 8), binarize=dynamic)
    """
    checks.name("data set", name, DATASETS)
    checks.name("split", split, SPLITS)
    checks.name("binarize", binarize, BINARIZE)
    images, labels = DATASETS[name](split, None if data_dir is None else Path(data_dir))
    return ImageData(images, labels, binarize=binarize, name=name, split=split)


__all__ = ["DATASETS", "SPLITS", "ImageData", "binarize", "load"]
