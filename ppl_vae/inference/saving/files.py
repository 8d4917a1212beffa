"""Files that are either the old one or the new one, never half of each; no pickle."""

from __future__ import annotations

import json
import os
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

from torch import Tensor

from ppl_vae import checks


def write_bytes(path: Path, content: bytes, *, durable: bool = False) -> None:
    """Replace the file at `path` in one step; `durable`: so that a power cut does not undo it."""
    temporary = path.with_name(path.name + ".part")
    try:
        with temporary.open("wb") as file:
            file.write(content)
            if durable:
                file.flush()
                os.fsync(file.fileno())
        os.replace(temporary, path)
    except BaseException:
        with suppress(OSError):  # half a file would keep a full disk full
            temporary.unlink(missing_ok=True)
        raise


def write_text(path: Path, content: str) -> None:
    """Replace the file at `path` in one step."""
    write_bytes(path, content.encode())


def write_json(path: Path, content: Any) -> None:  # noqa: ANN401
    """Replace the file at `path` by `content` as JSON."""
    write_text(path, json.dumps(content, indent=2) + "\n")


def read_bytes(path: Path) -> bytes:
    """Return the content of a file.

    Raises:
        FileNotFoundError: there is no such file.
    """
    try:
        return path.read_bytes()
    except FileNotFoundError:
        raise FileNotFoundError(
            checks.message(
                f"a file {path}", "none", "Name the folder that a run or save_pair wrote."
            )
        ) from None


def read_json(path: Path) -> dict[str, Any]:
    """Return the content of a JSON file that holds an object.

    Raises:
        FileNotFoundError: there is no such file.
        ValueError: it is damaged.
    """
    try:
        content = json.loads(read_bytes(path))
    except (ValueError, RecursionError) as error:  # no JSON, or no UTF-8
        raise damaged_json(path, str(error)) from None
    if not isinstance(content, dict):
        raise damaged_json(path, "no object")
    return content


def damaged_json(path: Path, why: str) -> ValueError:
    """Return the error for a JSON file that is not as it was written."""
    return checks.value_error(f"JSON in {path}", f"damaged text ({why})", "Restore the file.")


@contextmanager
def explained(folder: Path, kept: str) -> Iterator[None]:
    """Say of an error of the system which folder could not be written, and what is kept."""
    try:
        yield
    except OSError as error:
        why = error.strerror or str(error)
        came = f"one that does not ({why})" if folder.is_dir() else "none: it was removed"
        remedy = f"Make room, or let it be written. {kept}"
        told = type(error)(checks.message(f"a folder {folder} that takes files", came, remedy))
        told.errno = error.errno
        raise told from error


def pack(state: Any, tensors: dict[str, Tensor]) -> Any:  # noqa: ANN401
    """Return nested containers as JSON's types, and move their tensors into `tensors`.

    A dict becomes a list of pairs, since optimisers use integers as keys.

    Example:
        >>> held = {}
        >>> packed = pack({0: {"step": torch.tensor(3.0)}, "lr": (0.1, None)}, held)
        >>> unpack(json.loads(json.dumps(packed)), held)
        {0: {'step': tensor(3.)}, 'lr': (0.1, None)}
    """
    if isinstance(state, Tensor):
        name = f"{len(tensors)}"
        tensors[name] = state
        return {"tensor": name}
    if isinstance(state, dict):
        return {"dict": [[pack(k, tensors), pack(v, tensors)] for k, v in state.items()]}
    if isinstance(state, tuple):
        return {"tuple": [pack(v, tensors) for v in state]}
    if isinstance(state, list):
        return [pack(v, tensors) for v in state]
    if state is None or isinstance(state, (bool, int, float, str)):
        return state
    raise TypeError(
        checks.message(
            "an optimiser state of tensors, numbers, text and containers",
            type(state).__name__,
            "Train without run_dir, or with another optimiser.",
        )
    )


def unpack(packed: Any, tensors: dict[str, Tensor]) -> Any:  # noqa: ANN401
    """Return what `pack` was given."""
    if isinstance(packed, list):
        return [unpack(v, tensors) for v in packed]
    if not isinstance(packed, dict):
        return packed
    ((kind, content),) = packed.items()
    if kind == "tensor":
        return tensors[content]
    if kind == "tuple":
        return tuple(unpack(v, tensors) for v in content)
    return {unpack(k, tensors): unpack(v, tensors) for k, v in content}
