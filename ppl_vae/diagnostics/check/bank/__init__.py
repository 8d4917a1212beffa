"""Right and wrong ELBOs as people write them, with what a check must say of each.

`WRONG` and `RIGHT` list them; `PAIRS` says for which pairs they are written.
"""

from ppl_vae.diagnostics.check.bank.entry import PAIRS, Entry
from ppl_vae.diagnostics.check.bank.right import RIGHT as RIGHT_FORMULAS
from ppl_vae.diagnostics.check.bank.right_draws import RIGHT_DRAWS
from ppl_vae.diagnostics.check.bank.wrong_deep import WRONG_DEEP
from ppl_vae.diagnostics.check.bank.wrong_draws import WRONG_DRAWS
from ppl_vae.diagnostics.check.bank.wrong_formulas import WRONG_FORMULAS
from ppl_vae.diagnostics.check.bank.wrong_gradients import WRONG_GRADIENTS
from ppl_vae.diagnostics.check.bank.wrong_normal import WRONG_NORMAL
from ppl_vae.diagnostics.check.bank.wrong_terms import WRONG_TERMS

WRONG = [*WRONG_TERMS, *WRONG_DRAWS, *WRONG_NORMAL, *WRONG_GRADIENTS, *WRONG_DEEP]
WRONG += WRONG_FORMULAS
RIGHT = [*RIGHT_FORMULAS, *RIGHT_DRAWS]

__all__ = ["PAIRS", "RIGHT", "WRONG", "Entry"]
