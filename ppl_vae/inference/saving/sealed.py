"""A JSON file and a file of tensors that belong together: whole as they were written, or refused.

``NAME.json`` ends with the SHA-256 of its own text and holds that of ``NAME.safetensors``. The
tensors of a new save wait beside, under a name with their hash, until the JSON that names them is
in place. So the old two hold until the JSON is replaced, and from then on the new two, wherever
the process is killed.
"""

from __future__ import annotations

import json
import os
import warnings
from hashlib import sha256
from pathlib import Path
from typing import Any

from safetensors.torch import load, save
from torch import Tensor

from ppl_vae import checks
from ppl_vae.inference.saving.files import damaged_json, read_bytes, read_json, write_bytes

_MARK = ',\n  "sha256_of_the_text_above": "'


def write_sealed(
    folder: Path,
    name: str,
    content: dict[str, Any],
    tensors: dict[str, Tensor],
    *,
    keep_as: str | None = None,
    indent: int | None = 2,
) -> None:
    """Replace both files; let those that were there go on under the name `keep_as`.

    Raises:
        OSError: the folder cannot be written; what was there is as it was.
        TypeError: `content` has other types than JSON's.
    """
    plain = {key: t.detach().cpu().contiguous().clone() for key, t in tensors.items()}
    data = save(plain)
    digest = sha256(data).hexdigest()
    text = _sealed({**content, "sha256": digest}, indent)
    write_bytes(_staged(folder, name, digest), data, durable=True)
    if keep_as is not None:
        _copy(folder, name, keep_as)
    _commit(folder, name, text, digest)


def read_sealed(
    folder: Path, name: str, *, old: frozenset[str] = frozenset()
) -> tuple[dict[str, Any], dict[str, Tensor]]:
    """Return content and tensors.

    Args:
        folder: where they are.
        name: of the two files, without their endings.
        old: the keys of a file from before there were hashes, which is read with a warning.

    Raises:
        FileNotFoundError: a file is missing.
        ValueError: a file is damaged, or the two are not of one save.
    """
    path = folder / f"{name}.json"
    text = read_bytes(path)
    content = _unsealed(text)
    if content is None:
        content = read_json(path)
        if set(content) != old:
            raise damaged_json(path, "not as it was written, by its SHA-256")
        warnings.warn(
            f"{path} is from before files held hashes, so damage cannot be seen. Save it anew.",
            stacklevel=3,
        )
        return content, as_tensors(folder / f"{name}.safetensors")
    digest = content.pop("sha256")
    place = _staged(folder, name, digest)
    try:
        data = place.read_bytes()  # of a save that goes on, or was ended within
    except FileNotFoundError:
        place = folder / f"{name}.safetensors"
        data = read_bytes(place)
    if sha256(data).hexdigest() == digest:
        return content, load(data)
    if read_bytes(path) != text:  # a run has written both anew meanwhile
        return read_sealed(folder, name, old=old)
    raise _damaged_tensors(place, f"or of another save, by the SHA-256 in {path.name}")


def as_tensors(path: Path) -> dict[str, Tensor]:
    """Return the tensors of a safetensors file whose hash is not known.

    Raises:
        FileNotFoundError: there is no such file.
        ValueError: it is damaged.
    """
    data = read_bytes(path)
    try:
        return load(data)
    except Exception as error:  # what a damaged header raises is not documented
        raise _damaged_tensors(path, str(error)) from None


def _damaged_tensors(path: Path, why: str) -> ValueError:
    return checks.value_error(
        f"tensors in {path}", f"a damaged file ({why})", "Restore it, or train again."
    )


def _sealed(content: dict[str, Any], indent: int | None) -> bytes:
    body = json.dumps(content, indent=indent)[:-1].rstrip().encode()  # without the last brace
    return body + _seal(body)


def _seal(body: bytes) -> bytes:
    return f'{_MARK}{sha256(body).hexdigest()}"\n}}\n'.encode()


def _unsealed(text: bytes) -> dict[str, Any] | None:
    """Return the content of a sealed text, or None if the seal is not its."""
    body, _, _ = text.rpartition(_MARK.encode())
    return json.loads(body + b"}") if text == body + _seal(body) else None


def _staged(folder: Path, name: str, digest: str) -> Path:
    return folder / f"{name}.{digest[:16]}.part"


def _copy(folder: Path, name: str, to: str) -> None:
    """Let the two files called `to` be what those called `name` are."""
    path = folder / f"{name}.json"
    text = path.read_bytes() if path.exists() else b""
    content = _unsealed(text)
    if content is None:
        return
    digest = content["sha256"]
    held, staged = _staged(folder, name, digest), _staged(folder, to, digest)
    if not held.exists():
        held = folder / f"{name}.safetensors"
    if not staged.exists():
        try:
            os.link(held, staged)
        except OSError:  # not every file system has links
            write_bytes(staged, held.read_bytes(), durable=True)
    _commit(folder, to, text, digest)


def _commit(folder: Path, name: str, text: bytes, digest: str) -> None:
    write_bytes(folder / f"{name}.json", text, durable=True)
    os.replace(_staged(folder, name, digest), folder / f"{name}.safetensors")
    for left in folder.glob(f"{name}.*.part"):  # by saves that were ended within
        left.unlink()
