"""Progress: a bar on a terminal, a line an epoch elsewhere."""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

from ppl_vae.inference.history import History


@contextmanager
def reporter(num_epochs: int, *, show: bool) -> Iterator[Callable[[int, History], None]]:
    """Yield a function that shows the state after an epoch, on stderr."""
    if not show:
        yield lambda epoch, history: None
        return
    if not sys.stderr.isatty():
        yield lambda epoch, history: print(
            f"epoch {epoch}/{num_epochs}  {_summary(history)}", file=sys.stderr, flush=True
        )
        return
    columns = (
        TextColumn("epoch"),
        MofNCompleteColumn(),
        BarColumn(),
        TextColumn("{task.description}"),
        TimeRemainingColumn(),
    )
    with Progress(*columns, console=Console(stderr=True)) as bar:
        task = bar.add_task("", total=num_epochs)

        def update(epoch: int, history: History) -> None:
            bar.update(task, completed=epoch, description=_summary(history))

        yield update


def _summary(history: History) -> str:
    parts = [f"ELBO train {history.train_elbo[-1]:.2f}"]
    if history.test_elbo:
        parts.append(f"test {history.test_elbo[-1]:.2f}")
    parts.append(f"{history.seconds[-1]:.1f} s")
    return "  ".join(parts)
