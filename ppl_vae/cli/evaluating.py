"""A run folder, evaluated: numbers, tables and pictures."""

from __future__ import annotations

import re
from dataclasses import replace
from pathlib import Path
from typing import Any

import pandas as pd
from torch import Tensor

from ppl_vae import checks, plots
from ppl_vae.cli.jobs import COMPARED_EXAMPLES, TOY_OBSERVATIONS, DataSet, Job, takes_data
from ppl_vae.data import ImageData
from ppl_vae.diagnostics import (
    Calibration,
    Evaluation,
    calibration,
    evaluate,
    explain_elbo,
    inference_gap,
)
from ppl_vae.elbos import ESTIMATORS, make
from ppl_vae.inference import load_pair
from ppl_vae.inference.monitoring.pictures import draw_pictures
from ppl_vae.inference.monitoring.progress import counter
from ppl_vae.inference.saving.files import read_json, write_text
from ppl_vae.inference.saving.run_folder import make_writable
from ppl_vae.pair import Pair
from ppl_vae.seeding import derive, seeded
from ppl_vae.vae import VAE

FOLDER = "evaluation"
PICTURED = 10_000
GAP_EXAMPLES = 12
POSTERIORS = 6


def evaluate_folder(
    folder: Path,
    job: Job,
    *,
    data: str | None,
    binarize: str | None,
    split: str,
    method: str,
    num_samples: int | None,
    num_examples: int | None,
    num_simulations: int,
    out: Path | None,
) -> tuple[Evaluation, Calibration | str, Path]:
    """Evaluate the pair in a run folder and write tables and pictures, to `out` only.

    None stands for the data and binarisation of the run, for all examples of the split, and for
    the folder ``evaluation`` in `folder`. `job` has the folder of the data, the device, the seed
    and the packages that are trusted. In place of the calibration stands why there is none.
    """
    if num_simulations:
        checks.count("--num-simulations, or 0 for none,", num_simulations, minimum=2)
    pair = load_pair(folder, trust=job.trust)
    if num_examples is not None:
        checks.count("--num-examples", num_examples)
    trained_on = _trained_on(folder)
    job = replace(
        job,
        data=data or trained_on.get("data", job.data),
        binarize=binarize or trained_on.get("binarize", job.binarize),
    )
    if takes_data(pair):
        examples = job.part(split, pair)[slice(0, num_examples)]
    else:  # the draws that `train` made
        seed = int(trained_on.get("seed", job.seed))
        examples = pair.sample(TOY_OBSERVATIONS, seed=seed)
    out = folder / FOLDER if out is None else out
    make_writable(out)
    drawn = isinstance(examples, Tensor)
    with counter("log p(x)", 1 if drawn else len(examples), "examples") as progress:
        evaluation = evaluate(
            pair,
            examples,
            method=method,
            num_samples=num_samples,
            seed=job.seed,
            device=job.device,
            split="drawn from the model" if drawn else None,
            progress=progress,
        )
    evaluation.save(out)
    _explain(pair, examples, trained_on.get("elbo"), out, job.seed)
    _draw(pair, examples, folder, out, job.seed, job.device)
    return evaluation, _calibration(pair, examples, out, num_simulations, job), out


def _calibration(
    pair: Pair, examples: DataSet | Tensor, out: Path, num_simulations: int, job: Job
) -> Calibration | str:
    """Write the calibration of the guide, with the labels and sizes of the examples."""
    if not num_simulations:
        return "no calibration: no simulations"
    like: Any = examples
    if not isinstance(examples, Tensor):
        with seeded(derive(job.seed, "shape")):
            like = examples.batch(slice(0, num_simulations), dtype=pair.dtype)
    try:
        found = calibration(
            pair, num_simulations=num_simulations, like=like, seed=job.seed, device=job.device
        )
    except (NotImplementedError, ValueError) as error:
        return f"no calibration: {' '.join(str(error).split())}"
    found.save(out)
    return found


def _trained_on(folder: Path) -> dict[str, str]:
    """Return the name and binarisation of the data, and the seed, of the run in a folder."""
    path = folder / "config.json"
    if not path.exists():
        return {}
    config = read_json(path)
    text = str(config.get("data", ""))
    name = re.match(r"(?:Image|Array)Data\(([^,]+),", text)
    binarize = re.search(r"binarize=(\w+)", text)
    settings = {"data": name and name[1], "binarize": binarize and binarize[1]}
    settings["elbo"] = config.get("elbo")
    return {k: v for k, v in settings.items() if v} | {"seed": str(config.get("seed", 0))}


def _explain(
    pair: Pair, examples: DataSet | Tensor, elbo: str | None, out: Path, seed: int
) -> None:
    """Write what the estimator of the training does with each site, where it is one of ours."""
    names = {name: name for name in ESTIMATORS}
    names |= {entry.cls.__name__: name for name, entry in ESTIMATORS.items()}
    if elbo not in names:
        return
    x: Any = examples
    if not isinstance(examples, Tensor):
        with seeded(derive(seed, "sites")):
            x = examples.batch(slice(0, COMPARED_EXAMPLES), dtype=pair.dtype)
    try:
        table = explain_elbo(make(names[elbo]), pair, x, seed=seed).to_dataframe()
    except NotImplementedError:  # its parts do not add up, or it cannot serve these data
        return
    table.insert(0, "estimator", names[elbo])
    write_text(out / "sites.csv", table.to_csv())


def _draw(
    pair: Pair, examples: DataSet | Tensor, folder: Path, out: Path, seed: int, device: str
) -> None:
    labels, pixel_range = None, None
    x: Any = examples
    count = min(len(examples), PICTURED)
    if not isinstance(examples, Tensor):
        with seeded(derive(seed, "pictures")):
            x = examples.batch(slice(0, count), dtype=pair.dtype)
    if isinstance(examples, ImageData):
        labels = examples.labels[:count] if examples.has_labels else None
        pixel_range = examples.pixel_range
    draw_pictures(pair, x, out, labels=labels, pixel_range=pixel_range, seed=seed)
    if isinstance(pair, VAE) and pair.latent_dim <= 2 and isinstance(x, Tensor):
        # There quadrature gives the evidence, quickly.
        gap = inference_gap(pair, x[:GAP_EXAMPLES], seed=seed, device=device)
        plots.save(gap.plot(), out / "evidence_gap.png")
        if pair.latent_dim == 2:
            gap.plot_posteriors(out, count=min(POSTERIORS, len(gap)))
    metrics = folder / "metrics.csv"
    if metrics.exists():
        table = pd.read_csv(metrics)
        curves = {
            name.removesuffix("_elbo"): table[name].dropna().tolist()
            for name in ("train_elbo", "test_elbo")
            if name in table
        }
        plots.save(plots.elbo_history(curves), out / "elbo.png")
