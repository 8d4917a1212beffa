import math

import pytest
import torch

from ppl_vae import Estimate
from ppl_vae.diagnostics.comparison.replicates import bias_z_score, mean_of
from ppl_vae.diagnostics.estimate import plus_minus
from ppl_vae.diagnostics.memory import peak_bytes


@pytest.mark.parametrize(
    ("mean", "error", "text"),
    [
        (-1.79421, 0.00213, "-1.7942 ± 0.0021"),
        (128.4, 44.1, "128 ± 44"),
        (0.0, 0.0, "0"),
        (-12.0492, 0.0, "-12.0492"),
        (3e9, 1e7, "3e+09 ± 1e+07"),
        (math.nan, 1.0, "nan ± 1"),
    ],
)
def test_text_has_two_digits_of_the_error(mean, error, text):
    assert plus_minus(mean, error) == text


def test_z_scores():
    assert Estimate(1.0, 0.5, 10).z_score(0.0) == 2.0
    assert Estimate(1.0, 0.0, 10).z_score(1.0) == 0.0
    assert Estimate(1.0, 0.0, 10).z_score(2.0) == -math.inf
    batch = Estimate(torch.tensor([1.0, 1.0]), torch.tensor([0.5, 0.0]), 10)
    assert batch.z_score(torch.tensor([0.0, 1.0])).tolist() == [2.0, 0.0]
    assert "shape (2,)" in str(batch)
    assert math.isnan(Estimate(math.nan, 0.1, 10).z_score(1.0))
    failed = Estimate(torch.tensor([math.nan]), torch.tensor([0.1]), 10)
    assert bool(failed.z_score(torch.tensor([0.0])).isnan().all())


def test_mean_has_the_textbook_standard_error():
    estimate = mean_of(torch.tensor([1.0, 2.0, 3.0, 4.0]))
    assert estimate.mean == 2.5
    assert estimate.standard_error == pytest.approx(math.sqrt(5 / 3 / 4), rel=1e-15)


def test_bias_z_scores_have_their_distribution():
    """Without bias the two-sided p-values are uniform; with one they are tiny."""
    count = 400
    z = torch.tensor([bias_z_score(torch.randn(100, 3), torch.zeros(3)) for _ in range(count)])
    p = torch.special.erfc(z / math.sqrt(2))
    for level in (0.05, 0.25, 0.5, 0.75):
        share = (p < level).double().mean().item()
        assert abs(share - level) < 4.5 * math.sqrt(level * (1 - level) / count)
    shifted = torch.randn(100, 3) + torch.tensor([0.0, 0.8, 0.0])
    assert bias_z_score(shifted, torch.zeros(3)) > 4.5


def test_columns_without_noise_are_compared_with_rounding():
    rounding = torch.tensor([1e-6])
    assert bias_z_score(torch.full((10, 1), 1e-7), rounding) == 0.0
    assert bias_z_score(torch.full((10, 1), 1e-5), rounding) == math.inf


def test_peak_bytes_counts_forward_and_backward():
    weight = torch.randn(100, 100, dtype=torch.float64, requires_grad=True)
    x = torch.randn(50, 100, dtype=torch.float64)
    # relu's output (40 kB) lives until its backward; then the gradients of its input (40 kB) and
    # of the weight (80 kB).
    found = peak_bytes(lambda: (x @ weight).relu().sum().backward())
    assert 120_000 <= found <= 120_100
    assert peak_bytes(lambda: None) == 0
