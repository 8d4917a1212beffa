"""Data, parameters and arguments that require a gradient, as they do in the middle of a model."""

import copy

import pyro
import pyro.distributions as dist
import pytest
import torch
from torch.distributions import Independent, Normal, kl_divergence

from ppl_vae import (
    BernoulliVAE,
    LinearGaussian,
    active_units,
    aggregate_posterior,
    check_elbo,
    check_kl,
    compare_elbos,
    evaluate,
    expectation,
    explain_elbo,
    fit,
    inference_gap,
    log_evidence,
    monte_carlo_kl,
)
from ppl_vae.diagnostics import aggregate_normals

SCALE = torch.nn.Parameter(torch.tensor(0.7))


def model(x):
    """A scale that a closure holds, and that no one has registered, requires a gradient."""
    weight = pyro.param("model$$$weight", torch.tensor(0.8))
    with pyro.plate("data", len(x)):
        z = pyro.sample("z", dist.Normal(torch.zeros(2), 1.0).to_event(1))
        pyro.sample("x", dist.Normal(weight * z, SCALE).to_event(1), obs=x)


def guide(x):
    slope = pyro.param("guide$$$slope", torch.tensor(0.4))
    with pyro.plate("data", len(x)):
        pyro.sample("z", dist.Normal(slope * x, SCALE).to_event(1))


@pytest.fixture
def x():
    """The output of another network, say."""
    return torch.tensor([[0.3, -0.2], [1.1, 0.4], [-0.6, 0.9]], requires_grad=True).sinh()


@pytest.mark.parametrize(
    "measured",
    [
        lambda x: compare_elbos((model, guide), x, ["trace", "analytic-kl"], num_replicates=20),
        lambda x: explain_elbo("trace", (model, guide), x, num_draws=20),
        lambda x: log_evidence((model, guide), x, method="quadrature"),
        lambda x: log_evidence((model, guide), x, num_samples=100),
        lambda x: evaluate((model, guide), x, num_samples=100),
        lambda x: inference_gap((model, guide), x),
        lambda x: active_units((model, guide), x),
    ],
    ids=["compare", "explain", "quadrature", "iwae", "evaluate", "gap", "units"],
)
def test_data_that_require_a_gradient_give_what_others_give(measured, x):
    assert str(_told(measured(x))) == str(_told(measured(x.detach())))


def _told(result):
    for name in ("log_evidence", "evidence"):
        result = getattr(result, name, result)
    if hasattr(result, "mean"):
        assert not result.mean.requires_grad
        return result.mean
    if isinstance(result, dict):
        return {name: (unit.count, unit.variance) for name, unit in result.items()}
    if hasattr(result, "rows"):
        return [row.value for row in result.rows]
    return result.value


def test_an_objective_is_checked_on_data_that_require_a_gradient(x):
    def loss(x):
        q = Independent(Normal(pyro.param("guide$$$slope") * x, SCALE), 1)
        z = q.rsample()
        p = Independent(Normal(torch.zeros(2), 1.0), 1)
        seen = Independent(Normal(pyro.param("model$$$weight") * z, SCALE), 1)
        return q.log_prob(z) - p.log_prob(z) - seen.log_prob(x)

    guide(x)
    model(x)
    assert check_elbo(loss, (model, guide), x, reduction="none").passed


def test_training_takes_data_that_require_a_gradient(x):
    pair = LinearGaussian(data_dim=2, latent_dim=1, seed=0)
    first, second = (
        fit(copy.deepcopy(pair), data, num_epochs=2, progress=False, device="cpu").train_elbo
        for data in (x, x.detach())
    )
    assert first == second


def test_a_divergence_between_outputs_of_networks(x):
    q, p = Normal(x, SCALE.exp()), Normal(2 * x, 1.0 + SCALE)
    assert check_kl(kl_divergence, q, p).passed
    found = monte_carlo_kl(q, p, num_samples=100)
    assert not found.mean.requires_grad


def test_aggregates_and_expectations_of_outputs_of_networks(x):
    plain = aggregate_normals(x.detach(), torch.ones_like(x))
    assert aggregate_normals(x, torch.ones_like(x)).mean_kl == plain.mean_kl
    pair = BernoulliVAE((1, 2, 1), latent_dim=2, hidden=(4,), seed=0).double()
    images = (x > 0).to(x) * torch.ones((), requires_grad=True)
    assert aggregate_posterior(pair, images, device="cpu").num_examples == 3
    found = expectation(Normal(x[:, 0], 1.0), lambda z: z.square() * SCALE, method="quadrature")
    torch.testing.assert_close(found.mean, (x[:, 0].square() + 1) * SCALE)
