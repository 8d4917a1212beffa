"""Files as they may be found: whole, cut off, or of another kind than their name says."""

from __future__ import annotations

import base64
import io
import json
import math
import warnings
from pathlib import Path
from typing import Any

import pandas as pd
from PIL import Image

MOST_BYTES = 200_000
_SMALLEST = 64


class Unreadable(Exception):  # noqa: N818
    """A file that cannot be shown; its text is the sentence that says why."""


def read_table(path: Path) -> tuple[pd.DataFrame, str]:
    """Return a CSV's table, and what to know of it; a line that is cut off is left out.

    Raises:
        Unreadable: it holds no table.
    """
    text = _text(path)
    remark = ""
    if text and not text.endswith("\n"):
        remark = f"{path.name} does not end with a whole line; the last one is left out."
        text = text[: text.rfind("\n") + 1]
    try:
        table = pd.read_csv(io.StringIO(text))
    except (ValueError, OverflowError) as error:  # pandas' errors of parsing are ValueErrors
        why = "it is empty" if not text.strip() else str(error).strip().splitlines()[-1]
        raise Unreadable(f"{path.name} holds no table ({why}).") from None
    return table.dropna(axis="columns", how="all"), remark


def read_object(path: Path) -> dict[str, Any]:
    """Return the object in a JSON file.

    Raises:
        Unreadable: it holds none.
    """
    try:
        content = json.loads(_text(path))
    except (ValueError, RecursionError) as error:
        raise Unreadable(f"{path.name} is damaged ({error}).") from None
    if not isinstance(content, dict):
        raise Unreadable(f"{path.name} holds no object.")
    return content


def _text(path: Path) -> str:
    try:
        return path.read_text(encoding="utf-8")
    except OSError as error:
        raise Unreadable(f"{path.name} cannot be read ({error.strerror}).") from None
    except UnicodeDecodeError:
        raise Unreadable(f"{path.name} is no text.") from None


def read_picture(path: Path) -> tuple[str, int, int]:
    """Return a PNG as a data URI of at most 200 kB, with its width and height.

    A larger one is given fewer colours, and if need be fewer pixels.

    Raises:
        Unreadable: it is cut off, or no picture.
    """
    try:
        content = path.read_bytes()
        with warnings.catch_warnings():
            warnings.simplefilter("error", Image.DecompressionBombWarning)
            picture = Image.open(io.BytesIO(content))
            picture.load()
    except (OSError, ValueError, SyntaxError, Image.DecompressionBombError, Warning) as error:
        raise Unreadable(f"{path.name} is no whole picture ({error}).") from None
    if picture.format != "PNG":
        raise Unreadable(f"{path.name} is no PNG.")
    size = picture.size
    if len(content) > MOST_BYTES:
        content = _smaller(picture)
    return f"data:image/png;base64,{base64.b64encode(content).decode()}", *size


def _smaller(picture: Image.Image) -> bytes:
    shown = picture.convert("RGB")
    while True:
        written = io.BytesIO()
        shown.quantize(256).save(written, format="png", optimize=True)
        excess = written.tell() / MOST_BYTES
        if excess <= 1 or min(shown.size) <= _SMALLEST:
            return written.getvalue()
        factor = min(0.9, 1 / math.sqrt(excess))
        width, height = (max(1, int(side * factor)) for side in shown.size)
        shown = shown.resize((width, height))
