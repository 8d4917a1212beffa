"""What a training run recorded."""

from __future__ import annotations

from dataclasses import asdict, dataclass, field
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import pandas as pd


@dataclass
class History:
    """The ELBO per example, one number an epoch, in nats.

    Attributes:
        train_elbo: mean over the epoch's batches, each before its update.
        test_elbo: over the validation data after the epoch; empty if there were none.
        seconds: what the epoch took, the evaluation not counted.
        auxiliary: the pair's auxiliary loss per example, as `test_elbo` (or of the training data);
            empty for a pair without one. It is no part of the ELBO.
    """

    train_elbo: list[float] = field(default_factory=list)
    test_elbo: list[float] = field(default_factory=list)
    seconds: list[float] = field(default_factory=list)
    auxiliary: list[float] = field(default_factory=list)

    def __len__(self) -> int:
        return len(self.train_elbo)

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
        return {name: values for name, values in asdict(self).items() if values}
