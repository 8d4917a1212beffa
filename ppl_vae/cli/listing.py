"""The names that the command line knows, as tables."""

from __future__ import annotations

from rich.console import Console
from rich.table import Table

from ppl_vae.data import DATASETS
from ppl_vae.elbos import ESTIMATORS
from ppl_vae.models import MODELS


def print_names(console: Console) -> None:
    """Print pairs, estimators with their claims, and data sets."""
    pairs = Table("pair", "class", "what it is")
    for name, cls in MODELS.items():
        pairs.add_row(name, cls.__name__, (cls.__doc__ or "").splitlines()[0])
    claims = Table("estimator", "class", "value", "gradient", "unbiased if", "needs")
    for name, entry in ESTIMATORS.items():
        condition = entry.condition or "always"
        needs = "; ".join(entry.needs) or "-"
        claims.add_row(name, entry.cls.__name__, entry.value, entry.gradient, condition, needs)
    sets = Table("data set", "what it is")
    for name, dataset in DATASETS.items():
        sets.add_row(name, dataset.description)
    for table in (pairs, claims, sets):
        console.print(table)
