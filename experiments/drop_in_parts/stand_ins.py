"""Files in the place of data sets that Pyro's examples download, with their shapes and ranges."""

from __future__ import annotations

import pickle
import struct
from pathlib import Path

import numpy as np
import torch

# Fewer examples than in the data sets, for an epoch of a few tens of steps. The semi-supervised
# example keeps 10,000 images for validation.
NUM_IMAGES = {"train": 14_000, "t10k": 512}
NUM_SCENES = 512
NUM_FACES = 320
# Of the chorales: sequences of 88 notes, of which about four sound at a time.
NUM_CHORALES = {"train": 229, "test": 77, "valid": 76}
LENGTHS = (6, 13)
PLAYED = slice(22, 73)


def write(folder: Path) -> None:
    """Write every file to `folder`, from one seed."""
    folder.mkdir(parents=True, exist_ok=True)
    random = np.random.default_rng(0)
    mnist(folder / "MNIST" / "raw", random)
    (folder / "MNISTCached").symlink_to(folder / "MNIST")  # a subclass looks here
    faces = random.integers(0, 256, (NUM_FACES, 64 * 64))
    np.savetxt(folder / "faces_training.csv", faces, fmt="%d", delimiter=",")
    scenes(folder / "multi_mnist_uint8.npz", random)
    chorales(folder / "jsb_chorales.pkl", random)


def mnist(folder: Path, random: np.random.Generator) -> None:
    """Write blurred blots with labels, in MNIST's own format."""
    folder.mkdir(parents=True)
    for part, number in NUM_IMAGES.items():
        images = blots(number, 28, random)
        labels = np.arange(number) % 10
        header = struct.pack(">4i", 2051, number, 28, 28)
        (folder / f"{part}-images-idx3-ubyte").write_bytes(header + images.tobytes())
        header = struct.pack(">2i", 2049, number)
        content = header + labels.astype(np.uint8).tobytes()
        (folder / f"{part}-labels-idx1-ubyte").write_bytes(content)


def blots(number: int, size: int, random: np.random.Generator) -> np.ndarray:
    """Return images of one bell each, as bytes, (number, size, size)."""
    centre = random.uniform(0.3 * size, 0.7 * size, (2, number, 1))
    row, column = np.exp(-(((np.arange(size) - centre) / (size / 8)) ** 2))
    return (255 * row[:, :, None] * column[:, None, :]).astype(np.uint8)


def scenes(path: Path, random: np.random.Generator) -> None:
    """Write canvases of none, one or two blots, with the labels of what is there."""
    count = random.integers(0, 3, NUM_SCENES)
    pair = np.stack([blots(NUM_SCENES, 50, random) for _ in range(2)]) // 2
    images = sum(pair[i] * (count > i)[:, None, None] for i in range(2))
    labels = np.empty(NUM_SCENES, dtype=object)
    labels[:] = [[0] * number for number in count]
    np.savez_compressed(path, x=images.astype(np.uint8), y=labels)


def chorales(path: Path, random: np.random.Generator) -> None:
    """Write sequences of notes, of several lengths."""
    parts = {}
    for part, number in NUM_CHORALES.items():
        lengths = random.integers(*LENGTHS, number)
        sequences = []
        for length in lengths:
            notes = np.zeros((length, 88), dtype=np.float32)
            notes[:, PLAYED] = random.random(notes[:, PLAYED].shape) < 0.08
            sequences.append(torch.from_numpy(notes))
        parts[part] = {"sequences": sequences, "sequence_lengths": torch.from_numpy(lengths)}
    path.write_bytes(pickle.dumps(parts))
