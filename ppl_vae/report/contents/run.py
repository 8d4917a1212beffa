"""A training run, an evaluation, or both, as sections."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

import pandas as pd

from ppl_vae.report.blocks import Cell, Facts, Section, Sentences, Table
from ppl_vae.report.captions import IMAGES, LATENTS
from ppl_vae.report.charts import line_chart
from ppl_vae.report.contents.comparison import printed_tables
from ppl_vae.report.contents.making import texts
from ppl_vae.report.folders import Results
from ppl_vae.report.tables import numbers, per_example, short_or_summary, whole

_PROTOCOL = {
    "estimator": "estimator",
    "num_samples": "samples an example",
    "data": "data",
    "split": "split",
    "binarize": "binarisation",
    "num_examples": "examples",
    "nll_monte_carlo_error": "Monte Carlo error (nats)",
}


@dataclass
class Run:
    """What is known of a run, also to set it beside others.

    Attributes:
        name: of its folder.
        config: what ``config.json`` holds.
        evaluation: what ``evaluation.json`` holds.
        metrics: a row an epoch, or None.
        examples: a row an example, or None.
    """

    name: str
    config: dict[str, Any] = field(default_factory=dict)
    evaluation: dict[str, Any] = field(default_factory=dict)
    metrics: pd.DataFrame | None = None
    examples: pd.DataFrame | None = None

    @property
    def pair(self) -> str:
        """The pair's class."""
        described = self.config.get("pair")
        named = described.get("class") if isinstance(described, dict) else None
        return str(named or self.evaluation.get("pair") or "").rpartition(":")[2]

    @property
    def data(self) -> str:
        """The data set, as the training or else the evaluation names it."""
        text = str(self.config.get("data") or self.evaluation.get("data") or "")
        inside = text.partition("(")[2]
        return inside.partition(",")[0] if inside else text

    @property
    def title(self) -> str:
        """The pair and its data."""
        return " on ".join(part for part in (self.pair, self.data) if part) or self.name

    @property
    def lead(self) -> str:
        """What was run on what."""
        parts = []
        if self.config:
            get = self.config.get
            parts.append(
                f"{self.pair or 'A pair'} was trained on {get('data', 'data not named')} by "
                f"{get('elbo', 'an estimator not named')} for {get('num_epochs', '?')} epochs, "
                f"with batches of {get('batch_size', '?')} and the seed {get('seed', '?')}."
            )
        if self.evaluation:
            get = self.evaluation.get
            parts.append(
                f"It was evaluated on {get('num_examples')} examples of {get('data')}, split "
                f"{get('split')}, by {get('estimator')}."
            )
        return " ".join(parts)

    @property
    def conclusions(self) -> list[str]:
        """What the evaluation says, and where the training ended."""
        found = texts(self.evaluation, "conclusions")
        for which in ("test", "train"):
            elbo = self.elbo(which)
            if len(elbo):
                best = elbo.idxmax()
                at = "the last" if best == elbo.index[-1] else f"epoch {best}"
                ended = f"ended at {elbo.iloc[-1]:.6g} nats an example after {elbo.index[-1]}"
                found.append(
                    f"The ELBO ({which}) {ended} epochs; its best was {elbo.max():.6g}, at {at}."
                )
                break
        return found

    def elbo(self, which: str) -> pd.Series:
        """Return the ELBO by epoch, of ``train`` or ``test``, without what is no number."""
        table = self.metrics
        if table is None or f"{which}_elbo" not in table:
            return pd.Series(dtype=float)
        values = numbers(table, f"{which}_elbo")
        return values.set_axis(_epochs(table)).dropna()


