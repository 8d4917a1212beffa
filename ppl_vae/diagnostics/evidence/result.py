"""The evidence of some examples: numbers to read, print and tabulate."""

from __future__ import annotations

import math
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, ClassVar, TypeVar

import torch
from rich.console import Console
from rich.table import Table
from torch import Tensor

from ppl_vae.diagnostics.estimate import Estimate, counted, plus_minus

if TYPE_CHECKING:
    import pandas as pd

UNRELIABLE_K = 0.7
_NORMAL_95 = 1.959964
_ESTIMATORS = {
    "iwae": "importance-weighted bound",
    "ais": "annealed importance sampling",
    "thermodynamic": "left sum of the thermodynamic integral",
    "reverse-ais": "reverse annealed importance sampling (upper bound)",
    "quadrature": "adaptive quadrature",
    "exact": "closed form",
}
_BOUNDED = ("quadrature", "exact")


@dataclass(frozen=True)
class Source:
    """Where the examples come from.

    Attributes:
        data: the data set's name, or ``tensor``.
        split: which part of it, or ``not stated``.
        binarize: how grey pixels became binary: ``dynamic``, ``static``, ``threshold``, ``none``,
            or ``as given`` for a tensor.
    """

    data: str = "tensor"
    split: str = "not stated"
    binarize: str = "as given"

    @classmethod
    def of(cls, data: object) -> Source:
        """Return the source that an `ImageData` knows; a tensor knows none."""
        if isinstance(data, Tensor):
            return cls()
        found = {"data": "name", "split": "split", "binarize": "binarize"}
        return cls(**{k: str(getattr(data, a)) for k, a in found.items() if hasattr(data, a)})

    def __str__(self) -> str:
        return f"{self.data}, split {self.split}, binarisation {self.binarize}"


