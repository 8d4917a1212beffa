"""Right and wrong ELBOs as people write them, with what a check must say of each.

`WRONG` and `RIGHT` list them; `PAIRS` says for which pairs they are written.
"""

from objective_bank.entry import PAIRS, Entry
from objective_bank.right import RIGHT as RIGHT_FORMULAS
from objective_bank.right_draws import RIGHT_DRAWS
from objective_bank.wrong_deep import WRONG_DEEP
from objective_bank.wrong_draws import WRONG_DRAWS
from objective_bank.wrong_formulas import WRONG_FORMULAS
from objective_bank.wrong_gradients import WRONG_GRADIENTS
from objective_bank.wrong_normal import WRONG_NORMAL
from objective_bank.wrong_terms import WRONG_TERMS

WRONG = [*WRONG_TERMS, *WRONG_DRAWS, *WRONG_NORMAL, *WRONG_GRADIENTS, *WRONG_DEEP]
WRONG += WRONG_FORMULAS
RIGHT = [*RIGHT_FORMULAS, *RIGHT_DRAWS]

__all__ = ["PAIRS", "RIGHT", "WRONG", "Entry"]
