"""Kuzushiji-MNIST, 70000 cursive Japanese characters of 28 x 28 pixels, by torchvision."""

from __future__ import annotations

from pathlib import Path

from ppl_vae.data.fetched import read_torchvision
from ppl_vae.data.images import Arrays


def read(split: str, data_dir: Path | None) -> Arrays:
    """Return images (60000 or 10000, 1, 28, 28) and labels.

    Args:
        split: ``train`` or ``test``.
        data_dir: the folder that holds, or will hold, ``KMNIST/raw`` with the four files;
            else ``$PPL_VAE_DATA``, else the user's cache folder. Files that are there are used
            after their md5 sums are checked; missing ones are downloaded.

    Raises:
        FileNotFoundError: files are missing and cannot be downloaded.
        ValueError: files that are there are not this data set's, or damaged.
        PermissionError: the folder cannot be written.

    Source:
        Clanuwat and others, arXiv 1812.01718, 2018.
    """
    return read_torchvision("KMNIST", split, data_dir)
