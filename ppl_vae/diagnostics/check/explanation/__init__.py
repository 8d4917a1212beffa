"""Which formula an objective follows, of those that people write."""

from ppl_vae.diagnostics.check.explanation.number_search import by_search
from ppl_vae.diagnostics.check.explanation.selection import Explanation, explain

__all__ = ["Explanation", "by_search", "explain"]
