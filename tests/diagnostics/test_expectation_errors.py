"""The reported errors of expectations are honest, and warnings say what could not be done."""

import math

import pytest
import torch
from torch.distributions import Bernoulli, Cauchy, Laplace, MixtureSameFamily, Normal, VonMises

from ppl_vae.diagnostics import expectation
from ppl_vae.nets import ImageDecoder
from ppl_vae.seeding import seeded

# By how much the true error of an integrand with kinks may exceed the reported one. Over 3456
# Gauss rules on twelve ReLU decoders the ratio was 1.15 at 99 per cent, 8.8 at 99.9, at most 16.4.
CHANCE = 20


def test_errors_are_honest_for_a_relu_decoder():
    """Kinks: the reference is adaptive to 1e-10, the reported errors are of the right size."""
    with seeded(5):
        decoder = ImageDecoder(1, [16, 16], (1, 4, 4))
        pixels = torch.rand(16).round()
    loc = torch.linspace(-2, 2, 8)
    distribution = Normal(loc, 0.5)

    @torch.no_grad()
    def log_likelihood(z):
        logits = decoder(3 * z.unsqueeze(-1)).flatten(-3)
        return 10 * Bernoulli(logits=logits).log_prob(pixels).sum(-1)

    exact = expectation(distribution, log_likelihood, method="adaptive", num_points=200_000)
    assert bool((exact.standard_error < 1e-7).all())
    ratios = []
    for num_points in range(4, 40):
        found = expectation(
            distribution, log_likelihood, method="quadrature", num_points=num_points
        )
        ratios.append((found.mean - exact.mean).abs() / found.standard_error)
    ratios = torch.stack(ratios).flatten()
    assert ratios.quantile(0.95) < 1
    assert ratios.quantile(0.99) < 1.5
    assert ratios.max() < CHANCE
    coarse = expectation(distribution, log_likelihood, method="adaptive", tolerance=1e-4)
    assert bool(((coarse.mean - exact.mean).abs() <= coarse.standard_error).all())
    assert coarse.num_samples < exact.num_samples


def test_monte_carlo_errors_are_statistical():
    """z-scores of many independent estimates are standard Normal."""
    distribution = Normal(torch.zeros(2000), 1.0)
    found = expectation(distribution, torch.square, num_points=500, seed=1)
    z = found.z_score(torch.ones(2000))
    assert z.abs().max() < 5.5  # 2000 of them, slightly skew
    assert abs(z.mean().item()) < 4.5 * z.std().item() / math.sqrt(2000)
    assert z.std().item() == pytest.approx(1.0, abs=0.08)
    assert found.num_samples == 500


def test_one_point_has_no_error():
    for method, warning in (("quadrature", "no coarser rule"), ("monte-carlo", "no standard")):
        found = expectation(Normal(1.0, 0.1), torch.square, method=method, num_points=1)
        assert found.standard_error == math.inf
        assert warning in found.warning
        assert found.num_samples == 1


def test_adaptive_says_what_it_could_not_do():
    nothing = expectation(Cauchy(0.0, 1.0), torch.square, method="adaptive", num_points=2000)
    assert "evaluations: raise num_points, or the expectation does not exist" in nothing.warning
    modes = MixtureSameFamily(
        torch.distributions.Categorical(torch.ones(2)),
        Normal(torch.tensor([-10.0, 10.0]), 1e-5),
    )
    missed = expectation(modes, torch.square, method="adaptive", num_points=2000)
    assert "part of it was not found" in missed.warning
    assert missed.standard_error == math.inf
    wrapped = expectation(VonMises(0.0, 1.0), torch.cos, method="adaptive", num_points=2000)
    assert "not normalised" in wrapped.warning
    early = expectation(
        Laplace(0.3, 1.0), lambda z: (50 * z).cos().abs(), method="adaptive", num_points=500
    )
    assert "did not come below 1.0e-10" in early.warning
    assert early.standard_error > 1e-6
