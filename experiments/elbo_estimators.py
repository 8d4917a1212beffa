"""Which ELBO estimator has the quieter gradient, for which parameters, and when?

    python experiments/elbo_estimators.py

A Bernoulli VAE on the digits, measured at initialisation and after 1, 5 and 20 epochs.
"""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import pandas as pd
import torch
import typer

from ppl_vae import BernoulliVAE, compare_elbos, fit, load, plots, seeded

GROUPS = ("encoder", "decoder", "overall")
ESTIMATORS = ("trace", "trace-mean-field", "sticking-the-landing")


def main(
    data: Annotated[str, typer.Option(help="digits or mnist.")] = "digits",
    data_dir: Annotated[Path | None, typer.Option(help="Folder of MNIST.")] = None,
    replicates: Annotated[int, typer.Option(help="Gradients of each estimator.")] = 500,
    seed: Annotated[int, typer.Option(help="Of everything random.")] = 0,
    device: Annotated[str, typer.Option(help="auto, cpu or cuda.")] = "auto",
    out: Annotated[Path, typer.Option(help="Folder for tables and pictures.")] = Path(
        "out/elbo_estimators"
    ),
    *,
    smoke: Annotated[bool, typer.Option("--smoke", help="Seconds instead of a minute.")] = False,
) -> None:
    """Compare the estimators along training; write a table and a figure."""
    out.mkdir(parents=True, exist_ok=True)
    epochs = (0, 1, 2) if smoke else (0, 1, 5, 20)
    replicates = 10 if smoke else replicates
    train, test = (load(data, split=split, data_dir=data_dir) for split in ("train", "test"))
    with seeded(seed):
        x = test.batch(slice(0, 64))
    pair = BernoulliVAE(train.image_shape, seed=seed)
    optimizer = torch.optim.Adam(pair.parameters(), lr=1e-3)
    rows = []
    for begin, end in zip((0, *epochs), epochs, strict=False):
        if end > begin:
            fit(
                pair,
                train,
                optimizer=optimizer,
                num_epochs=end - begin,
                device=device,
                seed=seed + end,
                progress=False,
            )
        result = compare_elbos(
            pair, x, ESTIMATORS, num_replicates=replicates, seed=seed, device=device
        )
        for row in result.rows:
            for group in GROUPS:
                variance = row.gradient_variance[group]
                rows.append(
                    {
                        "epochs": end,
                        "estimator": row.name,
                        "parameters": group,
                        "variance": variance.mean,
                        "standard error": variance.standard_error,
                        "signal/noise": row.signal_to_noise[group],
                        "ELBO": row.value.mean / len(x),
                    }
                )
    table = pd.DataFrame(rows)
    table.to_csv(out / "along_training.csv", index=False)
    wide = table.pivot_table("variance", ["parameters", "epochs"], "estimator", sort=False)
    for name in ESTIMATORS[1:]:
        wide[f"{name} / trace"] = wide[name] / wide["trace"]
    print(wide.to_string(float_format="{:.4g}".format))
    draw(table, out / "along_training.png")


def draw(table: pd.DataFrame, path: Path) -> None:
    """Draw the variance of each group's gradient along training."""
    figure, axes = plots.subplots(1, len(GROUPS), size=(3.6, 3.2))
    for ax, group in zip(axes[0], GROUPS, strict=True):
        for number, (name, rows) in enumerate(
            table[table.parameters == group].groupby("estimator", sort=False)
        ):
            at = [place + 0.08 * number for place in range(len(rows))]  # equal values stay visible
            error = rows["standard error"]
            colour = plots.COLOURS[number]
            ax.errorbar(at, rows.variance, error, marker="o", capsize=3, label=name, color=colour)
            ax.set_xticks(at, rows.epochs)
        ax.set(title=group, xlabel="epochs", yscale="log")
    axes[0, 0].set_ylabel("gradient variance")
    axes[0, 0].legend(frameon=False)
    figure.savefig(path, dpi=plots.DPI)


if __name__ == "__main__":
    typer.run(main)
