"""The evidence by four methods, against closed forms and against each other."""

import math

import pyro
import pyro.distributions as dist
import pytest
import torch
from standard_errors import BOUND

from ppl_vae import (
    AmortizedExponentialNormal,
    BernoulliVAE,
    ExponentialNormal,
    GaussianChain,
    LinearGaussian,
    log_evidence,
)
from ppl_vae.closed_forms import gaussian_chain


def near_posterior(latent_dim):
    """A linear pair whose guide is close to the posterior, so that weights behave."""
    pair = LinearGaussian(4, latent_dim, noise_scale=0.7, seed=1)
    posterior = pair.exact.posterior(pair.blank(1))
    weight, scale = pair.decoder.weight, pair.decoder.log_scale.exp()
    with torch.no_grad():
        covariance = posterior.covariance_matrix[0]
        pair.encoder.weight.copy_(covariance @ weight.T / scale**2)
        pair.encoder.log_scale.copy_(1.1 * covariance.diagonal().sqrt()).log_()
    return pair


PAIRS = {
    "toy, one data set": lambda: (
        ExponentialNormal(guide_rate=0.7),
        torch.tensor([1.2, 0.7, 1.1]),
    ),
    "toy, several": lambda: (
        AmortizedExponentialNormal(seed=1),
        ExponentialNormal().sample(4, seed=0, num_datasets=5),
    ),
    "linear, one latent": lambda: (near_posterior(1), near_posterior(1).sample(5, seed=0)),
    "linear, two latents": lambda: (near_posterior(2), near_posterior(2).sample(5, seed=0)),
    "chain, top-down": lambda: (GaussianChain(), 2 * torch.randn(5, 1)),
    "chain, bottom-up": lambda: (GaussianChain(guide="bottom-up"), 2 * torch.randn(5, 1)),
}


@pytest.mark.parametrize("name", PAIRS)
def test_all_methods_agree(name):
    pair, x = PAIRS[name]()
    exact = log_evidence(pair, x, method="exact")
    truth = pair.exact.log_evidence(x).reshape(-1)
    torch.testing.assert_close(exact.mean, truth.detach(), rtol=0, atol=0)
    assert bool((exact.standard_error == 0).all())
    found = log_evidence(pair, x, method="quadrature")
    assert bool(((found.mean - truth).abs() <= found.standard_error).all())
    assert bool((found.standard_error < 1e-4).all())
    assert found.warning == ""
    for method, options in (("iwae", {}), ("ais", {"num_temperatures": 40})):
        found = log_evidence(pair, x, method=method, **options)
        assert found.mean.shape == truth.shape
        assert bool((found.per_example().z_score(truth).abs() < BOUND).all()), method
        assert bool((found.effective_sample_size <= found.num_samples + 1e-6).all())


def test_all_methods_agree_on_a_bernoulli_vae():
    """Nothing is closed there: quadrature is the truth for the other two."""
    pair = BernoulliVAE((1, 3, 3), latent_dim=2, hidden=(6, 5), seed=1)
    x = pair.sample(6, seed=0)
    truth = log_evidence(pair, x, method="quadrature")
    tighter = log_evidence(pair, x, method="quadrature", tolerance=1e-7, seed=3)
    assert bool((truth.standard_error < 1e-4).all())
    assert bool(((truth.mean - tighter.mean).abs() <= truth.standard_error).all())
    for method in ("iwae", "ais"):
        found = log_evidence(pair, x, method=method, num_temperatures=40)
        assert bool((found.per_example().z_score(tighter.mean).abs() < BOUND).all())
    # Every image at once: the evidences of all 2^9 images sum to 1.
    every = torch.cartesian_prod(*[torch.tensor([0.0, 1.0])] * 9).reshape(-1, 1, 3, 3)
    small = BernoulliVAE((1, 3, 3), latent_dim=1, hidden=(6,), seed=1)
    found = log_evidence(small, every, method="quadrature", tolerance=1e-6)
    assert abs(found.mean.logsumexp(0).item()) < 1e-6


def test_a_float32_pair_is_integrated_in_float64():
    pair = near_posterior(2).float()
    x = pair.sample(5, seed=0)
    found = log_evidence(pair, x, method="quadrature")
    truth = log_evidence(pair.double(), x.double(), method="exact").mean
    assert found.mean.dtype is torch.float32
    assert bool(((found.mean - truth).abs() < 1e-4).all())


def bimodal(x):
    """z^2 is seen, so the posterior has modes at both roots; the guide knows one of them."""
    with pyro.plate("data", len(x)):
        z = pyro.sample("z", dist.Normal(x.new_zeros(()), 1.0))
        pyro.sample("x", dist.Normal(z**2, 0.1), obs=x)


def one_mode(x):
    with pyro.plate("data", len(x)):
        pyro.sample("z", dist.Normal(x.sqrt(), 0.05))


def test_quadrature_finds_a_mode_that_the_guide_does_not_know():
    x = torch.tensor([1.0, 2.5, 4.0])
    found = log_evidence((bimodal, one_mode), x, method="quadrature")
    z = torch.linspace(-6, 6, 400_001)
    log_joint = dist.Normal(0.0, 1.0).log_prob(z) + dist.Normal(z**2, 0.1).log_prob(x[:, None])
    truth = (log_joint.logsumexp(1)) + math.log(12 / 400_000)
    assert bool(((found.mean - truth).abs() <= found.standard_error).all())
    one_sided = log_evidence((bimodal, one_mode), x)
    assert bool((one_sided.mean < truth - 0.5).all())


def test_the_chain_in_two_dimensions_a_number():
    """Two numbers an example have four latents: the sum over both, by weights and annealing."""
    pair = GaussianChain(2)
    x = torch.randn(4, 2)
    truth = gaussian_chain.log_evidence(x).sum(-1)
    for method in ("iwae", "ais"):
        found = log_evidence(pair, x, method=method, num_temperatures=30)
        assert bool((found.per_example().z_score(truth).abs() < BOUND).all())
