"""The table of Burda, Grosse and Salakhutdinov (2015): NLL on MNIST, ours beside the paper's.

    python experiments/burda_table.py --data-dir DIR --rows 1-vae-1,2-vae-1 --stages 4

A row is LAYERS-OBJECTIVE-K: one or two stochastic layers, the ELBO (``vae``) or the importance-
weighted bound (``iwae``), k draws. Protocol: tanh networks x - 200 - 200 - z 50, or
x - [200, 200] - z1 100 - [100, 100] - z2 50 with the bottom-up guide; pixels binarised afresh at
every use; batches of 20; Adam (epsilon 1e-4) for 3^(i-1) epochs at the i-th learning rate, i = 1
to 8; the decoder's output bias starts at the logit of the clipped training mean. Every stage has a
run folder and goes on where it stopped. The paper's numbers are those after all 8 stages (3,280
epochs).
"""

from __future__ import annotations

import functools
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import numpy as np
import torch
import typer
from pyro.infer import Trace_ELBO

from ppl_vae import (
    BernoulliVAE,
    HierarchicalVAE,
    ImageData,
    TraceIWAE_ELBO,
    active_units,
    fit,
    load,
    load_pair,
    log_evidence,
    plots,
    seeded,
)

if TYPE_CHECKING:
    import pandas as pd

LEARNING_RATES = (1e-3, 7.2e-4, 5.2e-4, 3.7e-4, 2.7e-4, 1.9e-4, 1.4e-4, 1e-4)
PAPER = {
    "1-vae-1": 86.76,
    "1-vae-5": 86.47,
    "1-vae-50": 86.35,
    "1-iwae-5": 85.54,
    "1-iwae-50": 84.78,
    "2-vae-1": 85.33,
    "2-vae-5": 85.01,
    "2-vae-50": 84.78,
    "2-iwae-5": 83.89,
    "2-iwae-50": 82.90,
}
Model = BernoulliVAE | HierarchicalVAE