def run_sections(results: Results) -> tuple[Run, list[Section]]:
    """Return what is known of a run, and its sections."""
    run = Run(
        results.name,
        results.object("config.json"),
        results.object("evaluation.json"),
        results.table("metrics.csv"),
    )
    examples = results.find("examples.csv")
    run.examples = None if examples is None else results.read(examples)
    averages = results.table("evaluation.csv")
    curve = _elbo_chart(run)
    if curve:
        results.drawn("elbo")  # the same as a picture
    key: list[object] = [*curve, *results.drawn("reconstructions")] or [
        *results.drawn("posterior")
    ]
    main: list[object] = list(printed_tables(run.evaluation, results))
    if not main and averages is not None:
        main.append(whole(averages, "Averages over the examples"))
    notes = [*texts(run.evaluation, "notes"), str(run.evaluation.get("warning") or "")]
    main += [Sentences(notes)] if any(notes) else []
    evidence: list[object] = []
    protocol = [
        (w, _shown(run.evaluation[k])) for k, w in _PROTOCOL.items() if k in run.evaluation
    ]
    evidence += [Facts(protocol)] if protocol else []
    if run.examples is not None and examples is not None:
        evidence += per_example(run.examples, results.link(examples))
    evidence += results.drawn("worst", "evidence_gap")
    sites = results.table("sites.csv")
    ledger = [] if sites is None else [whole(sites, "How the training treats each site")]
    return run, [
        Section("At a glance", key),
        Section("What was measured", main),
        Section("Training", _training(run, results)),
        Section("Evidence", evidence),
        Section("Sites", [*ledger]),
        Section("Aggregate posterior and active units", _aggregate(results)),
        Section("Calibration", _calibration(results)),
        Section("Images", [*results.drawn(*IMAGES)]),
        Section("Latent space", [*results.drawn(*LATENTS)]),
    ]


def _elbo_chart(run: Run) -> list[object]:
    curves = {which: run.elbo(which) for which in ("train", "test")}
    chart = line_chart(
        {name: (values.index, values) for name, values in curves.items() if len(values)},
        x_label="epoch",
        y_label="ELBO per example (nats)",
        caption="ELBO per example by epoch; dashed, of the test data",
    )
    return [chart] if chart else []


def _training(run: Run, results: Results) -> list[object]:
    table = run.metrics
    if table is None:
        return []
    recorded = table.drop(columns=["epoch"], errors="ignore").select_dtypes("number")
    found: list[object] = []
    parts = [n for n in recorded.columns if n == "log_likelihood" or n.startswith("kl.")]
    for name in parts:
        word = "log likelihood" if name == "log_likelihood" else f"KL of {name[3:]}"
        chart = line_chart(
            {word: (_epochs(table), recorded[name])},
            x_label="epoch",
            y_label=f"{word} per example (nats)",
            caption=f"{word} per example by epoch",
        )
        found += [chart] if chart else []
    rows = []
    for name in recorded.columns:
        values = recorded[name].dropna()
        if len(values):
            picked = (values.iloc[0], values.iloc[-1], values.min(), values.max())
            rows.append([Cell(name.replace("_", " ")), *(Cell.of(f"{v:.6g}") for v in picked)])
    header = ["quantity", "first epoch", "last", "least", "greatest"]
    caption = f"What was recorded in {len(table)} epochs"
    path = results.folder / "metrics.csv"
    found.append(Table(caption, header, rows, results.link(path) if path.exists() else ""))
    return found


def _aggregate(results: Results) -> list[object]:
    path = results.find("aggregate_posterior.csv")
    table = None if path is None else results.read(path)
    if path is None or table is None:
        return []
    return short_or_summary(table, "By latent dimension, in nats", results.link(path))


def _calibration(results: Results) -> list[object]:
    """Return whatever files of a calibration are there."""
    found: list[object] = []
    for path in results.rest(".json", "calibration"):
        results.files.append(path.relative_to(results.folder))
        content = results.object(path.name)
        lines = texts(content, "conclusions")
        found += [Sentences(lines, "verdict")] if lines else []
        found += printed_tables(content, results)
    for path in results.rest(".csv", "calibration"):
        table = results.read(path)
        if table is not None:
            words = path.stem.replace("_", " ")
            found += short_or_summary(table, words, results.link(path))
    for path in results.rest(".png", "calibration"):
        words = path.stem.replace("_", " ")
        alt = f"The picture {words}; its numbers are in the tables of this section."
        found += results.picture(path, words, alt)
    return found


def _epochs(table: pd.DataFrame) -> pd.Index:
    if "epoch" in table:
        return pd.Index(numbers(table, "epoch").fillna(0).astype(int))
    return pd.RangeIndex(1, len(table) + 1)


def _shown(value: object) -> str:
    return f"{value:.2g}" if isinstance(value, float) else str(value)