@dataclass(frozen=True, eq=False)
class Evidence:
    """log p(x_i) of every example, in nats.

    Attributes:
        mean: the estimate, (batch,).
        standard_error: of it, (batch,); by quadrature a bound of the numerical error, in closed
            form 0.
        effective_sample_size: of the importance weights, (batch,); NaN without weights.
        pareto_k: shape of the weights' tail, (batch,); above 0.7 mean and error cannot be
            trusted. NaN without weights, or with fewer than 25.
        method: ``iwae``, ``quadrature``, ``ais``, ``thermodynamic``, ``exact``, or ``reverse-ais``
            (an upper bound).
        num_samples: weights per example; by quadrature the most points that one took; in closed
            form 0.
        source: where the examples come from.
        warning: why the numbers cannot be trusted, or empty.
    """

    columns: ClassVar[tuple[str, ...]] = (
        "mean",
        "standard_error",
        "effective_sample_size",
        "pareto_k",
    )

    mean: Tensor
    standard_error: Tensor
    effective_sample_size: Tensor
    pareto_k: Tensor
    method: str
    num_samples: int
    source: Source = Source()  # noqa: RUF009  (frozen)
    warning: str = ""

    def __len__(self) -> int:
        return len(self.mean)

    def per_example(self) -> Estimate[Tensor]:
        """Return mean and standard error of every example, (batch,)."""
        return Estimate(self.mean, self.standard_error, self.num_samples, self.warning)

    @property
    def average(self) -> Estimate[float]:
        """The mean over the examples, as an estimate for all examples like them.

        Its standard error is the standard deviation of the estimates over the square root of
        their number. That holds both the spread over the examples and the Monte Carlo error, whose
        shares are ``spread_error`` and ``monte_carlo_error``. For one example it is the latter.
        """
        count = len(self.mean)
        spread = float(self.mean.double().std()) / math.sqrt(count) if count > 1 else 0.0
        error = max(spread, self.monte_carlo_error)
        return Estimate(float(self.mean.double().mean()), error, count, self.warning)

    @property
    def monte_carlo_error(self) -> float:
        """The error of the mean over just these examples: of the draws, or a numerical bound."""
        errors = self.standard_error.double()
        if self.method in _BOUNDED:
            return float(errors.mean())
        return float(errors.square().sum().sqrt()) / len(errors)

    @property
    def spread_error(self) -> float:
        """What the choice of examples alone adds to the standard error of ``average``."""
        total, part = self.average.standard_error, self.monte_carlo_error
        return math.sqrt(max(total**2 - part**2, 0.0)) if math.isfinite(part) else 0.0

    @property
    def nll(self) -> Estimate[float]:
        """The negative of ``average``."""
        average = self.average
        return Estimate(-average.mean, average.standard_error, len(self), self.warning)

    @property
    def interval(self) -> tuple[float, float]:
        """Ends of the 95% interval of ``nll``, in nats."""
        nll = self.nll
        half = _NORMAL_95 * nll.standard_error
        return nll.mean - half, nll.mean + half

    @property
    def bias(self) -> Tensor:
        """The leading term of the bias of ``mean``, (batch,), in nats; at most 0 for a bound.

        ``E[log mean w] - log E[w] = -Var(w) / (2 S E[w]^2)``, half the squared standard error.
        """
        if self.method in _BOUNDED:
            return torch.zeros_like(self.mean)
        sign = 1 if self.method == "reverse-ais" else -1
        return sign * self.standard_error.square() / 2

    @property
    def num_unreliable(self) -> int:
        """How many examples have a Pareto k above 0.7."""
        return int((self.pareto_k > UNRELIABLE_K).sum())

    def describe(self) -> str:
        """Return NLL, interval, estimator, samples, data, binarisation, split and count."""
        low, high = self.interval
        what = {"quadrature": "numerical bound", "exact": "rounding"}.get(
            self.method, "Monte Carlo"
        )
        spread = f", {self.spread_error:.2g} from the choice of examples" if len(self) > 1 else ""
        samples = {
            "exact": "",
            "quadrature": f", up to {self.num_samples} points an example",
        }.get(self.method, f", {self.num_samples} samples an example")
        lines = [
            f"NLL {plus_minus(self.nll.mean, self.nll.standard_error)} nats, "
            f"95% interval [{low:.6g}, {high:.6g}]",
            f"  error: {self.monte_carlo_error:.2g} {what}{spread}",
            f"  estimator: {self.method} ({_ESTIMATORS[self.method]}){samples}",
            f"  data: {self.source}, {counted(len(self), 'example')}",
        ]
        if self.method not in _BOUNDED:
            typical = float(self.effective_sample_size.median())
            lines.append(
                f"  weights: effective sample size {typical:.4g} (median), "
                f"Pareto k above {UNRELIABLE_K} for {self.num_unreliable} of {len(self)}; "
                f"bias about {float(self.bias.mean()):.1g} nats"
            )
        return "\n".join([*lines, *(f"  {line}" for line in self.warning.splitlines())])

    def __str__(self) -> str:
        return self.describe()

    def print(self, console: Console | None = None, *, worst: int = 0) -> None:
        """Print the description, and the `worst` examples (the least evidence) as a table."""
        console = console or Console()
        console.print(self.describe(), highlight=False)
        if not worst:
            return
        table = Table(title="least evidence", title_justify="left")
        for name in ("example", "log p(x)", "ESS", "Pareto k"):
            table.add_column(name, justify="right")
        for index in self.mean.argsort()[:worst].tolist():
            table.add_row(
                str(index),
                plus_minus(float(self.mean[index]), float(self.standard_error[index])),
                f"{float(self.effective_sample_size[index]):.4g}",
                f"{float(self.pareto_k[index]):.2f}",
            )
        console.print(table)

    def to_dataframe(self) -> pd.DataFrame:
        """Return one row per example."""
        import pandas as pd

        columns = {name: getattr(self, name).detach().cpu().numpy() for name in self.columns}
        return pd.DataFrame(columns).rename_axis("example")


def without_weights(
    mean: Tensor, error: Tensor, method: str, num_samples: int, warning: str = ""
) -> Evidence:
    """Return the evidence by a method that draws no weights."""
    none = torch.full_like(mean, math.nan)
    return Evidence(mean, error, none, none, method, num_samples, warning=warning)


def gap_between(lower: Estimate[Tensor], upper: Estimate[Tensor]) -> Estimate[float]:
    """Return the mean over the examples of upper minus lower bound, in nats."""
    gaps = (upper.mean - lower.mean).double()
    count = len(gaps)
    if count > 1:
        return Estimate(float(gaps.mean()), float(gaps.std()) / count**0.5, count)
    error = float(torch.hypot(lower.standard_error, upper.standard_error).double())
    return Estimate(float(gaps.mean()), error, count)


E = TypeVar("E", bound=Evidence)


def joined(parts: list[E]) -> E:
    """Return the evidence of all examples, from that of some at a time."""
    return replace(
        parts[0],
        **{name: torch.cat([getattr(part, name) for part in parts]) for name in parts[0].columns},
        num_samples=max(part.num_samples for part in parts),
        warning="\n".join(dict.fromkeys(part.warning for part in parts if part.warning)),
    )


def cast(evidence: Evidence, dtype: torch.dtype, device: torch.device, source: Source) -> Evidence:
    """Return the same numbers in `dtype` on `device`, with the examples' `source`."""
    columns = {name: getattr(evidence, name).to(device, dtype) for name in evidence.columns}
    return replace(evidence, **columns, source=source)
