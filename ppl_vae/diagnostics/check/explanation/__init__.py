"""Which formula an objective follows, of those that people write."""

from ppl_vae.diagnostics.check.explanation.number_search import by_search
from ppl_vae.diagnostics.check.explanation.selection import Explanation, constant_is_off, explain

__all__ = ["Explanation", "by_search", "constant_is_off", "explain"]
