"""What tests do to saved files."""

import json
from pathlib import Path

from safetensors.torch import save

from ppl_vae.inference.saving.files import pack, unpack
from ppl_vae.inference.saving.sealed import read_sealed, write_sealed


def change_pair(folder, change):
    """Save the pair in a folder anew with another description, its hashes right."""
    content, tensors = read_sealed(folder, "pair")
    change(content)
    write_sealed(folder, "pair", content, tensors)


def as_before_hashes(folder: Path):
    """Turn the pair of a folder, and the checkpoint if there is one, into files without hashes."""
    content, _ = read_sealed(folder, "pair")
    old = {key: content[key] for key in ("class", "config", "dtype")}
    (folder / "pair.json").write_text(json.dumps(old))
    if not (folder / "checkpoint.json").exists():
        return
    content, tensors = read_sealed(folder, "checkpoint")
    state = unpack(content["state"], tensors)
    held = {}
    note = {"history": content["history"], "optimizer": pack(state["optimizer"], held)}
    named = {f"pair.{name}": t for name, t in state["pair"].items()}
    named |= {f"optimizer.{name}": t for name, t in held.items()}
    (folder / "checkpoint.safetensors").write_bytes(save(named, {"note": json.dumps(note)}))
    for name in ("checkpoint.json", "checkpoint-previous.json", "checkpoint-previous.safetensors"):
        (folder / name).unlink(missing_ok=True)
    config = json.loads((folder / "config.json").read_text())
    del config["run"]
    (folder / "config.json").write_text(json.dumps(config))


def flip(path: Path, bit: int):
    """Flip one bit of a file."""
    content = bytearray(path.read_bytes())
    content[bit // 8] ^= 1 << bit % 8
    path.write_bytes(content)
