"""The result of a check, to read, print and raise."""

from __future__ import annotations

import io
from dataclasses import dataclass, field

from rich import box
from rich.console import Console, Group
from rich.panel import Panel
from rich.table import Table
from rich.text import Text

from ppl_vae.diagnostics.check.verdict.simple_ratios import shown
from ppl_vae.diagnostics.estimate import Estimate


@dataclass(frozen=True)
class GroupGradient:
    """One parameter group's expected gradient against the right one.

    Attributes:
        group: its name.
        ratio: of the objective's gradient along the right one to the right one's length; 1 is
            right, 0 blocked, 2 doubled.
        weights: with which coefficient each term's gradient enters, where it can be told.
        z_score: of the difference, never negative; small where the gradient is right.
        missing: parameters that the objective's gradient does not reach, though the right one
            does.
        is_part: whether these are some of the group and not all.
        is_finite: whether the objective's gradient was, at all draws.
    """

    group: str
    ratio: Estimate[float]
    weights: dict[str, Estimate[float]]
    z_score: float
    missing: tuple[str, ...] = ()
    is_part: bool = False
    is_finite: bool = True


@dataclass(frozen=True)
class Finding:
    """One thing that is wrong.

    Attributes:
        kind: ``weight``, ``sign``, ``missing``, ``constant``, ``reduction``, ``part``,
            ``formula``, ``noise``, ``bound``, ``extra``, ``leftover`` or ``gradient``.
        term: what it is in: ``log_likelihood``, ``log_prior``, ``entropy``, ``kl`` (the two
            together), ``objective``, ``constant``, or a parameter group.
        expected: what is right, in words or as a number.
        found: what came, with its standard error.
        message: all of it in plain words, with the likely cause.
    """

    kind: str
    term: str
    expected: str
    found: str
    message: str

    def __str__(self) -> str:
        return self.message


@dataclass
class ElboCheck:
    """Whether an objective is the ELBO, and if not, what is wrong with it.

    Attributes:
        subject: what was checked, in words.
        findings: what is wrong, the most telling first; empty if nothing is.
        coefficients: with which weights ``log_likelihood``, ``log_prior`` and ``entropy`` enter
            the objective (1 is right), and the ``constant``, in nats per example (0 is right).
            Where the objective is no weighted sum of the terms, they are those of the nearest.
        leftover: the root mean square of what the nearest such sum leaves, in nats per example.
        gradient: by parameter group.
        num_replicates: of the objective at each setting of parameters and batch.
        num_settings: how many settings there were.
        stopped: ``clear`` if the answer was, ``budget`` if replicates ran out before a few
            percent in every term could be told from noise.
        notes: what the reader should know besides.
    """

    subject: str
    findings: list[Finding]
    coefficients: dict[str, Estimate[float]]
    leftover: float
    gradient: dict[str, GroupGradient]
    num_replicates: int
    num_settings: int
    stopped: str
    notes: list[str] = field(default_factory=list)

    @property
    def passed(self) -> bool:
        """Whether nothing is wrong."""
        return not self.findings

    def print(self, console: Console | None = None) -> None:
        """Print the verdict, the findings, the coefficients and the gradients as a panel."""
        (console or Console()).print(self._panel())

    def __str__(self) -> str:
        screen = io.StringIO()
        Console(file=screen, width=88, color_system=None).print(self._panel())
        return screen.getvalue()

    def _panel(self) -> Panel:
        lines: list[Text | Table] = [
            Text.assemble(("x ", "bold red"), finding.message) for finding in self.findings
        ]
        if self.passed:
            lines.append(Text("Value and expected gradient are those of the ELBO.", "green"))
        values = Table("term", "weight", "expected", box=box.SIMPLE_HEAD, pad_edge=False)
        for name, estimate in self.coefficients.items():
            values.add_row(name, shown(estimate), "0" if name == "constant" else "1")
        gradients = Table(
            "gradient of", "along the right one", "z", box=box.SIMPLE_HEAD, pad_edge=False
        )
        for group in self.gradient.values():
            gradients.add_row(group.group, shown(group.ratio), f"{group.z_score:.1f}")
        lines += [values, gradients] if self.gradient else [values]
        why = "the answer is clear" if self.stopped == "clear" else "the budget is spent"
        effort = (
            f"{self.num_replicates} replicates at each of {self.num_settings} settings of "
            f"parameters and batch; stopped because {why}. ± is one standard error."
        )
        lines += [Text(note, "dim") for note in (effort, *self.notes)]
        return Panel(
            Group(*lines),
            title=f"{self.subject}: {'passed' if self.passed else 'FAILED'}",
            title_align="left",
            border_style="green" if self.passed else "red",
            width=88,
        )
