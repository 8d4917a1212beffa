"""MNIST, 70000 handwritten digits of 28 x 28 pixels, by torchvision."""

from __future__ import annotations

import os
import tempfile
from pathlib import Path

from platformdirs import user_cache_path
from torchvision import datasets

from ppl_vae import checks
from ppl_vae.data.images import Arrays


def read(split: str, data_dir: Path | None) -> Arrays:
    """Return images (60000 or 10000, 1, 28, 28) and labels.

    Args:
        split: ``train`` or ``test``.
        data_dir: the folder that holds, or will hold, ``MNIST/raw`` with the four files; else
            ``$PPL_VAE_DATA``, else the user's cache folder. Files in place are used as they are
            after their md5 sums are checked; missing ones are downloaded.

    Raises:
        FileNotFoundError: files are missing or damaged and cannot be downloaded.
        PermissionError: the folder cannot be written.

    Source:
        LeCun, Bottou, Bengio and Haffner, Proceedings of the IEEE 86, 1998.
    """
    return read_torchvision(datasets.MNIST, split, data_dir)


def read_torchvision(dataset: type[datasets.MNIST], split: str, data_dir: Path | None) -> Arrays:
    """Return images and labels of a data set that torchvision keeps in MNIST's format."""
    root = folder(data_dir)
    train = split == "train"
    try:
        data = dataset(str(root), train=train, download=False)
    except RuntimeError:
        _require_writable(root / dataset.__name__ / "raw")
        data = _fetch(dataset, root, train=train)
    return data.data.unsqueeze(1), data.targets


def _fetch(dataset: type[datasets.MNIST], root: Path, *, train: bool) -> datasets.MNIST:
    try:
        return dataset(str(root), train=train, download=True)
    except (RuntimeError, OSError) as error:
        raw = root / dataset.__name__ / "raw"
        names = ", ".join(name for name, _ in dataset.resources)
        raise FileNotFoundError(
            checks.message(
                f"the four files {names} in {raw}",
                f"missing or damaged ones that could not be downloaded ({_first_line(error)})",
                f"Put the four files into {raw}, or name their folder by --data-dir or "
                "PPL_VAE_DATA.",
            )
        ) from None


def _require_writable(raw: Path) -> None:
    try:
        raw.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryFile(dir=raw):
            return
    except OSError as error:
        raise PermissionError(
            checks.message(
                f"a data folder that can be written, {raw}",
                f"one that cannot ({error.strerror})",
                "Copy its files to another folder and pass that as --data-dir or PPL_VAE_DATA.",
            )
        ) from None


def folder(data_dir: Path | None) -> Path:
    """Return the folder of downloaded data: the argument, ``$PPL_VAE_DATA``, or the cache."""
    if data_dir is not None:
        return data_dir.expanduser()
    if chosen := os.environ.get("PPL_VAE_DATA"):
        return Path(chosen).expanduser()
    return user_cache_path("ppl_vae")


def _first_line(error: Exception) -> str:
    return str(error).splitlines()[0] if str(error) else type(error).__name__
