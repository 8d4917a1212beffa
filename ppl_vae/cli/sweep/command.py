"""The command `ppl-vae sweep`."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer
from typer import Argument, Option

from ppl_vae.cli.exits import reports_errors


@reports_errors
def sweep(
    context: typer.Context,
    config: Annotated[
        Path, Argument(metavar="CONFIG.toml", help="Pairs, data, elbos, seeds, options of train.")
    ],
    backend: Annotated[str, Option(help="Where jobs run: loky, ray or dask.")] = "loky",
    out: Annotated[
        Path | None, Option(help="Folder for rows, runs and page; CONFIG by default.")
    ] = None,
    workers: Annotated[
        int | None, Option(help="Jobs at a time; by default one a core, or one on a GPU.")
    ] = None,
    *,
    retry_failed: Annotated[
        bool, Option("--retry-failed", help="Do jobs again that failed.")
    ] = False,
    device: Annotated[str | None, Option(help="auto, cpu or cuda; the file's by default.")] = None,
) -> None:
    """Train every combination of a file's lists; show means over seeds with intervals.

    The same command goes on with a sweep that was stopped: jobs that have a row in sweep.csv are
    not done again, and runs that were half finished go on from their checkpoints.
    """
    from rich.console import Console

    from ppl_vae.cli.provenance import record
    from ppl_vae.cli.sweep.running import run_sweep
    from ppl_vae.report import write_report
    from ppl_vae.sweeping.summary import DONE

    folder = config.with_suffix("") if out is None else out
    summary, ran_on = run_sweep(
        config,
        folder,
        backend,
        num_workers=workers,
        device=device,
        retry_failed=retry_failed,
    )
    summary.print(Console())
    record(folder, context, ran_on)
    print(f"written: {folder}, {write_report(folder)}")
    if not any(row["status"] == DONE for row in summary.rows):
        raise ArithmeticError(f"every job failed, the first by {summary.rows[0]['error']}")
