"""The published table in full, a bit more of it in every run."""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from functools import partial
from pathlib import Path

import torch
from burda_table import LEARNING_RATES, PAPER, evaluate, run_stage

from gpu_parts.images import random_images
from gpu_parts.records import Case, Found, Records
from ppl_vae import ImageData, load, load_pair

ROWS = ("1-vae-1", "1-iwae-50", "1-iwae-5", "2-vae-1", "2-iwae-50", "2-iwae-5")


def run(
    records: Records,
    device: torch.device,
    *,
    smoke: bool,
    seed: int,
    data_dir: Path | None,
    runs: Path,
) -> None:
    """Train and evaluate stage after stage, row after row, from the last epoch that was saved."""
    if smoke:
        train, test, samples, rows, stages = random_images(100), random_images(20), 50, ROWS[:1], 1
    else:
        train, test = (load("mnist", split=s, data_dir=data_dir) for s in ("train", "test"))
        samples, rows, stages = 5000, ROWS, len(LEARNING_RATES)
    records.do(_cases(rows, stages, train, test, samples, device, seed, runs), device)


def _cases(
    rows: tuple[str, ...],
    stages: int,
    train: ImageData,
    test: ImageData,
    samples: int,
    device: torch.device,
    seed: int,
    runs: Path,
) -> Iterator[Case]:
    for row in rows:
        for stage in range(1, stages + 1):
            work = partial(_stage, row, stage, train, test, samples, device, seed, runs)
            yield f"{row}, stage {stage}", work


def _stage(
    row: str,
    stage: int,
    train: ImageData,
    test: ImageData,
    samples: int,
    device: torch.device,
    seed: int,
    runs: Path,
) -> Found:
    folder = runs / row
    run_stage(row, stage, train, folder, seed=seed, device=str(device))
    # What is passed on is the pair; the state of the optimiser belongs to its stage.
    shutil.rmtree(folder / f"stage-{stage - 1}", ignore_errors=True)
    pair = load_pair(folder / f"stage-{stage}")
    found = evaluate(row, pair.to(device), test, samples, seed)  # pyright: ignore
    return {"stage": stage, "epochs": (3**stage - 1) // 2, **found, "paper": PAPER[row]}
