"""What one check compares, and how."""

from __future__ import annotations

from dataclasses import dataclass

from ppl_vae.batch import Data
from ppl_vae.diagnostics.check.objective import Objective
from ppl_vae.diagnostics.check.settings.settings import Settings
from ppl_vae.diagnostics.check.truth import Truth
from ppl_vae.pair import Pair


@dataclass(frozen=True)
class Task:
    """An objective and the right terms, and where and how they are compared.

    Attributes:
        pair: the pair, whose state `as_found` keeps.
        objective: what is checked.
        truth: the right terms.
        settings: where both are evaluated.
        x: the data.
        seed: of all noise.
        budget: the most replicates at each setting.
        ignore_constants: whether constants may be left out.
    """

    pair: Pair
    objective: Objective
    truth: Truth
    settings: Settings
    x: Data
    seed: int
    budget: int
    ignore_constants: bool