def main(
    data: Annotated[str, typer.Option(help="mnist or digits.")] = "mnist",
    data_dir: Annotated[Path | None, typer.Option(help="Folder of MNIST.")] = None,
    rows: Annotated[str, typer.Option(help="LAYERS-OBJECTIVE-K, commas between.")] = (
        "1-vae-1,2-vae-1"
    ),
    stages: Annotated[int, typer.Option(help="1 to 8; 4 is 40 epochs.", min=1, max=8)] = 4,
    samples: Annotated[int, typer.Option(help="Importance samples of the NLL.")] = 5000,
    images: Annotated[int, typer.Option(help="Test images of the NLL.")] = 10_000,
    seed: Annotated[int, typer.Option(help="Of everything random.")] = 0,
    device: Annotated[str, typer.Option(help="auto, cpu or cuda.")] = "auto",
    runs: Annotated[Path | None, typer.Option(help="Run folders; OUT/runs if left out.")] = None,
    out: Annotated[Path, typer.Option(help="Folder for the table.")] = Path("out/burda_table"),
    *,
    smoke: Annotated[bool, typer.Option("--smoke", help="Seconds, on a few digits.")] = False,
) -> None:
    """Train the rows asked for, stage by stage, and print their NLL beside the paper's."""
    import pandas as pd

    unknown = [row for row in rows.split(",") if row not in PAPER]
    if unknown:
        raise typer.BadParameter(f"rows are {', '.join(PAPER)}; came: {', '.join(unknown)}")
    if smoke:
        data, stages, samples, images = "digits", 1, 50, 20
    runs = runs or out / "runs"
    train, test = (load(data, split=split, data_dir=data_dir) for split in ("train", "test"))
    results = []
    for row in rows.split(","):
        for stage in range(1, stages + 1):
            run_stage(row, stage, train, runs / row, seed=seed, device=device)
        pair = load_pair(runs / row / f"stage-{stages}")
        assert isinstance(pair, Model)
        results.append(evaluate(row, pair.to(device_of(device)), test[:images], samples, seed))
        print(f"{row}: NLL {results[-1]['NLL']:.2f}, paper {PAPER[row]:.2f} (8 stages)")
    table = pd.DataFrame(results)
    table.insert(1, "stages", stages)
    table.insert(2, "epochs", (3**stages - 1) // 2)
    out.mkdir(parents=True, exist_ok=True)
    table.to_csv(out / "table.csv", index=False)
    print(table.to_string(index=False))
    draw(table, out)


def device_of(name: str) -> str:
    """Return the device that ``auto`` stands for."""
    return ("cuda" if torch.cuda.is_available() else "cpu") if name == "auto" else name


def build(row: str, train: ImageData, seed: int) -> Model:
    """Return the row's untrained pair, its output bias at the training mean."""
    if row.startswith("1"):
        pair = BernoulliVAE(train.image_shape, 50, (200, 200), activation="tanh", seed=seed)
    else:
        pair = HierarchicalVAE(train.image_shape, (100, 50), hidden=(200, 100), seed=seed)
    pair.decoder.start_at(train.images.float().mean(0) / 255)
    return pair


def run_stage(
    row: str, stage: int, train: ImageData, folder: Path, *, seed: int, device: str
) -> None:
    """Train one stage from where the one before ended; do nothing if it is done already."""
    path = folder / f"stage-{stage}"
    _, objective, count = row.split("-")
    elbo = {"vae": Trace_ELBO, "iwae": TraceIWAE_ELBO}[objective](
        num_particles=int(count), vectorize_particles=int(count) > 1, max_plate_nesting=1
    )
    before = folder / f"stage-{stage - 1}"
    pair = build(row, train, seed) if stage == 1 else load_pair(before)
    fit(
        pair,
        train,
        elbo=elbo,
        optimizer=functools.partial(torch.optim.Adam, lr=LEARNING_RATES[stage - 1], eps=1e-4),
        num_epochs=3 ** (stage - 1),
        batch_size=20,
        seed=1000 * seed + stage,
        device=device,
        run_dir=path,
        resume=(path / "config.json").exists(),
    )


def evaluate(row: str, pair: Model, test: ImageData, samples: int, seed: int) -> dict[str, object]:
    """Return the NLL on one binary draw of the test images, with its errors, as a table's row."""
    with seeded(seed):
        x = test.batch(slice(None), dtype=pair.dtype).to(pair.device)
    found = log_evidence(pair, x, method="iwae", num_samples=samples, seed=seed)
    per_example = found.mean.double()
    monte_carlo = found.standard_error.double().square().sum().sqrt() / len(x)
    units = active_units(pair, x[:2000], seed=seed)
    return {
        "row": row,
        "NLL": round(-per_example.mean().item(), 3),
        "standard error (sampling)": round(monte_carlo.item(), 4),
        "standard error (images)": round((per_example.std() / len(x) ** 0.5).item(), 3),
        "paper, 8 stages": PAPER[row],
        "samples": samples,
        "images": len(x),
        "binarised": test.binarize,
        "split": test.split,
        "active units": ", ".join(f"{site}: {found}" for site, found in units.items()),
    }


def draw(table: pd.DataFrame, out: Path) -> None:
    """Draw our NLL and the paper's, row by row."""
    _, axes = plots.subplots(size=(6.5, 0.5 * len(table) + 1.4))
    ax = axes[0, 0]
    places = np.arange(len(table))
    ax.barh(places - 0.18, table["NLL"], height=0.34, label=f"ours, {table['epochs'][0]} epochs")
    ax.barh(places + 0.18, table["paper, 8 stages"], height=0.34, label="paper, 3,280 epochs")
    ax.set_yticks(places, table["row"])
    ax.invert_yaxis()
    low = min(table["NLL"].min(), table["paper, 8 stages"].min())
    ax.set_xlim(low - 2, None)
    ax.set_xlabel("NLL of a test image in nats (the axis does not start at 0)")
    ax.legend(loc="upper left", bbox_to_anchor=(1, 1))
    plots.save(ax, out / "nll.png")


if __name__ == "__main__":
    typer.run(main)
