import math

import numpy as np
import pytest
from scipy import stats

from ppl_vae.plots import means_with_intervals
from ppl_vae.sweeping.summary import Summary, t_interval


def rows(values, *, seeds=(0, 1, 2), **settings):
    """A job a seed: its settings, and its row."""
    for seed, value in zip(seeds, values, strict=True):
        row = {"seed": seed, "status": "done", "log_evidence": value, "seconds": 1.0}
        yield settings, row | ({"status": "failed", "error": "E: no"} if value is None else {})


def summary(*parts):
    settings, found = zip(*[each for part in parts for each in part], strict=True)
    return Summary(settings, found)


def test_intervals_are_student_t():
    values = np.random.default_rng(0).normal(size=5)
    mean, half = t_interval(values)
    low, high = stats.t.interval(0.95, 4, np.mean(values), stats.sem(values))
    assert (mean - half, mean + half) == pytest.approx((low, high), rel=1e-12)
    assert math.isnan(t_interval([2.0])[1])


def test_settings_that_differ_are_rows_and_the_best_is_named():
    found = summary(
        rows([-30.0, -31.0, -32.0], elbo="trace", latent_dim=2, epochs=5),
        rows([-29.5, -31.5, -31.8], elbo="iwae", latent_dim=2, epochs=5),
        rows([-20.0, -21.0, -22.0], elbo="trace", latent_dim=5, epochs=5),
        rows([-20.1, -20.9, -22.1], elbo="iwae", latent_dim=5, epochs=5),
        rows([None, None, -40.0], elbo="exact", latent_dim=5, epochs=5),
    )
    table = found.to_dataframe()
    assert found.varied == ["elbo", "latent_dim"]
    assert table["log_evidence"].tolist() == pytest.approx([-31, -92.8 / 3, -21, -63.1 / 3, -40])
    assert table["seeds"].tolist() == [3, 3, 3, 3, 1]
    assert table["failed"].tolist() == [0, 0, 0, 0, 2]
    half = stats.t.ppf(0.975, 2) / math.sqrt(3)
    assert table["log_evidence_low"][0] == pytest.approx(-31 - half, rel=1e-12)
    # The difference of 10 has no spread at all, that of 0.03 an interval around 0.
    assert found.conclusions == [
        "trace, latent_dim 5 has the greatest mean log p(x): -21.0 (-23.5 to -18.5) nats an "
        "example, 3 seeds.",
        "Not told from it by 95% intervals of the differences, seed by seed: "
        "iwae, latent_dim 5; exact, latent_dim 5.",
        "2 of 15 jobs failed.",
    ]


def test_settings_are_compared_on_the_same_data():
    found = summary(
        rows([-90.0, -91.0, -92.0], data="digits", elbo="trace"),
        rows([-80.0, -81.0, -82.0], data="digits", elbo="iwae"),
        rows([-9.0, -9.1, -9.2], data="mnist", elbo="trace"),
        rows([-9.1, -9.0, -9.2], data="mnist", elbo="iwae"),
    )
    assert found.conclusions == [
        "On digits: digits, iwae has the greatest mean log p(x): -81.0 (-83.5 to -78.5) nats an "
        "example, 3 seeds.",
        "On mnist: mnist, trace has the greatest mean log p(x): -9.10 (-9.35 to -8.85) nats an "
        "example, 3 seeds.",
        "On mnist: Not told from it by 95% intervals of the differences, seed by seed: "
        "mnist, iwae.",
    ]


def test_a_job_that_diverged_is_in_the_mean():
    found = summary(
        rows([-30.0, -31.0, -32.0], elbo="trace"),
        rows([-10.0, -math.inf, -10.0], elbo="iwae"),
        rows(["-20.0", "nan", "-20.0"], elbo="exact"),  # as a file has them
    )
    table = found.to_dataframe()
    assert table["log_evidence"].tolist()[:2] == [-31, -math.inf]
    assert math.isnan(table["log_evidence"][2])
    assert found.conclusions[0].startswith("trace has the greatest mean log p(x)")


def test_settings_without_a_value_are_in_the_picture():
    found = summary(rows([-3.0] * 3, pair="a"), rows([-2.0] * 3, pair="a", latent_dim=2))
    names = [text.get_text() for text in found.plot().get_xticklabels()]
    assert names == ["default", "2"]


def test_a_picture_is_over_the_numbers(tmp_path):
    found = summary(
        rows([-30.0, -31.0, -32.0], elbo="trace", latent_dim=40),
        rows([-20.0, -21.0, -22.0], elbo="trace", latent_dim=2),
        rows([-25.0, -25.0, -25.0], elbo="iwae", latent_dim=2),
    )
    ax = found.plot()
    assert ax.get_xlabel() == "latent dim"
    assert ax.get_legend_handles_labels()[1] == ["trace", "iwae"]
    assert ax.get_lines()[0].get_xydata().tolist() == [[2, -21], [40, -31]]
    shown = found.save(tmp_path)
    assert shown["tables"][0]["rows"][2] == ["iwae", "2", "3", "0", "-25", "1.0"]
    assert (tmp_path / "summary.csv").exists()
    assert (tmp_path / "sweep.png").stat().st_size < 200_000


def test_a_sweep_without_a_finished_job_says_so(tmp_path):
    found = summary(rows([None, None, None], pair="a"))
    assert found.conclusions == ["No job was finished."]
    assert found.save(tmp_path)["tables"][1]["rows"] == [["E: no", "3"]]
    assert not (tmp_path / "sweep.png").exists()


def test_curves_over_names_stand_beside_each_other():
    points = (["a", "b"], [1.0, 2.0], [0.5, math.nan], [2.0, math.nan])
    ax = means_with_intervals({"one": points, "two": points})
    first, second = (line.get_xdata() for line in ax.get_lines()[::3])
    assert first.tolist() == [-0.125, 0.875]
    assert second.tolist() == [0.125, 1.125]
    assert [text.get_text() for text in ax.get_xticklabels()] == ["a", "b"]


def test_curves_that_cannot_be_drawn_are_refused():
    with pytest.raises(ValueError, match="^expected at least one curve; got none. Finish a job"):
        means_with_intervals({})
    with pytest.raises(
        ValueError, match=r"of one shape \(points,\) in curve 'a'; got shapes \(2,"
    ):
        means_with_intervals({"a": ([1, 2], [1.0], [1.0], [1.0])})
    with pytest.raises(TypeError, match="expected curve 'a' as an array of numbers"):
        means_with_intervals({"a": ([1], ["x"], [1.0], [1.0])})
