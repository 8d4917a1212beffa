"""What the command line works on: a pair by its name, with data that suit it."""

from __future__ import annotations

import inspect
import sys
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from types import MappingProxyType
from typing import Any

from torch import Tensor

from ppl_vae import checks
from ppl_vae.batch import BatchLike
from ppl_vae.data import COUNTS, DATASETS, ArrayData, ImageData, load
from ppl_vae.inference import fit, load_pair
from ppl_vae.models import MODELS
from ppl_vae.pair import Pair
from ppl_vae.seeding import seeded

DataSet = ImageData | ArrayData
COMPARED_EXAMPLES = 64
TOY_OBSERVATIONS = 5


@dataclass(frozen=True)
class Job:
    """Which data, how long, where, from which seed.

    Attributes:
        data: name of a data set, for pairs of images or counts.
        data_dir: folder of downloaded data.
        binarize: how grey pixels become binary.
        num_epochs: of training.
        device: ``auto``, ``cpu`` or ``cuda``.
        seed: of everything random.
        trust: packages whose pairs may be loaded, besides ppl_vae.
    """

    data: str = "digits"
    data_dir: Path | None = None
    binarize: str = "dynamic"
    num_epochs: int = 10
    device: str = "auto"
    seed: int = 0
    trust: Sequence[str] = ()

    def part(self, split: str, pair: Pair | type[Pair]) -> DataSet:
        """Return one part of the data set, as the pair takes it.

        Raises:
            ValueError: the data set holds images and the pair takes counts, or the other way.
        """
        fitting = [name for name in DATASETS if (name in COUNTS) == pair.uses_counts]
        checks.name(f"--data for {_name(pair)}", self.data, fitting)
        options: dict[str, Any] = {} if pair.uses_counts else {"binarize": self.binarize}
        options |= pair.data_options
        return load(self.data, split=split, data_dir=self.data_dir, **options)


def takes_data(pair: Pair | type[Pair]) -> bool:
    """Return whether a data set is what the pair models; else it makes its own."""
    return pair.uses_images or pair.uses_counts


def untrained(
    name: str, job: Job, options: Mapping[str, Any] = MappingProxyType({})
) -> tuple[Pair, DataSet | Tensor, DataSet | None]:
    """Return the named pair with training data, and test data if it takes a data set.

    Raises:
        ValueError: an unknown pair, or an option that its constructor does not take.
    """
    cls = MODELS[checks.name("pair", name, MODELS)]
    known = [each for each in inspect.signature(cls).parameters if each != "seed"]
    for option in options:
        checks.name(f"option of {cls.__name__}", option, known)
    if not takes_data(cls):
        pair = cls.suited_to(None, seed=job.seed, **options)
        return pair, pair.sample(TOY_OBSERVATIONS, seed=job.seed), None
    train = job.part("train", cls)
    if isinstance(train, ImageData):
        shape = train.image_shape
    else:
        first: Any = train.batch(slice(0, 1))
        shape = first["x"].shape[1:]
    return cls.suited_to(shape, seed=job.seed, **options), train, job.part("test", cls)


def prepared(
    names: list[str], checkpoint: Path | None, job: Job
) -> Iterator[tuple[str, Pair, BatchLike]]:
    """Yield the pairs to compare with name and examples: the one in a folder, or fitted ones."""
    if checkpoint is not None:
        pair = load_pair(checkpoint, trust=job.trust)
        yield checkpoint.name, pair, examples(pair, job)
        return
    for name in dict.fromkeys(names):
        pair, data, _ = untrained(name, job)
        if not isinstance(data, Tensor):
            print(f"fitting {name} to {job.data}, {job.num_epochs} epochs", file=sys.stderr)
            fit(pair, data, num_epochs=job.num_epochs, device=job.device, seed=job.seed)
        yield name, pair, examples(pair, job)


def examples(pair: Pair, job: Job) -> BatchLike:
    """Return a few examples on the CPU: of the test data, or draws from the model."""
    if not takes_data(pair):
        return pair.sample(TOY_OBSERVATIONS, seed=job.seed).cpu()
    with seeded(job.seed):
        return job.part("test", pair).batch(slice(0, COMPARED_EXAMPLES), dtype=pair.dtype)


def _name(pair: Pair | type[Pair]) -> str:
    return (pair if isinstance(pair, type) else type(pair)).__name__
