"""The command line: parses, calls, prints. Torch is imported when a command runs, not before."""

from __future__ import annotations

import os
import webbrowser
from pathlib import Path
from typing import Annotated

import typer
from rich.console import Console
from typer import Argument, Option

from ppl_vae.cli.exits import reports_errors
from ppl_vae.cli.sweep.command import sweep
from ppl_vae.cli.train import DataDir, DataName, Device, Seed, train

app = typer.Typer(
    help="Variational autoencoders in Pyro: train a pair, compare ELBO estimators.",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
)

DEFAULT_PAIRS = ("exponential-normal", "bernoulli-vae")

Trust = Annotated[list[str] | None, Option(help="Package whose pairs may be loaded; repeatable.")]


@app.command()
@reports_errors
def compare(
    context: typer.Context,
    pairs: Annotated[
        list[str] | None,
        Argument(metavar="[PAIR]...", help="Pairs to compare on; see `ppl-vae list`."),
    ] = None,
    data: DataName = "digits",
    estimators: Annotated[
        str | None, Option(help="Names with commas between; all that serve by default.")
    ] = None,
    replicates: Annotated[
        int | None, Option(help="Gradients of each; 1000 on a toy, 200 on images.")
    ] = None,
    particles: Annotated[
        int | None, Option(help="Averaged in each estimate; the fewest if left out.")
    ] = None,
    epochs: Annotated[int, Option(help="Of training before, for pairs of images.")] = 10,
    checkpoint: Annotated[
        Path | None, Option(help="Folder of a trained pair, instead of PAIR.")
    ] = None,
    out: Annotated[
        Path | None, Option(help="Folder for CSV, Markdown, figures and an HTML page.")
    ] = None,
    trust: Trust = None,
    data_dir: DataDir = None,
    device: Device = "auto",
    seed: Seed = 0,
) -> None:
    """Compare ELBO estimators: bias, gradient variance, cost.

    With nothing after it: on the toy, beside its exact answers, then on a Bernoulli VAE that is
    first fitted to the bundled digits.
    """
    import torch

    from ppl_vae import checks, compare_elbos
    from ppl_vae.cli.jobs import Job, prepared, takes_data
    from ppl_vae.cli.provenance import record
    from ppl_vae.inference.saving.run_folder import make_writable
    from ppl_vae.models import MODELS
    from ppl_vae.report import write_report

    if checkpoint is not None and pairs:
        raise checks.value_error("PAIR or --checkpoint", "both", "Leave out one.")
    names = [checks.name("pair", name, MODELS) for name in pairs or DEFAULT_PAIRS]
    chosen = estimators.split(",") if estimators else None
    if out is not None:
        make_writable(out)
    job = Job(data, data_dir, num_epochs=epochs, device=device, seed=seed, trust=trust or ())
    if "OMP_NUM_THREADS" not in os.environ:
        # Thousands of small operations: several threads would mostly wait for each other.
        torch.set_num_threads(1)
    console = Console()
    for name, pair, x in prepared(names, checkpoint, job):
        result = compare_elbos(
            pair,
            x,
            chosen,
            num_replicates=replicates or (200 if takes_data(pair) else 1000),
            num_particles=particles,
            seed=seed,
            device=device,
        )
        result.print(console)
        console.print()
        if out is not None:
            result.save(out / name)
            record(out / name, context, result.device)
    if out is not None:
        console.print(f"written: {write_report(out)}", highlight=False, soft_wrap=True)


app.command()(train)
app.command()(sweep)


@app.command()
@reports_errors
def evaluate(
    context: typer.Context,
    folder: Annotated[Path, Argument(metavar="DIR", help="Folder of a trained pair.")],
    method: Annotated[str, Option(help="iwae, quadrature, ais, thermodynamic or exact.")] = "iwae",
    num_samples: Annotated[
        int | None,
        Option(help="Importance weights an example; 5000 by iwae, 32 chains by ais."),
    ] = None,
    num_examples: Annotated[int | None, Option(help="The first so many; all by default.")] = None,
    num_simulations: Annotated[
        int, Option(help="Data that the model makes to calibrate the guide; 0 for none.")
    ] = 1000,
    split: Annotated[str, Option(help="train or test.")] = "test",
    data: Annotated[
        str | None, Option(help="Data set; what the run was trained on by default.")
    ] = None,
    binarize: Annotated[
        str | None, Option(help="dynamic, static or threshold; the run's by default.")
    ] = None,
    out: Annotated[
        Path | None, Option(help="Folder for results; DIR/evaluation by default.")
    ] = None,
    trust: Trust = None,
    data_dir: DataDir = None,
    device: Device = "auto",
    seed: Seed = 0,
) -> None:
    """Measure a trained pair: evidence, ELBO, latents, calibration of the guide, pictures."""
    from ppl_vae import devices
    from ppl_vae.cli.evaluating import evaluate_folder
    from ppl_vae.cli.jobs import Job
    from ppl_vae.cli.provenance import record
    from ppl_vae.report import write_report

    evaluation, calibration, written = evaluate_folder(
        folder,
        Job(data_dir=data_dir, device=device, seed=seed, trust=trust or ()),
        data=data,
        binarize=binarize,
        split=split,
        method=method,
        num_samples=num_samples,
        num_examples=num_examples,
        num_simulations=num_simulations,
        out=out,
    )
    console = Console()
    evaluation.print(console)
    if isinstance(calibration, str):
        console.print(f"  {calibration}", style="dim", highlight=False)
    else:
        calibration.print(console)
    record(written, context, str(devices.resolve(device)))
    page = write_report(folder if out is None else written)
    console.print(f"written: {written}, {page}", highlight=False, soft_wrap=True)


@app.command()
@reports_errors
def explain(
    pair: Annotated[str, Argument(metavar="PAIR", help="See `ppl-vae list`.")],
    elbo: Annotated[str, Option(help="Estimator; see `ppl-vae list`.")] = "trace-mean-field",
    data: DataName = "digits",
    data_dir: DataDir = None,
    seed: Seed = 0,
) -> None:
    """Show what an estimator does with every site: closed form or sampled, valid or not, why."""
    from ppl_vae.cli.jobs import Job, examples, untrained
    from ppl_vae.diagnostics import explain_elbo

    job = Job(data=data, data_dir=data_dir, seed=seed)
    built, _, _ = untrained(pair, job)
    explain_elbo(elbo, built, examples(built, job), seed=seed).print()


@app.command()
@reports_errors
def report(
    folders: Annotated[
        list[Path], Argument(metavar="DIR...", help="Run, comparison or sweep folders.")
    ],
    *,
    out: Annotated[
        Path | None,
        Option(help="The page; report.html in DIR, or here if there are several, by default."),
    ] = None,
    open_page: Annotated[bool, Option("--open", help="Show it in the browser.")] = False,
) -> None:
    """Show a folder of results, or several side by side, as one self-contained HTML page."""
    from ppl_vae.report import write_report

    page = write_report(*folders, out=out)
    print(f"written: {page}")
    if open_page:
        webbrowser.open(page.resolve().as_uri())


@app.command(name="list")
@reports_errors
def list_names() -> None:
    """List pairs, estimators with their claims, and data sets."""
    from ppl_vae.cli.listing import print_names

    print_names(Console())


def main() -> None:
    """Run the command line."""
    app()
