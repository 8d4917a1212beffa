"""Data sets in MNIST's four files: where they lie, and how torchvision gets them there."""

from __future__ import annotations

import os
import tempfile
from http.client import HTTPException
from pathlib import Path
from typing import TYPE_CHECKING

from filelock import FileLock
from platformdirs import user_cache_path

from ppl_vae import checks
from ppl_vae.data.images import Arrays

if TYPE_CHECKING:
    from torchvision.datasets import MNIST


def folder(data_dir: Path | None) -> Path:
    """Return the folder of downloaded data: the argument, ``$PPL_VAE_DATA``, or the cache."""
    if data_dir is not None:
        return data_dir.expanduser()
    if chosen := os.environ.get("PPL_VAE_DATA"):
        return Path(chosen).expanduser()
    return user_cache_path("ppl_vae")


def read_torchvision(name: str, split: str, data_dir: Path | None) -> Arrays:
    """Return images, (count, 1, height, width), and labels of torchvision's data set `name`.

    It has MNIST's format: four files, which lie in ``<folder>/<name>/raw``. Those that are there
    are used after their md5 sums are checked; missing ones are downloaded.

    Raises:
        FileNotFoundError: files are missing and cannot be downloaded.
        ValueError: files that are there are not this data set's, or damaged.
        PermissionError: files have to be written and the folder cannot be.
    """
    # Seconds to import, and not needed for other data.
    from torchvision import datasets

    dataset: type[MNIST] = getattr(datasets, name)
    root = folder(data_dir)
    raw = root / name / "raw"
    unpacked = [raw / Path(file).stem for file, _ in dataset.resources]
    if all(file.is_file() for file in unpacked):
        _require_right_sums(dataset, raw)
    else:
        _require_writable(raw)
        with FileLock(raw / ".lock"):  # of several processes one fetches
            _fetch(dataset, root, raw)
    try:
        data = dataset(str(root), train=split == "train", download=False)
    except (RuntimeError, ValueError, TypeError, AssertionError, LookupError) as error:
        raise _damaged(raw, f"unpacked files that cannot be read ({_first_line(error)})") from None
    images, labels = data.data, data.targets
    if len(images) != len(labels):
        raise _damaged(raw, f"{len(images)} images and {len(labels)} labels")
    return images.unsqueeze(1), labels


def _fetch(dataset: type[MNIST], root: Path, raw: Path) -> None:
    """Let torchvision check the sums of what is there, download the rest, and unpack it."""
    try:
        dataset(str(root), download=True)
    except (RuntimeError, OSError, HTTPException) as error:
        names = ", ".join(name for name, _ in dataset.resources)
        raise FileNotFoundError(
            checks.message(
                f"the four files {names} of {dataset.__name__} in {raw}",
                f"missing or damaged ones that could not be downloaded ({_first_line(error)})",
                f"Put the four files into {raw}, or name the folder that holds "
                f"{dataset.__name__}/raw by --data-dir or PPL_VAE_DATA.",
            )
        ) from None
    except (ValueError, TypeError, AssertionError, LookupError) as error:
        raise _damaged(raw, f"unpacked files that cannot be read ({_first_line(error)})") from None


def _require_right_sums(dataset: type[MNIST], raw: Path) -> None:
    """Check the packed files beside the unpacked ones, which torchvision then leaves unread.

    The three data sets' files have the same names, so that they are easily mixed up.
    """
    from torchvision.datasets.utils import check_integrity

    for name, md5 in dataset.resources:
        if (raw / name).is_file() and not check_integrity(raw / name, md5):
            raise _damaged(raw, f"{name} with another md5 sum than {dataset.__name__}'s {md5}")


def _damaged(raw: Path, came: str) -> ValueError:
    return checks.value_error(
        f"the data set's own files in {raw}",
        came,
        "Delete what is in that folder, so that it is fetched again, or put the right files "
        "there.",
    )


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


def _first_line(error: Exception) -> str:
    return str(error).splitlines()[0] if str(error) else type(error).__name__
