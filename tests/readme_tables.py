"""The tables of the README and the site, from the registries and what the experiments left."""

from pathlib import Path

import pandas as pd

from ppl_vae import ESTIMATORS, MODELS
from ppl_vae.likelihoods import LIKELIHOODS

ROOT = Path(__file__).parents[1]
RESULTS = ROOT / "experiments" / "results"
MEASURED = ["largest bias, z", "encoder variance", "decoder variance", "time"]


def _table(header, rows):
    lines = [header, ["---"] * len(header), *rows]
    return "\n".join(f"| {' | '.join(map(str, line))} |" for line in lines)


def pairs():
    rows = [
        [f"`{cls.__name__}`", f"`{name}`", cls.__doc__.splitlines()[0].replace("`", "")]
        for name, cls in MODELS.items()
    ]
    return _table(["class", "name", "what it is"], rows)


def likelihoods():
    rows = [
        [
            f"`{name}`",
            each.summary,
            ", ".join(f"`{head.name}`" for head in each.heads if not head.is_free),
            ", ".join(f"`{head.name}`" for head in each.heads if head.is_free) or "-",
        ]
        for name, each in LIKELIHOODS.items()
    ]
    return _table(["name", "data", "heads of each example", "free heads"], rows)


def estimators():
    measured = pd.read_csv(RESULTS / "estimator_claims" / "claims.csv", index_col="estimator")
    rows = [
        [
            f"`{name}`",
            f"`{entry.cls.__name__}`",
            entry.value,
            entry.gradient,
            entry.condition or "always",
            "; ".join(entry.needs) or "-",
            entry.source,
            *_measured(measured.loc[name]),
        ]
        for name, entry in ESTIMATORS.items()
    ]
    header = ["name", "class", "value", "gradient", "if", "needs", "source", *MEASURED]
    return _table(header, rows)


def _measured(row):
    biased = f"; biased on {row['biased on']}" if isinstance(row["biased on"], str) else ""
    numbers = [row["encoder variance"], row["decoder variance"], row["time"]]
    shown = ["-" if pd.isna(number) else f"{number:.2g}" for number in numbers]
    return [f"{row['largest |z|']:.1f}{biased}", *shown]


def mnist():
    table = pd.read_csv(RESULTS / "mnist_bernoulli_vae" / "losses.csv")
    rows = [[f"{v:.2f}" if isinstance(v, float) else v for v in r] for r in table.to_numpy()]
    return _table(["run", "epochs", "train loss (nats)", "test loss (nats)"], rows)


def toy():
    table = pd.read_csv(RESULTS / "exponential_toy" / "rates.csv")
    rows = [[r.rate, f"{r.r:.4f}", f"{100 * r.error:+.2f} %"] for r in table.itertuples()]
    return _table(["guide's rate", "r", "against r*"], rows)


def _csv(*path):
    """Return a table as a script left it."""
    table = pd.read_csv(RESULTS.joinpath(*path), dtype=str, keep_default_na=False)
    return _table(list(table.columns), table.to_numpy())


def speed():
    table = pd.read_csv(RESULTS / "speed" / "speed.csv")
    rows = [
        [r.system, r.way, *(f"{v:.3g}" for v in r[3:6]), *(f"{v:.2g}" for v in (r[6], *r[8:]))]
        for r in table.itertuples()
    ]
    return _table([c for c in table.columns if c != "ours over it"], rows)


TABLES = {
    "docs/start.md": {"pairs": pairs},
    "docs/reference.md": {"likelihoods": likelihoods},
    "docs/choosing_an_estimator.md": {"estimators": estimators},
    "docs/studies/mnist_bernoulli_vae.md": {"mnist": mnist},
    "docs/studies/exponential_toy.md": {"toy": toy},
    "docs/studies/linear_vae.md": {"linear": lambda: _csv("linear_vae", "maximum_likelihood.csv")},
    "docs/studies/conv_gaussian_vae.md": {"conv": lambda: _csv("conv_gaussian_vae", "scales.csv")},
    "docs/studies/hierarchical_vae.md": {
        "hierarchies": lambda: _csv("hierarchical_vae", "runs.csv"),
        "layers": lambda: _csv("hierarchical_vae", "layers.csv"),
    },
    "docs/studies/speed.md": {"speed": speed},
    "docs/studies/many_processes.md": {
        "scaling": lambda: _csv("many_processes", "scaling.csv"),
        "agreement": lambda: _csv("many_processes", "agreement.csv"),
        "all-reduce": lambda: _csv("many_processes", "all_reduce.csv"),
        "on-paper": lambda: _csv("many_processes", "on_paper.csv"),
    },
    "docs/studies/measuring.md": {"measuring": lambda: _csv("measuring", "measuring.csv")},
    "docs/studies/burda_table.md": {"burda": lambda: _csv("burda_table", "table.csv")},
    "docs/studies/missing.md": {"missing": lambda: _csv("missing", "missing.csv")},
    "docs/studies/counts.md": {"counts": lambda: _csv("counts", "likelihoods.csv")},
}


def filled(text, tables):
    """Return a page with every table between its marks made anew."""
    for name, make in tables.items():
        begin, end = f"<!-- {name} -->\n", "<!-- end -->"
        head, _, rest = text.partition(begin)
        assert rest, f"no mark for the table {name}"
        text = f"{head}{begin}{make()}\n{end}{rest.partition(end)[2]}"
    return text


if __name__ == "__main__":
    for path, tables in TABLES.items():
        page = ROOT / path
        page.write_text(filled(page.read_text(), tables))
