"""Progress: a bar on a terminal, a line an epoch elsewhere."""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn


@contextmanager
def reporter(
    num_epochs: int, *, show: bool
) -> Iterator[Callable[[int, Mapping[str, float]], object]]:
    """Yield a function that shows the state after an epoch, on stderr."""
    if not show:
        yield lambda epoch, numbers: None
        return
    if not sys.stderr.isatty():
        yield lambda epoch, numbers: print(
            f"epoch {epoch}/{num_epochs}  {_summary(numbers)}", file=sys.stderr, flush=True
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

        def update(epoch: int, numbers: Mapping[str, float]) -> None:
            bar.update(task, completed=epoch, description=_summary(numbers))

        yield update


@contextmanager
def counter(what: str, total: int, unit: str) -> Iterator[Callable[..., None]]:
    """Yield a function of the number that is done, and of a text to say of it, on stderr.

    Args:
        what: is counted, in front of the bar or the line.
        total: how many there are.
        unit: of what is counted, in the plural.
    """
    if not sys.stderr.isatty():
        yield lambda done, text="": print(
            f"{what}: {done}/{total} {unit}  {text}".rstrip(), file=sys.stderr, flush=True
        )
        return
    columns = (
        TextColumn(what, markup=False),
        MofNCompleteColumn(),
        BarColumn(),
        TextColumn("{task.description}", markup=False),
        TimeRemainingColumn(),
    )
    with Progress(*columns, console=Console(stderr=True)) as bar:
        task = bar.add_task("", total=total)
        yield lambda done, text="": bar.update(task, completed=done, description=text)


def _summary(numbers: Mapping[str, float]) -> str:
    parts = [f"ELBO train {numbers['train_elbo']:.2f}"]
    if "test_elbo" in numbers:
        parts.append(f"test {numbers['test_elbo']:.2f}")
    if numbers["objective"] != numbers["train_elbo"]:
        parts.append(f"objective {numbers['objective']:.2f}")
    parts.append(f"{numbers['seconds']:.1f} s")
    return "  ".join(parts)
