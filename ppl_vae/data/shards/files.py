"""Parquet files: which there are, and how they are opened."""

from __future__ import annotations

from importlib import import_module
from pathlib import Path
from typing import Any

from ppl_vae import checks

# Of a column's compressed bytes, how many are read at once.
_BUFFER_BYTES = 2**20


def found_files(paths: object) -> list[Path]:
    """Return files as they are, and those of a folder in the order of their names.

    Raises:
        FileNotFoundError: no such file or folder, or none in it.
        TypeError: no paths.
        ValueError: an empty list.
    """
    given = paths if isinstance(paths, (list, tuple)) else [paths]
    found: list[Path] = []
    for each in given:
        path = checks.path("paths", each)
        files = sorted(path.rglob("*.parquet")) if path.is_dir() else [path]
        files = [file for file in files if file.is_file()]  # some writers name folders so
        if not files:
            raise FileNotFoundError(
                checks.message(
                    "a Parquet file, or a folder with *.parquet in it",
                    f"{path}",
                    "Write one, for instance with pandas.DataFrame.to_parquet.",
                )
            )
        found += files
    if not found:
        raise checks.value_error("at least one file", "none", "Pass data.")
    return found


def stamp(path: Path) -> tuple[int, int]:
    """Return what tells a file from another that takes its place."""
    try:
        found = path.stat()
    except OSError:
        return -1, -1
    return found.st_size, found.st_mtime_ns


def opened(path: Path) -> Any:  # noqa: ANN401
    """Return a Parquet file of pyarrow's, to be used in a ``with``.

    Raises:
        ImportError: the extra ``parquet`` is not installed.
        ValueError: it is no such file.
    """
    try:
        parquet = import_module("pyarrow.parquet")
    except ImportError:
        raise checks.extra("parquet", "pyarrow") from None
    try:
        return parquet.ParquetFile(path, buffer_size=_BUFFER_BYTES)
    except (OSError, ValueError) as error:  # ArrowInvalid is a ValueError
        raise checks.value_error(
            f"a Parquet file at {path}", f"{error}".rstrip("."), "Restore or convert it."
        ) from None
