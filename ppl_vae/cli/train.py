"""The command `ppl-vae train`, and the options that it shares with others."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any

import typer
from typer import Argument, Option

from ppl_vae.cli.exits import reports_errors
from ppl_vae.cli.options import TrainOptions

DataName = Annotated[str, Option("--data", help="Data set: digits, mnist, ...")]
DataDir = Annotated[Path | None, Option(help="Folder of downloaded data.")]
Device = Annotated[str, Option(help="auto, cpu or cuda.")]
Seed = Annotated[int, Option(help="Of everything random.")]


_DEFAULT = TrainOptions()


@reports_errors
def train(
    context: typer.Context,
    pair: Annotated[
        str, Argument(metavar="PAIR|CONFIG.toml", help="See `ppl-vae list`; or a file of options.")
    ],
    data: DataName = _DEFAULT.data,
    settings: Annotated[
        list[str] | None, Option("--set", metavar="NAME=VALUE", help="Option of the pair.")
    ] = None,
    elbo: Annotated[str | None, Option(help="One that serves if left out.")] = None,
    particles: Annotated[int | None, Option(help="Averaged in each estimate of --elbo.")] = None,
    epochs: Annotated[int, Option(help="Passes over the data.")] = _DEFAULT.epochs,
    batch_size: Annotated[int, Option(help="Examples a step.")] = _DEFAULT.batch_size,
    learning_rate: Annotated[
        float, Option("--lr", help="Adam's learning rate.")
    ] = _DEFAULT.learning_rate,
    schedule: Annotated[str | None, Option(help="Of the rate: cosine or plateau.")] = None,
    kl_weight: Annotated[float, Option(help="On the KL divergence.")] = _DEFAULT.kl_weight,
    warmup: Annotated[
        float, Option(help="Part of training until the weight is 1.")
    ] = _DEFAULT.warmup,
    cycles: Annotated[
        int, Option(help="Of the warm-up; it fills --warmup of each.")
    ] = _DEFAULT.cycles,
    free_bits: Annotated[float, Option(help="Nats per latent dimension.")] = _DEFAULT.free_bits,
    clip_norm: Annotated[float | None, Option(help="Longest gradient per example.")] = None,
    accumulate: Annotated[
        int, Option(help="Parts in which a batch is computed.")
    ] = _DEFAULT.accumulate,
    precision: Annotated[str, Option(help="float32 or bf16.")] = _DEFAULT.precision,
    on_nan: Annotated[
        str, Option(help="A step that is not finite: raise or skip.")
    ] = _DEFAULT.on_nan,
    patience: Annotated[
        int | None, Option(help="Epochs without a better test ELBO before the end.")
    ] = None,
    min_delta: Annotated[
        float, Option(help="What counts as better, in nats.")
    ] = _DEFAULT.min_delta,
    keep: Annotated[str, Option(help="The last epoch's parameters, or the best.")] = _DEFAULT.keep,
    log: Annotated[
        list[str] | None, Option(help="tensorboard, mlflow or wandb, in --out.")
    ] = None,
    binarize: Annotated[str, Option(help="dynamic, static or threshold.")] = _DEFAULT.binarize,
    *,
    out: Annotated[Path | None, Option(help="Run folder.")] = None,
    resume: Annotated[bool, Option("--resume", help="Go on with the run in --out.")] = False,
    overwrite: Annotated[bool, Option("--overwrite", help="Replace the run in --out.")] = False,
    data_dir: DataDir = None,
    device: Device = _DEFAULT.device,
    seed: Seed = _DEFAULT.seed,
) -> None:
    """Train a pair; with --out, keep it with its metrics and pictures in a run folder.

    A run folder holds train.toml, the file of options that repeats the run; options given beside
    a file win over it.
    """
    from ppl_vae import checks, devices
    from ppl_vae.cli.provenance import record
    from ppl_vae.cli.training import pair_options, read_options, run
    from ppl_vae.inference.processes.launch import is_first
    from ppl_vae.models import MODELS
    from ppl_vae.report import write_report

    values: dict[str, Any] = {
        name: str(value) if isinstance(value, Path) else value
        for name, value in context.params.items()
        if _is_given(context, name)
    }
    for name in ("resume", "overwrite", "pair", "settings"):
        values.pop(name, None)
    if settings:
        values["options"] = pair_options(settings)
    if pair.endswith(".toml"):
        options = read_options(Path(pair), values)
    else:
        options = TrainOptions(pair=pair, **values)
    checks.name("pair", options.pair, MODELS)
    history = run(options, resume=resume, overwrite=overwrite)
    if not is_first():
        return
    final = history.test_elbo or history.train_elbo
    which = "test" if history.test_elbo else "train"
    shown, when = len(history), f"after {len(history)} epochs"
    if options.keep == "best" and history.best_epoch is not None:
        shown, when = history.best_epoch, f"of epoch {history.best_epoch}, the best"
    print(f"ELBO per example, {which}, {when}: {final[shown - 1]:.3f} nats")
    if options.out is not None:
        folder = Path(options.out)
        record(folder, context, str(devices.resolve(options.device)))
        print(f"written: {folder}, {write_report(folder)}")


def _is_given(context: typer.Context, name: str) -> bool:
    """Return whether an option stands on the command line."""
    source = context.get_parameter_source(name)
    return source is not None and source.name == "COMMANDLINE"
