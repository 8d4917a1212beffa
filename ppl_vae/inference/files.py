"""Files that are either the old one or the new one, never half of each; no pickle."""

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import Any

from safetensors import SafetensorError, safe_open
from safetensors.torch import save
from torch import Tensor

from ppl_vae import checks


def write_bytes(path: Path, content: bytes) -> None:
    """Replace the file at `path` in one step."""
    temporary = path.with_name(path.name + ".part")
    temporary.write_bytes(content)
    os.replace(temporary, path)


def write_text(path: Path, content: str) -> None:
    """Replace the file at `path` in one step."""
    write_bytes(path, content.encode())


def write_json(path: Path, content: Any) -> None:  # noqa: ANN401
    """Replace the file at `path` by `content` as JSON."""
    write_text(path, json.dumps(content, indent=2) + "\n")


def read_json(path: Path) -> Any:  # noqa: ANN401
    """Return the content of a JSON file.

    Raises:
        FileNotFoundError: there is no such file.
        ValueError: it is damaged.
    """
    try:
        return json.loads(path.read_text())
    except FileNotFoundError:
        raise FileNotFoundError(
            checks.message(
                f"a file {path}", "none", "Name the folder that a run or save_pair wrote."
            )
        ) from None
    except (json.JSONDecodeError, UnicodeDecodeError) as error:
        raise ValueError(
            checks.message(f"JSON in {path}", f"damaged text ({error})", "Restore the file.")
        ) from None


def write_tensors(path: Path, tensors: dict[str, Tensor], note: Any = None) -> None:  # noqa: ANN401
    """Replace the file at `path` by `tensors` in safetensors' format, with a JSON `note`."""
    plain = {name: t.detach().cpu().contiguous().clone() for name, t in tensors.items()}
    write_bytes(path, save(plain, metadata={"note": json.dumps(note)}))


def read_tensors(path: Path) -> tuple[dict[str, Tensor], Any]:
    """Return the tensors and the note of a safetensors file.

    Raises:
        FileNotFoundError: there is no such file.
        ValueError: it is damaged.
    """
    if not path.is_file():
        raise FileNotFoundError(
            checks.message(
                f"a file {path}", "none", "Name the folder that a run or save_pair wrote."
            )
        )
    try:
        with safe_open(str(path), framework="pt") as file:
            note = json.loads((file.metadata() or {}).get("note", "null"))
            return {name: file.get_tensor(name) for name in file.keys()}, note  # noqa: SIM118
    except (SafetensorError, json.JSONDecodeError) as error:
        raise ValueError(
            checks.message(
                f"tensors in {path}", f"a damaged file ({error})", "Restore it, or train again."
            )
        ) from None


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
