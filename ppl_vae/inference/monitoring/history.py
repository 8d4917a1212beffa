"""What a training run recorded."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from math import nan
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import pandas as pd


@dataclass
class History:
    """The ELBO per example, one number an epoch, in nats.

    Attributes:
        train_elbo: mean over the epoch's batches, each before its update. It is the ELBO, whatever
            weights the objective has.
        objective: what was maximised, likewise; the ELBO itself without weights and free bits.
        test_elbo: over the validation data after the epoch; empty if there were none.
        seconds: what the epoch took, the evaluation not counted.
        auxiliary: the pair's auxiliary loss per example, as `test_elbo` (or of the training data);
            empty for a pair without one. It is no part of the ELBO.
        columns: further numbers, by name: ``learning_rate``, ``kl_weight`` of the last step (or
            ``kl_weight.<site>``), ``skipped`` steps; and after the epoch, of the first 1,000
            examples of the validation data, or else of the training data, ``log_likelihood`` and
            ``kl.<site>`` per example, and the number of ``active_units``. These last are measured
            after each of the first 100 epochs, every tenth until 1,000 and every hundredth from
            then on, else NaN.
        best_epoch: the epoch of the best validation ELBO, where it was looked for.
        stopped_early: whether training ended before the last epoch.
    """

    train_elbo: list[float] = field(default_factory=list)
    test_elbo: list[float] = field(default_factory=list)
    seconds: list[float] = field(default_factory=list)
    auxiliary: list[float] = field(default_factory=list)
    objective: list[float] = field(default_factory=list)
    columns: dict[str, list[float]] = field(default_factory=dict)
    best_epoch: int | None = None
    stopped_early: bool = False

    def __post_init__(self) -> None:
        # A run of an older version has no objective but the ELBO.
        self.objective = self.objective or list(self.train_elbo)

    def __len__(self) -> int:
        return len(self.train_elbo)

    def add(self, numbers: Mapping[str, float]) -> None:
        """Add numbers of the last epoch to the columns."""
        before = len(self) - 1
        for name in numbers:
            self.columns.setdefault(name, [nan] * before)
        for name, column in self.columns.items():
            column.append(float(numbers.get(name, nan)))

    def last(self) -> dict[str, float]:
        """Return the last epoch's numbers by name."""
        return {name: values[-1] for name, values in self._columns().items()}

    def to_dataframe(self) -> pd.DataFrame:
        """Return a table with one row an epoch, counted from 1."""
        import pandas as pd

        table = pd.DataFrame(self._columns())
        table.index = pd.RangeIndex(1, len(self) + 1, name="epoch")
        return table

    def to_csv(self) -> str:
        """Return that table as CSV, in which numbers lose no digit."""
        columns = self._columns()
        rows = zip(*columns.values(), strict=True)
        lines = [["epoch", *columns], *([epoch, *row] for epoch, row in enumerate(rows, 1))]
        return "".join(",".join(map(str, line)) + "\n" for line in lines)

    def _columns(self) -> dict[str, list[float]]:
        names = ("objective", "train_elbo", "test_elbo", "seconds", "auxiliary")
        found = {name: getattr(self, name) for name in names if getattr(self, name)}
        return {**found, **self.columns}
