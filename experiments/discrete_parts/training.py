"""Training of sigmoid belief networks, with the ELBO over the seconds that it took."""

from __future__ import annotations

import functools
import math
import time
from pathlib import Path

import pandas as pd
import torch
from torch import Tensor

from ppl_vae import BinaryLatentVAE, fit, load, load_pair, log_evidence, seeded
from ppl_vae.elbos import make

PAIRS = {"8 bits": (8, ()), "linear": (200, ()), "non-linear": (200, (200, 200))}
BATCH_SIZE, EVIDENCE_EXAMPLES = 50, 500
LEARNING_RATES = {"digits": 3e-3, "mnist": 1e-4}  # MNIST's is that of the papers


def examples(data: str, split: str, data_dir: Path | None) -> Tensor:
    """Return images, binarised once."""
    found = load(data, split=split, data_dir=data_dir, binarize="static")
    with seeded(0):
        return found.batch(slice(None))


def untrained(name: str, image_shape: tuple[int, ...], seed: int) -> BinaryLatentVAE:
    """Return a pair as its training begins."""
    latent_dim, hidden = PAIRS[name]
    return BinaryLatentVAE(image_shape, latent_dim, hidden, seed=seed)


def warm_up(device: str) -> None:
    """Take a few steps, so that what is done once counts for no estimator."""
    x = examples("digits", "test", None)
    options = {"num_epochs": 1, "compile": False, "progress": False, "device": device}
    fit(untrained("8 bits", tuple(x.shape[1:]), 0), x, **options)


def trained(
    name: str,
    estimator: str,
    data: str,
    folder: Path,
    *,
    epochs: int,
    seed: int,
    data_dir: Path | None,
    device: str,
) -> pd.DataFrame:
    """Train by one estimator; return ELBO and seconds after every epoch."""
    test = examples(data, "test", data_dir)
    pair = untrained(name, tuple(test.shape[1:]), seed)
    path = folder / "curve.csv"
    resume = (folder / "checkpoint.safetensors").exists()
    if resume:
        rows = pd.read_csv(path).to_dict("records")
    else:
        rows = [{"epoch": 0, "seconds": 0.0, "elbo": mean_elbo(pair, test, seed)}]
    clock = Clock(rows[-1]["seconds"])

    def look(epoch: int, _: object) -> None:
        spent = clock.read(pair.device)
        del rows[epoch:]
        elbo = mean_elbo(pair, test, seed)
        rows.append({"epoch": epoch, "seconds": round(spent, 3), "elbo": round(elbo, 3)})
        pd.DataFrame(rows).to_csv(path, index=False)
        clock.start(pair.device)

    if len(rows) > epochs:
        pair = load_pair(folder)
    else:
        train = load(data, split="train", data_dir=data_dir, binarize="dynamic")
        rate = LEARNING_RATES[data]
        clock.start(pair.device)
        fit(
            pair,
            train,
            elbo=estimator,
            optimizer=functools.partial(torch.optim.Adam, lr=rate),
            num_epochs=epochs,
            batch_size=BATCH_SIZE,
            device=device,
            compile=False,
            seed=seed,
            run_dir=folder,
            resume=resume,
            progress=False,
            log=(look,),
        )
    curve = pd.DataFrame(rows)
    samples = 1000 if epochs > 1 else 100
    evidence = log_evidence(pair, test[:EVIDENCE_EXAMPLES], num_samples=samples, device=device)
    curve["log evidence"] = math.nan
    curve.loc[curve.index[-1], "log evidence"] = round(evidence.average.mean, 3)
    return curve


class Clock:
    """Seconds of training: of the processor, so that other work on it does not count.

    Args:
        seconds: that were spent before.
    """

    def __init__(self, seconds: float) -> None:
        self._seconds, self._started = seconds, 0.0

    def start(self, device: torch.device) -> None:
        """Go on."""
        self._started = self._now(device)

    def read(self, device: torch.device) -> float:
        """Stop, and return the seconds so far."""
        self._seconds += self._now(device) - self._started
        return self._seconds

    @staticmethod
    def _now(device: torch.device) -> float:
        if device.type == "cpu":
            return time.process_time()
        torch.cuda.synchronize(device)
        return time.perf_counter()


@torch.no_grad()
def mean_elbo(pair: BinaryLatentVAE, x: Tensor, seed: int) -> float:
    """Return the ELBO per image: exact for few bits, else by ten draws an image."""
    x = x.to(pair.device)
    if pair.exact is not None:
        return float(torch.cat([pair.exact.elbo(part) for part in x.split(100)]).mean())
    with seeded(seed, pair.device):
        loss = make("trace", num_particles=10).loss(pair.model, pair.guide, x)
    return -loss / len(x)
