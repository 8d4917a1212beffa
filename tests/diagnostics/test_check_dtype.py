"""`check_elbo` in other dtypes than the default, and under autocast."""

import pytest
import torch
import torch.nn.functional as F

from ppl_vae import BernoulliVAE, check_elbo

DTYPES = [torch.float64, torch.float32, torch.bfloat16, torch.float16]


def make(dtype):
    pair = BernoulliVAE((1, 4, 4), latent_dim=2, hidden=(8,), seed=1).to(dtype)
    return pair, pair.sample(16, seed=0)


def objective(pair, beta, *, autocast=False):
    def loss(x):
        with torch.autocast(x.device.type, torch.bfloat16, enabled=autocast):
            loc, scale = pair.encode(x)
            logits = pair.decode(loc + scale * torch.randn_like(scale))
            nll = F.binary_cross_entropy_with_logits(logits, x, reduction="none").sum((1, 2, 3))
            kl = (0.5 * (loc**2 + scale**2 - 1) - scale.log()).sum(-1)
            return (nll + beta * kl).mean().to(x.dtype)

    return loss


@pytest.mark.parametrize("dtype", DTYPES, ids=str)
def test_dtypes(dtype):
    pair, x = make(dtype)
    before = [p.detach().clone() for p in pair.parameters()]
    places = [p.data_ptr() for p in pair.parameters()]
    assert check_elbo(objective(pair, 1.0), pair, x).passed
    result = check_elbo(objective(pair, 1.1), pair, x)
    assert "beta = 1.1" in result.findings[0].message
    assert all(torch.equal(p, b) for p, b in zip(pair.parameters(), before, strict=True))
    assert [p.data_ptr() for p in pair.parameters()] == places
    assert {p.dtype for p in pair.parameters()} == {dtype}


def test_autocast_is_allowed_for():
    pair, x = make(torch.float32)
    result = check_elbo(objective(pair, 1.0, autocast=True), pair, x)
    assert result.passed
    assert any("half precision" in note for note in result.notes)
    wrong = check_elbo(objective(pair, 2.0, autocast=True), pair, x)
    assert [(f.kind, f.term) for f in wrong.findings] == [("weight", "kl")]
