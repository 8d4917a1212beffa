"""Checks of what the pictures take; `ppl_vae.checks` needs torch, which a picture does not."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

Limits = tuple[float, float]


def value_error(expected: str, came: str, remedy: str) -> ValueError:
    """Return an error with the three-part text of this library."""
    return ValueError(f"expected {expected}; got {came}. {remedy}")


def as_array(name: str, values: ArrayLike) -> NDArray[Any]:
    """Return `values` as an array; raise TypeError unless it can be read as numbers."""
    try:
        array = np.asarray(values)
    except (TypeError, ValueError, RuntimeError) as error:
        came = f"{type(values).__name__} ({str(error).splitlines()[0]})"
    else:
        if array.dtype.kind in "buif":
            return array
        came = f"dtype {array.dtype}"
    remedy = "Pass a NumPy array; of a tensor, tensor.detach().cpu().numpy()."
    raise TypeError(f"expected {name} as an array of numbers; got {came}. {remedy}")


def as_images(name: str, images: ArrayLike) -> NDArray[Any]:
    """Return `images`; raise unless they are (count, channels, height, width) and finite."""
    array = as_array(name, images)
    if array.ndim != 4 or array.shape[1] not in (1, 3) or 0 in array.shape:
        raise value_error(
            f"{name} of shape (count, channels, height, width), at least one, grey (channels "
            "1) or colour (channels 3)",
            f"shape {array.shape}",
            "Reshape them; a channel that is missing is images[:, None].",
        )
    bad = ~np.isfinite(array) if array.dtype.kind == "f" else np.zeros(1, dtype=bool)
    if bad.any():
        raise value_error(
            f"{name} of finite numbers",
            f"{bad.sum()} of {array.size} that are not",
            "Look for where they arose.",
        )
    return array if array.dtype == np.uint8 or array.dtype.kind == "f" else array.astype(float)


def as_codes(name: str, codes: ArrayLike) -> NDArray[Any]:
    """Return `codes`; raise unless they are (count, dimensions), at least one and two."""
    array = as_array(name, codes)
    if array.ndim != 2 or len(array) == 0 or array.shape[1] < 2:
        raise value_error(
            f"{name} of shape (count, dimensions), at least one of at least two dimensions",
            f"shape {array.shape}",
            "Flatten each code; one dimension is better shown as a histogram.",
        )
    return array


def positive_count(name: str, value: object) -> int:
    """Return `value`; raise ValueError unless it is a whole number above 0."""
    if isinstance(value, bool) or not isinstance(value, (int, np.integer)) or value < 1:
        raise value_error(f"{name} as a whole number above 0", repr(value), "Choose a larger one.")
    return int(value)


def limits(images: NDArray[Any], vmin: float | None, vmax: float | None) -> Limits:
    """Return the values that are black and white: by default 0 and 1, for bytes 0 and 255."""
    low = 0.0 if vmin is None else float(vmin)
    high = (255.0 if images.dtype == np.uint8 else 1.0) if vmax is None else float(vmax)
    if not low < high:
        raise value_error("vmin below vmax", f"{low:g} and {high:g}", "Swap them.")
    return low, high
