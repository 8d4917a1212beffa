"""What log-weights say: mean, error, effective sample size and the tail's shape."""

import math

import numpy as np
import pytest
import torch
from torch.distributions import Bernoulli, Pareto

from ppl_vae.diagnostics.evidence.density.fused import bernoulli_log_prob, compiled_kernel
from ppl_vae.diagnostics.evidence.importance_weights import summarise


def test_against_numpy():
    logs = torch.randn(50, 4) * 2 - 700
    found = summarise(logs)
    weights = np.exp(logs.numpy() + 700)
    np.testing.assert_allclose(found.mean, np.log(weights.mean(0)) - 700, rtol=1e-13)
    relative = weights.std(0, ddof=1) / weights.mean(0) / math.sqrt(50)
    np.testing.assert_allclose(found.standard_error, relative, rtol=1e-12)
    ess = weights.sum(0) ** 2 / (weights**2).sum(0)
    np.testing.assert_allclose(found.effective_sample_size, ess, rtol=1e-12)


@pytest.mark.parametrize("k", [0.2, 0.5, 1.0])
def test_the_tail_of_pareto_weights(k):
    """A Pareto distribution of shape 1/k has the tail index k; PSIS draws it towards 1/2."""
    logs = Pareto(torch.tensor(1.0), torch.tensor(1 / k)).sample((20_000, 30)).log()
    found = summarise(logs).pareto_k
    error = found.std() / 30**0.5
    shrunk = (424 * k + 10 * 0.5) / 434
    assert abs(found.mean() - shrunk) < 4.5 * error + 0.02


def test_edges():
    found = summarise(torch.zeros(30, 1))
    assert (found.pareto_k.item(), found.standard_error.item()) == (-math.inf, 0)
    assert summarise(torch.randn(24, 1)).pareto_k.isnan().item()
    few = torch.full((100, 1), -math.inf)
    few[:3] = 0.0
    found = summarise(few)
    assert found.pareto_k.item() == math.inf
    assert found.mean.item() == pytest.approx(math.log(0.03))
    assert found.effective_sample_size.item() == pytest.approx(3)
    none = summarise(torch.full((100, 1), -math.inf))
    assert none.mean.item() == -math.inf
    assert none.standard_error.item() == math.inf
    assert none.effective_sample_size.item() == 0
    for bad in (math.nan, math.inf):
        with pytest.raises(ValueError, match="NaN or infinity in 1 of 10 draws"):
            summarise(torch.tensor([bad] + [0.0] * 9).unsqueeze(-1))


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_bernoulli_pixels_in_one_pass(dtype):
    logits = (20 * torch.randn(7, 3, 50)).to(dtype)
    value = torch.randint(2, (3, 50)).to(dtype)
    expected = Bernoulli(logits=logits.double()).log_prob(value.double().expand(7, 3, 50)).sum(-1)
    tolerance = 100 * torch.finfo(dtype).eps
    found = bernoulli_log_prob(logits, value).double()
    torch.testing.assert_close(found, expected, rtol=tolerance, atol=tolerance)


@pytest.mark.slow
def test_the_compiled_kernel_gives_the_same_evidence(monkeypatch):
    from ppl_vae import BernoulliVAE, log_evidence
    from ppl_vae.diagnostics.evidence import importance_weights

    assert compiled_kernel("cpu") is not None
    pair = BernoulliVAE((1, 6, 6), latent_dim=2, hidden=(8,), seed=1).float()
    x = pair.sample(7, seed=0)
    plain = log_evidence(pair, x, num_samples=500)
    monkeypatch.setattr(importance_weights, "WORTH_COMPILING", 0)
    fast = log_evidence(pair, x, num_samples=500)
    torch.testing.assert_close(fast.mean, plain.mean, rtol=1e-5, atol=1e-5)
