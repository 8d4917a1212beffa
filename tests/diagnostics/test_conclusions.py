"""What a comparison says, of planted rows whose answers are known."""

import math

import pytest

from ppl_vae.diagnostics.comparison.row import Row
from ppl_vae.diagnostics.comparison.verdict.sentences import conclusions, least_work, listed
from ppl_vae.diagnostics.comparison.verdict.work import Work, comparable, relative_work
from ppl_vae.diagnostics.estimate import Estimate


def row(name, variance, *, spread=0.0, ms=1.0, quartiles=None, **changes):
    """A row whose blocks of the encoder's variance lie around `variance` by +- `spread`."""
    blocks = {
        "encoder": [variance * (1 + spread * sign) for sign in (1, -1) * 10],
        "decoder": [2.0, 2.1] * 10,
    }
    blocks["overall"] = [sum(each) for each in zip(*blocks.values(), strict=True)]
    kept = {"bound": "elbo", "claim": "unbiased", "condition": "", "num_particles": 1}
    kept |= {"bias_z_score": 0.1, "gradient_bias_z_score": 0.2, "reference": "closed form"}
    kept |= {"bias": Estimate(0.1, 1.0, 20)}
    return Row(
        name=name,
        value=Estimate(-1.0, 0.1, 20),
        value_variance=Estimate(1.0, 0.1, 20),
        gradient_variance={g: Estimate(sum(b) / len(b), 0.1, 20) for g, b in blocks.items()},
        signal_to_noise=dict.fromkeys(blocks, 1.0),
        closed_form_gradient_variance={},
        milliseconds=ms,
        quartiles=quartiles or (ms, ms),
        peak_bytes=1,
        block_variances=blocks,
        **{**kept, **changes},
    )


def encoder(rows):
    return conclusions(rows)[0]


def test_a_clear_winner_is_named_with_its_interval():
    rows = [row("trace", 8.2), row("dreg", 2.0), row("iwae", 4.0)]
    assert encoder(rows) == (
        "dreg has the least gradient variance x time for the encoder, 4.1 times less than trace "
        "(95% interval 4.1 to 4.1)."
    )


def test_time_counts_as_much_as_variance():
    rows = [row("trace", 2.0, ms=8.0), row("dreg", 4.0)]
    assert "dreg has the least" in encoder(rows)
    assert "4 times less than trace" in encoder(rows)


def test_what_lies_within_the_interval_is_no_difference():
    rows = [row("trace", 2.2, spread=0.9), row("dreg", 2.0)]
    assert encoder(rows) == (
        "dreg has the least gradient variance x time for the encoder, with no difference beyond "
        "the intervals from trace."
    )


def test_noise_in_common_cancels():
    """Each block of one is 1.1 times the other's: the ratio is known, whatever the spread."""
    rows = [row("trace", 2.2, spread=0.9), row("dreg", 2.0, spread=0.9)]
    assert "1.1 times less than trace (95% interval 1.1 to 1.1)" in encoder(rows)


def test_a_time_that_varies_widens_the_interval():
    rows = [row("trace", 4.0, quartiles=(0.5, 2.0)), row("dreg", 2.0)]
    assert "no difference beyond the intervals from trace" in encoder(rows)


def test_near_and_far_are_kept_apart():
    rows = [row("trace", 8.0), row("iwae", 2.1, spread=0.9), row("dreg", 2.0)]
    assert encoder(rows).endswith("from iwae; trace has 4 times as much (95% interval 4 to 4).")


def test_the_interval_of_a_ratio_is_that_of_the_t_distribution():
    rows = [row("trace", 4.0, spread=0.2), row("dreg", 2.0)]
    _, found = relative_work(rows, "encoder")
    deviation = 0.2 * math.sqrt(20 / 19)
    half = 2.093024 * deviation / math.sqrt(20)  # Student's t with 19 degrees of freedom
    assert found.low == pytest.approx(2 * math.exp(-half), rel=1e-6)
    assert found.high == pytest.approx(2 * math.exp(half), rel=1e-6)


def test_more_comparisons_make_wider_intervals():
    def upper(count):
        rows = [row("dreg", 2.0), *(row(f"a{i}", 4.0 + i, spread=0.2) for i in range(count))]
        return relative_work(rows, "encoder")[1].high

    assert upper(1) < upper(2) < upper(10)


@pytest.mark.parametrize(
    "changes",
    [
        {"bias_z_score": 5.0},
        {"gradient_bias_z_score": 6.0},
        {"claim": "unbiased, with a gradient that is biased"},
        {"claim": "", "bias_z_score": None},
    ],
)
def test_what_is_biased_or_unknown_wins_nothing(changes):
    rows = [row("trace", 8.0), row("iwae", 4.0), row("cheat", 0.1, **changes)]
    assert "iwae has the least" in encoder(rows)
    assert "cheat" not in encoder(rows)


def test_another_bound_is_another_quantity():
    wide = {"bound": "importance-weighted", "num_particles": 5}
    rows = [row("trace", 8.0), row("dreg", 2.0), row("iwae", 1.0, **wide), row("v", 0.5, **wide)]
    assert [[r.name for r in family] for family in comparable(rows)] == [
        ["trace", "dreg"],
        ["iwae", "v"],
    ]
    text = " ".join(conclusions(rows))
    assert "dreg has the least gradient variance x time of the ELBO for the encoder, 4" in text
    assert "of the importance-weighted bound of 5 particles for the encoder, 2 times" in text


def test_why_one_is_unbiased_here():
    condition = {"condition": "no parent descends from it", "analytic_sites": ("z",)}
    rows = [row("trace", 8.0), row("trace-mean-field", 4.0, **condition)]
    assert conclusions(rows)[-1] == (
        "trace-mean-field should have no bias here, and none was seen: it takes the KL of 'z' in "
        "closed form, which is valid at these sites. In general it needs that no parent descends "
        "from it."
    )
    rows = [row("trace-mean-field", 4.0, **condition, invalid_sites={"z": "its parent"})]
    assert not any("should have no bias" in line for line in conclusions(rows))


def test_without_noise_there_is_no_work_to_compare():
    rows = [row("trace", 8.0), row("exact", 0.0, claim="exact")]
    for group in rows[1].gradient_variance:
        rows[1].gradient_variance[group] = Estimate(0.0, 0.0, 20)
    assert conclusions(rows) == ["exact gave the same gradient every time: no variance."]


def test_one_estimator_is_the_least_of_nothing():
    assert least_work([Work("trace", "overall", 1.0, 1.0, 1.0)]) == ""
    assert conclusions([row("trace", 2.0)]) == []
    assert listed(["a", "b", "c"]) == "a, b and c"
