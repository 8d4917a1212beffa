"""Formulas with one column in place of right terms, as a table."""

from __future__ import annotations

import re
from collections.abc import Iterator

from ppl_vae.diagnostics.check.explanation.candidate import RIGHT, Candidate
from ppl_vae.diagnostics.check.statistics import Regression

_FREE_BITS = "is kept above {} nats (free bits): a looser bound."
_EACH = "each latent dimension's"
_WRONG_SIGN = "entropy has the wrong sign where sum(log_scale)"
_INVALID = (
    "a KL is taken in closed form though its parents in the model were drawn from that very "
    "latent: sample it."
)
_BOUND = "this is the importance-weighted bound with {} particles over"
_RENYI = "this is the Rényi bound with alpha = {} and {} particles, not the ELBO."
_ANOTHER = "another bound than the ELBO."
# The role that a column takes (`KL` for `P` and `H`, `all` for all three), what a finding costs,
# the names of such columns as a regular expression, and the message with this one's groups.
ROWS = [
    ("KL", 6.0, "minus reversed KL", "the KL is KL(p || q): its arguments are swapped."),
    ("KL", 6.0, "minus absolute KL", "the KL enters by its absolute value."),
    ("KL", 6.0, "minus squared KL", "the KL enters squared."),
    ("KL", 7.0, "batch free bits (.*)", f"{_EACH} mean KL over the batch {_FREE_BITS}"),
    ("KL", 7.0, "floor (.*)", f"each example's KL {_FREE_BITS}"),
    ("KL", 7.0, "free bits (.*)", f"{_EACH} KL {_FREE_BITS}"),
    ("H", 5.0, "H by abs", f"{_WRONG_SIGN} < 0: an absolute value?"),
    ("H", 5.0, "H by minus abs", f"{_WRONG_SIGN} > 0: an absolute value?"),
    ("KL", 6.0, "KL=(.*)", "{}."),
    ("KL", 6.0, "KLs=(.*)", "{}."),
    ("P", 6.0, "standard (.*)", "the prior of {} is taken as the standard Normal."),
    ("KL", 4.0, "closed where invalid", _INVALID),
    ("all", 4.0, r"IWAE (\d+)", f"{_BOUND} each example: {_ANOTHER}"),
    ("all", 4.0, r"IWAE of the batch (\d+)", f"{_BOUND} the whole batch: {_ANOTHER}"),
    ("all", 6.0, r"Renyi (\S+) (\d+)", _RENYI),
    ("all", 6.0, "bound=(.*)", "this is a bound of several particles: {}."),
]
TERMS = {"P": "log_prior", "H": "entropy", "KL": "kl", "all": "objective"}
# Columns that are made here: sums of others, with their weights.
SUMS = {
    "minus reversed KL": {"reversed KL": 1.0},
    "minus absolute KL": {"|KL|": -1.0},
    "minus squared KL": {"KL^2": -1.0},
    "H by abs": {"H": 1.0, "sum(log scale)": -1.0, "|sum(log scale)|": 1.0},
    "H by minus abs": {"H": 1.0, "sum(log scale)": -1.0, "|sum(log scale)|": -1.0},
}


def wrong_terms(table: Regression, columns: set[str], noise: list[str]) -> Iterator[Candidate]:
    """Yield formulas with one column in place of right terms."""
    for role, cost, pattern, message in ROWS:
        others = {"KL": {"L": "L"}, "all": {}}.get(role, RIGHT)
        kind = "bound" if role == "all" else "formula"
        # What is drawn has its noise in itself.
        own_noise = [] if role == "all" or pattern.startswith("KLs=") else noise
        names = sorted(columns.difference(SUMS))
        if pattern in SUMS:
            names = [table.add(pattern, SUMS[pattern])] if SUMS[pattern].keys() <= columns else []
        for name in names:
            if match := re.fullmatch(pattern, name):
                text = message.format(*match.groups())
                roles = others | {role: name}
                yield Candidate(kind, TERMS[role], text, roles, own_noise, cost=cost)
