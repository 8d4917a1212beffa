"""Images in files: a folder, or a folder of folders whose names are the classes."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import torch
from PIL import Image, ImageOps
from torch import Tensor

from ppl_vae import checks

SUFFIXES = frozenset(
    ".png .jpg .jpeg .jpe .bmp .dib .gif .tif .tiff .webp .pbm .pgm .ppm .pnm".split()
)
GREY_MODES = ("1", "L", "LA", "La", "I", "I;16", "I;16L", "I;16B", "I;16N")
Size = int | tuple[int, int] | None


def read_folder(
    path: Path, *, size: Size = None, grey: bool | None = None
) -> tuple[Tensor, Tensor | None, tuple[str, ...] | None]:
    """Return a folder's images as bytes, their labels and the classes' names, or None for both.

    See `ImageData.from_folder`, which says what is accepted and what is refused.
    """
    shape = _shape(size)
    files = _files(path)
    arrays = []
    for file in files:
        arrays.append(_read(file, shape, grey=grey))
        _require_alike(files[0], arrays[0], file, arrays[-1])
    images = torch.from_numpy(np.stack(arrays)).movedim(-1, 1).contiguous()
    of_class = [file.relative_to(path).parts[0] for file in files]
    if all(file.parent == path for file in files):
        return images, None, None
    classes = tuple(sorted(set(of_class)))
    return images, torch.tensor([classes.index(name) for name in of_class]), classes


def _shape(size: Size) -> tuple[int, int] | None:
    if size is None:
        return None
    sizes = size if isinstance(size, (tuple, list)) else (size, size)
    if len(sizes) != 2:
        raise checks.type_error(
            "size as a number, or (height, width)", repr(size), "Pass two numbers."
        )
    height, width = sizes
    return checks.count("height", height), checks.count("width", width)


def _files(path: Path) -> list[Path]:
    """Return the image files, in the order of their paths; hidden ones are left out."""
    if not path.is_dir():
        came = "a file" if path.exists() else "nothing of that name"
        raise FileNotFoundError(
            checks.message(f"a folder of images, {path}", came, "Name the folder that holds them.")
        )
    files = sorted(
        file
        for file in path.rglob("*")
        if file.suffix.lower() in SUFFIXES
        and file.is_file()
        and not any(part.startswith((".", "__")) for part in file.relative_to(path).parts)
    )
    if not files:
        raise FileNotFoundError(
            checks.message(
                f"a folder with images ({', '.join(sorted(SUFFIXES))}), {path}",
                "one without",
                "Name the folder that holds them.",
            )
        )
    loose = [file for file in files if file.parent == path]
    if loose and len(loose) < len(files):
        inner = next(file for file in files if file.parent != path)
        raise checks.value_error(
            f"images either in {path} or in folders in it, one a class",
            f"both, {loose[0].name} and {inner.relative_to(path)}",
            "Move the loose ones into a folder of their class.",
        )
    return files


def _read(
    file: Path, shape: tuple[int, int] | None, *, grey: bool | None
) -> np.ndarray[tuple[int, ...], np.dtype[np.uint8]]:
    """Return one image as bytes, (height, width, channels)."""
    try:
        with Image.open(file) as opened:
            image = _opaque(ImageOps.exif_transpose(opened))
    # Decoders raise almost anything on a damaged file.
    except Exception as error:
        raise checks.value_error(
            f"an image that can be read, {file}",
            f"{type(error).__name__} ({error})",
            "Mend the file or take it out of the folder.",
        ) from None
    if grey is not None:
        image = image.convert("L" if grey else "RGB")
    if shape is not None and image.size != (shape[1], shape[0]):
        image = image.resize((shape[1], shape[0]), Image.Resampling.BILINEAR)
    array = np.asarray(image, dtype=np.uint8)
    return array if array.ndim == 3 else array[..., None]


def _opaque(image: Image.Image) -> Image.Image:
    """Return an image of mode L or RGB, its transparent pixels black."""
    if image.mode.startswith("I"):
        # Sixteen bits; Pillow would keep only the lowest eight.
        deep = np.asarray(image, dtype=np.float64)
        if deep.min() < 0 or deep.max() > 65535:
            raise ValueError(f"grey values from {deep.min():g} to {deep.max():g}")
        return Image.fromarray(np.rint(deep / 257).astype(np.uint8))
    if image.mode == "F":
        raise ValueError("floating-point pixels; use ImageData.from_tensor")
    mode = "L" if _is_grey(image) else "RGB"
    if not image.has_transparency_data:
        return image.convert(mode)
    layered = image.convert("RGBA")
    black = Image.new("RGBA", image.size, (0, 0, 0, 255))
    return Image.alpha_composite(black, layered).convert(mode)


def _is_grey(image: Image.Image) -> bool:
    """Return whether the image is grey by its format, or by its palette."""
    if image.mode != "P":
        return image.mode in GREY_MODES
    red, green, blue, _ = np.asarray(image.convert("RGBA")).transpose(2, 0, 1)
    return bool((red == green).all() and (green == blue).all())


def _require_alike(first: Path, one: np.ndarray, other: Path, another: np.ndarray) -> None:
    if one.shape[:2] != another.shape[:2]:
        raise checks.value_error(
            "images of one size",
            f"{first} of {one.shape[0]} x {one.shape[1]} and {other} of "
            f"{another.shape[0]} x {another.shape[1]} (height x width)",
            "Pass size=(height, width) to resize them all.",
        )
    if one.shape != another.shape:
        kinds = {1: "grey", 3: "in colour"}
        raise checks.value_error(
            "images that are all grey or all in colour",
            f"{first}, {kinds[one.shape[-1]]}, and {other}, {kinds[another.shape[-1]]}",
            "Pass grey=True or grey=False.",
        )
