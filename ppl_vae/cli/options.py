"""The options of `ppl-vae train`, which its files name too. Nothing heavy is imported here."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any


@dataclass(frozen=True)
class TrainOptions:
    """Every option of `ppl-vae train`, under the names that a file has for them.

    Attributes:
        pair: its name.
        options: of the pair's constructor.
        data, data_dir, binarize: the data set.
        elbo, particles: the estimator.
        epochs, batch_size, learning_rate: of training.
        kl_weight, warmup, cycles, free_bits: the objective's.
        schedule, clip_norm, accumulate, precision, on_nan: of the steps.
        patience, min_delta, keep: by the validation ELBO.
        log: names of logs.
        out: run folder.
        device, seed: where, and from what.
    """

    pair: str = ""
    options: dict[str, Any] | None = None
    data: str = "digits"
    data_dir: str | None = None
    binarize: str = "dynamic"
    elbo: str | None = None
    particles: int | None = None
    epochs: int = 10
    batch_size: int = 128
    learning_rate: float = 1e-3
    kl_weight: Any = 1.0  # a number, or one for each site
    warmup: float = 0.0
    cycles: int = 0
    free_bits: float = 0.0
    schedule: str | None = None
    clip_norm: float | None = None
    accumulate: int = 1
    precision: str = "float32"
    on_nan: str = "raise"
    patience: int | None = None
    min_delta: float = 0.0
    keep: str = "last"
    log: list[str] | None = None
    out: str | None = None
    device: str = "auto"
    seed: int = 0
