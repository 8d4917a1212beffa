"""The standard error and the bias that log_evidence reports are the true ones."""

import math

import torch
from standard_errors import BOUND

from ppl_vae import AmortizedExponentialNormal, ExponentialNormal, LinearGaussian, log_evidence


def test_the_standard_error_is_one():
    """z-scores over many data sets have mean 0 and variance 1 within their own errors."""
    pair = AmortizedExponentialNormal(seed=1)
    x = pair.sample(2, seed=0, num_datasets=400)
    found = log_evidence(pair, x, num_samples=4000)
    z = found.per_example().z_score(pair.exact.log_evidence(x).detach())
    z = z[found.pareto_k < 0.5]
    assert len(z) > 200
    assert abs(z.mean().item()) < BOUND / len(z) ** 0.5 + float(found.standard_error.mean())
    assert abs(z.std().item() - 1) < BOUND / (2 * len(z)) ** 0.5


def test_the_bias_is_half_the_squared_error():
    pair = ExponentialNormal(guide_rate=0.7)
    x = torch.tensor([1.2, 0.7, 1.1]).expand(5_000, 3)
    found = log_evidence(pair, x, num_samples=20)
    gap = found.mean - pair.exact.log_evidence(x[0]).detach()
    error = gap.std() / len(gap) ** 0.5
    assert gap.mean() < -BOUND * error  # there is one
    assert abs(gap.mean() - found.bias.mean()) < BOUND * error + 0.1 * found.bias.mean().abs()


def test_an_exact_guide_has_equal_weights():
    pair = LinearGaussian(4, 1, noise_scale=0.7, seed=1)
    x = pair.sample(3, seed=0)
    posterior = pair.exact.posterior(x)
    with torch.no_grad():
        scale = posterior.covariance_matrix[0, 0, 0].sqrt()
        noise = pair.decoder.log_scale.exp()
        pair.encoder.weight.copy_(scale**2 * pair.decoder.weight.T / noise**2)
        pair.encoder.log_scale.fill_(scale.log())
    found = log_evidence(pair, x, num_samples=100)
    torch.testing.assert_close(found.mean, pair.exact.log_evidence(x).detach())
    assert bool((found.standard_error < 1e-12).all())
    assert bool((found.effective_sample_size - 100).abs().max() < 1e-9)
    assert bool((found.pareto_k == -math.inf).all())
