"""What the command line works on: a pair by its name, with data that suit it."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from torch import Tensor

from ppl_vae import checks
from ppl_vae.data import ImageData, load
from ppl_vae.inference import fit, load_pair
from ppl_vae.models import MODELS
from ppl_vae.pair import Pair
from ppl_vae.seeding import seeded

COMPARED_EXAMPLES = 64
TOY_OBSERVATIONS = 5


@dataclass(frozen=True)
class Job:
    """Which data, how long, where, from which seed.

    Attributes:
        data: name of a data set, for pairs of images.
        data_dir: folder of downloaded data.
        binarize: how grey pixels become binary.
        num_epochs: of training.
        device: ``auto``, ``cpu`` or ``cuda``.
        seed: of everything random.
    """

    data: str = "digits"
    data_dir: Path | None = None
    binarize: str = "dynamic"
    num_epochs: int = 10
    device: str = "auto"
    seed: int = 0

    def images(self, split: str, pair: Pair | type[Pair]) -> ImageData:
        """Return one part of the data set, as the pair takes it."""
        options: dict[str, Any] = {"binarize": self.binarize, **pair.data_options}
        return load(self.data, split=split, data_dir=self.data_dir, **options)


def untrained(name: str, job: Job) -> tuple[Pair, ImageData | Tensor, ImageData | None]:
    """Return the named pair with training data, and test data if it is a pair of images."""
    cls = MODELS[checks.name("pair", name, MODELS)]
    if not cls.uses_images:
        pair = cls.suited_to(None, seed=job.seed)
        return pair, pair.sample(TOY_OBSERVATIONS, seed=job.seed), None
    images = job.images("train", cls)
    return cls.suited_to(images.image_shape, seed=job.seed), images, job.images("test", cls)


def prepared(
    names: list[str], checkpoint: Path | None, job: Job
) -> Iterator[tuple[str, Pair, Tensor]]:
    """Yield the pairs to compare with name and examples: the one in a folder, or fitted ones."""
    if checkpoint is not None:
        pair = load_pair(checkpoint)
        yield checkpoint.name, pair, examples(pair, job)
        return
    for name in dict.fromkeys(names):
        pair, data, _ = untrained(name, job)
        if isinstance(data, ImageData):
            print(f"fitting {name} to {job.data}, {job.num_epochs} epochs", file=sys.stderr)
            fit(pair, data, num_epochs=job.num_epochs, device=job.device, seed=job.seed)
        yield name, pair, examples(pair, job)


def examples(pair: Pair, job: Job) -> Tensor:
    """Return a few examples on the CPU: test images, or draws from the model."""
    if not pair.uses_images:
        return pair.sample(TOY_OBSERVATIONS, seed=job.seed).cpu()
    with seeded(job.seed):
        return job.images("test", pair).batch(slice(0, COMPARED_EXAMPLES), dtype=pair.dtype)
