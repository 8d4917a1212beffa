"""What an objective does when it is called again, as a hint where no formula explains it."""

from __future__ import annotations

import torch
from torch import Tensor

from ppl_vae.batch import Data
from ppl_vae.diagnostics.check.objective import start_streams
from ppl_vae.diagnostics.check.settings import Task, Visit

CHANGED = 1e-4


class RepeatedCalls:
    """Calls the objective again where it was first called, at the same random numbers.

    Args:
        task: what is compared.
        visits: the settings visited, with the values there.
        stream: the seed that the first call started from.
    """

    def __init__(self, task: Task, visits: list[Visit], stream: int) -> None:
        self._task, self._visits, self._stream = task, visits, stream

    @property
    def repeats(self) -> bool:
        """Whether it returned the same value each time, at every setting."""
        return all(len(set(torch.stack(v.values).tolist())) == 1 for v in self._visits)

    @property
    def changes(self) -> bool:
        """Whether it returns another value now than in the first call."""
        first = self._visits[0]
        with self._task.settings.at(first.setting) as x:
            gap = float(self._called(x).double() - first.values[0])
        return abs(gap) > CHANGED * abs(float(first.values[0]))

    @property
    def ignores_data(self) -> bool:
        """Whether it returns the same value where all data are 0."""
        with self._task.settings.at(self._visits[0].setting) as x:
            tensors = [x] if isinstance(x, Tensor) else x.tensors
            if not any(bool(t.any()) for t in tensors):
                return False
            blank = torch.zeros_like(x) if isinstance(x, Tensor) else x.map(torch.zeros_like)
            try:
                return torch.equal(self._called(x), self._called(blank))
            except Exception:
                return False  # it refuses such data, so it reads them

    def _called(self, x: Data) -> Tensor:
        start_streams(self._stream, x.device)
        return self._task.objective(x).detach()
