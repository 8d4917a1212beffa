"""What inference_gap takes: any Gaussian guide, model and guide as functions, any method."""

import pyro
import pyro.distributions as dist
import pytest
import torch
from gaps import linear
from torch import nn

from ppl_vae import Pair, inference_gap


class Correlated(Pair):
    """A linear pair whose guide is its posterior, with full covariance, and a code named w."""

    def __init__(self, *, is_exact=True):
        super().__init__(is_exact=is_exact)
        self.weight = nn.Parameter(torch.tensor([[1.0, 0.8], [0.3, -1.0], [0.5, 0.5]]))
        self.is_exact = is_exact

    def model(self, x):
        self.begin(x)
        with pyro.plate("images", len(x)):
            w = pyro.sample("w", dist.MultivariateNormal(x.new_zeros(2), torch.eye(2)))
            pyro.sample("x", dist.Normal(w @ self.weight.mT, 0.5).to_event(1), obs=x)

    def guide(self, x):
        self.begin(x)
        precision = torch.eye(2) + 4 * self.weight.mT @ self.weight
        tril = torch.linalg.cholesky(torch.linalg.inv(precision))
        loc = 4 * x @ self.weight @ torch.linalg.inv(precision)
        with pyro.plate("images", len(x)):
            pyro.sample("w", dist.MultivariateNormal(loc + (not self.is_exact), scale_tril=tril))


def test_a_guide_with_full_covariance_and_other_names():
    x = torch.randn(4, 3)
    gap = inference_gap(Correlated(), x, family="full", method="iwae", num_evidence_samples=50)
    for name in ("total", "approximation", "amortisation"):
        assert float(getattr(gap, name).mean.abs().max()) < 1e-10
    moved = inference_gap(Correlated(is_exact=False), x, family="full", method="iwae")
    assert float(moved.approximation.mean.abs().max()) < 1e-8
    precision = torch.eye(2) + 4 * Correlated().weight.mT @ Correlated().weight
    expected = 0.5 * precision.sum().detach().expand(4)
    torch.testing.assert_close(moved.amortisation.mean, expected, rtol=0, atol=1e-8)
    with pytest.raises(ValueError, match=r"'diagonal', and a guide with full cov.*family='full'"):
        inference_gap(Correlated(), x)


def test_model_and_guide_as_functions():
    pair, x = linear(3)
    expected = inference_gap(pair, x, method="iwae", num_evidence_samples=50, device="cpu")
    found = inference_gap((pair.model, pair.guide), x, num_evidence_samples=50)
    assert found.method == "iwae"
    for name in ("elbo", "best_elbo", "amortisation"):
        found_mean, mean = getattr(found, name).mean, getattr(expected, name).mean
        torch.testing.assert_close(found_mean, mean, rtol=0, atol=1e-6)


def test_functions_with_a_plane_of_codes():
    pair = Correlated()
    x = torch.randn(4, 3)
    gap = inference_gap((pair.model, pair.guide), x, family="full")
    assert gap.method == "quadrature"
    assert float(gap.total.mean.abs().max()) < 1e-3


def test_importance_sampling_draws_from_the_best_gaussian():
    pair, x = linear(3)
    with torch.no_grad():
        pair.encoder.loc.add_(4.0)  # a guide that misses the posterior altogether
        exact = pair.exact.log_evidence(x)
    gap = inference_gap(
        pair,
        x,
        family="full",
        method="iwae",
        num_evidence_samples=20,
        tolerance=1e-7,
        device="cpu",
    )
    torch.testing.assert_close(gap.log_evidence.mean, exact, rtol=0, atol=1e-6)


@pytest.mark.parametrize(
    "method", ["quadrature", "exact", pytest.param("ais", marks=pytest.mark.slow)]
)
def test_methods_agree(method):
    pair, x = linear(2)
    gap = inference_gap(pair, x, method=method, device="cpu")
    with torch.no_grad():
        exact = pair.exact.log_evidence(x)
    assert gap.method == method
    error = (gap.log_evidence.mean - exact).abs()
    assert bool((error <= 4.5 * gap.log_evidence.standard_error + 1e-9).all())
