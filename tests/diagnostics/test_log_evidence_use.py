"""What log_evidence prints, what it costs, and what it leaves alone."""

import math

import pyro
import pytest
import torch
from standard_errors import BOUND

from ppl_vae import BernoulliVAE, ExponentialNormal, ImageData, log_evidence
from ppl_vae.diagnostics.memory import peak_bytes


def test_blocks_do_not_change_the_numbers_and_keep_the_budget():
    pair = BernoulliVAE((1, 6, 6), latent_dim=2, hidden=(8,), seed=1)
    x = pair.sample(7, seed=0)
    large, other = (log_evidence(pair, x, max_bytes=n * 2**20) for n in (64, 2000))
    assert torch.equal(large.mean, other.mean)
    budget = 400_000
    peak = peak_bytes(lambda: log_evidence(pair, x, max_bytes=budget, num_samples=300))
    assert peak < 1.5 * budget + 7 * 300 * 8 * 8
    small = log_evidence(pair, x, max_bytes=budget)
    both = small.standard_error.hypot(large.standard_error)
    assert bool(((small.mean - large.mean).abs() < BOUND * both).all())
    with pytest.raises(ValueError, match="max_bytes for one sample of one example at least"):
        log_evidence(pair, x, max_bytes=100)


def test_seeds_and_state():
    pair = ExponentialNormal()
    x = torch.tensor([1.2, 0.7, 1.1])
    state = torch.get_rng_state()
    before = [p.detach().clone() for p in pair.parameters()]
    for method in ("iwae", "ais", "quadrature", "thermodynamic"):
        options = {"method": method, "num_temperatures": 5, "num_samples": 20}
        first, again, other = (log_evidence(pair, x, seed=s, **options) for s in (3, 3, 4))
        assert torch.equal(first.mean, again.mean)
        assert method == "quadrature" or not torch.equal(first.mean, other.mean)
    assert torch.equal(state, torch.get_rng_state())
    assert len(pyro.get_param_store()) == 0
    assert all(torch.equal(*both) for both in zip(before, pair.parameters(), strict=True))
    generator = torch.Generator().manual_seed(3)
    drawn = [log_evidence(pair, x, seed=generator, num_samples=20).mean for _ in range(2)]
    assert not torch.equal(*drawn)


def test_what_is_printed_names_everything():
    images = torch.randint(256, (12, 1, 3, 3), dtype=torch.uint8)
    data = ImageData(images, binarize="dynamic", name="squares", split="test")
    pair = BernoulliVAE((1, 3, 3), latent_dim=2, hidden=(5,), seed=1)
    found = log_evidence(pair, data, num_samples=500)
    text = str(found)
    low, high = found.interval
    for part in (
        "NLL",
        "iwae",
        "500 samples",
        "dynamic",
        "split test",
        "12 examples",
        "95% inter",
    ):
        assert part in text
    assert f"[{low:.6g}, {high:.6g}]" in text
    assert found.nll.mean == -found.average.mean == -found.mean.mean()
    assert found.average.standard_error == pytest.approx(found.mean.std().item() / 12**0.5)
    parts = math.hypot(found.spread_error, found.monte_carlo_error)
    assert parts == pytest.approx(found.average.standard_error)
    again = log_evidence(pair, data, num_samples=500)
    assert torch.equal(found.mean, again.mean)  # the same binarisation too
    tensor = log_evidence(pair, data.batch(slice(0, 12)), num_samples=10, split="validation")
    assert "split validation, binarisation as given" in str(tensor)
    assert list(found.to_dataframe()) == [
        "mean",
        "standard_error",
        "effective_sample_size",
        "pareto_k",
    ]


def test_one_example_has_its_own_error_only():
    found = log_evidence(ExponentialNormal(), torch.tensor([1.2, 0.7]), num_samples=100)
    assert found.average.standard_error == pytest.approx(found.standard_error.item())
    assert found.spread_error == 0
    assert "1 example" in str(found)


def test_the_pair_is_evaluated_in_evaluation_mode_and_left_in_its_own():
    pair = BernoulliVAE((1, 3, 3), latent_dim=2, hidden=(8,), seed=1)
    pair.decoder.net.append(torch.nn.Dropout(0.5))
    x = pair.sample(3, seed=0)
    noisy = log_evidence(pair, x, num_samples=50)
    assert pair.training
    assert torch.equal(noisy.mean, log_evidence(pair.eval(), x, num_samples=50).mean)
