"""Registered divergences that are wrong are still wrong, and nothing here takes them."""

import pyro
import pyro.distributions as dist
import pytest
import torch
from estimates import agree, mean_value
from pyro.infer import Trace_ELBO, TraceMeanField_ELBO
from torch.distributions import Normal, kl_divergence

from ppl_vae import check_kl
from ppl_vae.elbos import TraceAnalyticKL_ELBO
from ppl_vae.elbos.serving import why_not_served
from ppl_vae.elbos.sites.closed_kl import obstacle, registered_kl
from ppl_vae.elbos.sites.draws import Program
from ppl_vae.elbos.sites.kl_plan import SAMPLED
from ppl_vae.elbos.sites.wrong_kls import WRONG_KLS, WrongKL


def made(cls, at, dtype):
    if cls is torch.distributions.TransformedDistribution:
        return cls(at["base_dist"], [torch.distributions.AbsTransform()])
    if "base_dist" in at:
        return cls(**at)
    return cls(**{name: torch.tensor(value, dtype=dtype) for name, value in at.items()})


def both(known: WrongKL):
    return made(known.q, known.q_at, known.dtype), made(known.p, known.p_at, known.dtype)


@pytest.mark.parametrize("known", WRONG_KLS, ids=lambda k: f"{k.q.__name__}-{k.p.__name__}")
def test_each_is_still_wrong_and_refused(known):
    q, p = both(known)
    found = kl_divergence(q, p).flatten()[-1].item()
    assert found == pytest.approx(known.registered, rel=1e-3)
    assert found != pytest.approx(known.right, rel=0.05, abs=1e-3)
    assert f"KL({known.q.__name__} || {known.p.__name__})" in obstacle(q, p)
    with pytest.raises(NotImplementedError, match="is wrong where"):
        registered_kl(q, p)


@pytest.mark.filterwarnings("ignore:Singular sample detected")  # of some Wishart's draws
@pytest.mark.parametrize("known", WRONG_KLS, ids=lambda k: f"{k.q.__name__}-{k.p.__name__}")
def test_right_values_are_what_draws_give(known):
    torch.manual_seed(0)
    q, p = (made(c, a, torch.float64) for c, a in ((known.q, known.q_at), (known.p, known.p_at)))
    if torch.distributions.TransformedDistribution in (known.q, known.p):
        q, p = (dist.FoldedDistribution(d.base_dist) for d in (q, p))
    z = q.sample((40_000,))
    ratio = (q.log_prob(z) - p.log_prob(z)).reshape(40_000, -1)[:, -1]
    error = ratio.std().item() / 200
    assert abs(ratio.mean().item() - known.right) < 4.5 * error + 1e-2 * known.right + 1e-9


def test_a_formula_of_ones_own_is_not_judged(monkeypatch):
    from torch.distributions import kl

    monkeypatch.setattr(kl, "_KL_MEMOIZE", {})
    monkeypatch.setattr(kl, "_KL_REGISTRY", dict(kl._KL_REGISTRY))
    cls = torch.distributions.ContinuousBernoulli
    kl.register_kl(cls, cls)(lambda q, p: q.probs * 0 + 7.0)
    assert registered_kl(cls(torch.tensor(0.2)), cls(torch.tensor(0.3))) == 7.0


def continuous():
    def model():
        pyro.sample("z", dist.ContinuousBernoulli(torch.tensor(0.3)))

    def guide():
        pyro.sample("z", dist.ContinuousBernoulli(torch.tensor(0.499)))

    return model, guide


def test_analytic_kl_samples_such_a_site():
    model, guide = continuous()
    elbo = TraceAnalyticKL_ELBO()
    elbo.loss(model, guide)
    (plan,) = elbo._plans.values()
    assert plan["z"].how == SAMPLED
    assert "is wrong where the probabilities" in plan["z"].why
    many = {"num_particles": 500, "vectorize_particles": True, "max_plate_nesting": 0}
    ours = mean_value(TraceAnalyticKL_ELBO(**many), model, guide)
    assert agree(ours, mean_value(Trace_ELBO(**many), model, guide, seed=1))
    assert agree(ours, -0.0294544)


@pytest.mark.parametrize("num_particles", [1, 2])
def test_pyros_mean_field_is_refused(num_particles):
    why = why_not_served(TraceMeanField_ELBO(num_particles), Program(*continuous(), (), {}))
    assert "a right registered KL at site 'z'" in why
    assert "'analytic-kl', which samples such a site" in why

    def model():
        pyro.sample("z", dist.LogNormal(0.0, 1.0))

    program = Program(model, continuous()[1], (), {})
    assert not why_not_served(TraceMeanField_ELBO(num_particles), program)


def by_hand(q, p):
    """The KL of exponential families on (0, 1), by quadrature over 64 Gauss-Legendre nodes."""
    import numpy as np

    nodes, weights = (torch.as_tensor(t) for t in np.polynomial.legendre.leggauss(64))
    x, weights = (nodes + 1) / 2, weights / 2

    def log_density(d):
        rate = d.logits.double()[..., None]
        log_kernel = rate * x
        return log_kernel - (weights * log_kernel.exp()).sum(-1, keepdim=True).log()

    first, second = log_density(q), log_density(p)
    return (weights * first.exp() * (first - second)).sum(-1).to(q.logits.dtype)


def test_check_kl_is_not_misled():
    cls = torch.distributions.ContinuousBernoulli
    near = 0.5 + torch.linspace(-2e-3, 2e-3, 8, dtype=torch.float32)
    q, p = cls(probs=near), cls(probs=torch.full((8,), 0.3))
    assert not check_kl(kl_divergence, q, p).passed
    assert check_kl(by_hand, q, p).passed


def test_right_pairs_are_left_alone():
    assert not obstacle(Normal(0.0, 1.0), Normal(1.0, 2.0))
    assert not obstacle(dist.HalfCauchy(1.0), dist.HalfCauchy(1.0))
    assert not obstacle(dist.Gumbel(0.0, 1.0), dist.Normal(1.0, 2.0))
