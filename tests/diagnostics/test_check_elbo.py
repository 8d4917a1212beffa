"""`check_elbo`: what it says, what it leaves as it was, what it refuses."""

import random

import numpy as np
import pyro
import pytest
import torch
import torch.nn.functional as F
from pyro.distributions import Normal
from torch import nn

from ppl_vae import BernoulliVAE, ExponentialNormal, LinearGaussian, assert_elbo, check_elbo


@pytest.fixture
def pair():
    return BernoulliVAE((1, 4, 4), latent_dim=2, hidden=(8,), seed=1)


@pytest.fixture
def x(pair):
    return pair.sample(16, seed=0)


def parts(pair, x):
    loc, scale = pair.encode(x)
    z = loc + scale * torch.randn_like(scale)
    nll = F.binary_cross_entropy_with_logits(pair.decode(z), x, reduction="none").sum((1, 2, 3))
    return nll, (0.5 * (loc**2 + scale**2 - 1) - scale.log()).sum(-1)


def right(pair):
    return lambda x: sum(parts(pair, x)).mean()


def weighted(pair, a, b):
    def objective(x):
        nll, kl = parts(pair, x)
        return (a * nll + b * kl).mean()

    return objective


def test_a_right_objective_passes(pair, x):
    result = check_elbo(right(pair), pair, x)
    assert result.passed
    assert result.findings == []
    assert result.stopped == "clear"
    for name, estimate in result.coefficients.items():
        assert estimate.mean == pytest.approx(0.0 if name == "constant" else 1.0, abs=1e-6)
    assert set(result.gradient) == {"encoder", "decoder"}
    assert all(g.ratio.mean == pytest.approx(1.0, abs=1e-6) for g in result.gradient.values())
    assert "passed" in str(result)


@pytest.mark.parametrize(("a", "b"), [(1.0, 1.02), (0.97, 1.0), (1 / 16, -1.0)])
def test_weights_are_measured(pair, x, a, b):
    result = check_elbo(weighted(pair, a, b), pair, x)
    assert not result.passed
    found = [result.coefficients[n] for n in ("log_likelihood", "log_prior", "entropy")]
    for estimate, expected in zip(found, (a, b, b), strict=True):
        assert estimate.mean == pytest.approx(expected, abs=1e-5)
        assert abs(estimate.z_score(expected)) < 4.5


def test_gradients_are_measured_apart_from_the_value(pair, x):
    def objective(x):
        nll, kl = parts(pair, x)
        return (nll + 2 * kl - kl.detach()).mean()

    result = check_elbo(objective, pair, x)
    assert result.coefficients["entropy"].mean == pytest.approx(1.0, abs=1e-5)
    weights = result.gradient["encoder"].weights
    assert weights["log_likelihood"].mean == pytest.approx(1.0, abs=1e-4)
    assert weights["entropy"].mean == pytest.approx(2.0, abs=1e-4)
    assert result.gradient["decoder"].ratio.mean == pytest.approx(1.0, abs=1e-6)
    assert [(f.kind, f.term) for f in result.findings] == [("gradient", "encoder")]


def test_noise_that_torch_does_not_draw_is_averaged_out(pair, x):
    def objective(x, beta=1.0):
        loc, scale = pair.encode(x)
        z = loc + scale * torch.as_tensor(np.random.standard_normal(scale.shape))  # noqa: NPY002
        nll = -pair.likelihood(z).log_prob(x)
        kl = Normal(loc, scale).log_prob(z) - Normal(0.0, 1.0).log_prob(z)
        return (nll + beta * kl.sum(-1)).mean()

    fine = check_elbo(objective, pair, x)
    assert fine.passed
    assert fine.coefficients["log_prior"].standard_error > 1e-5
    wrong = check_elbo(lambda x: objective(x, 1.2), pair, x)
    assert wrong.findings[0].term == "kl"
    assert abs(wrong.coefficients["log_prior"].z_score(1.2)) < 4.5


def test_constants_may_be_ignored(pair, x):
    objective = right(pair)
    with_constant = check_elbo(lambda x: objective(x) + 3.0, pair, x)
    assert [f.kind for f in with_constant.findings] == ["constant"]
    assert with_constant.coefficients["constant"].mean == pytest.approx(-3.0, abs=1e-4)
    assert check_elbo(lambda x: objective(x) + 3.0, pair, x, ignore_constants=True).passed
    of_data = check_elbo(lambda x: objective(x) + x.flatten(1).sum(1).mean(), pair, x)
    assert [f.kind for f in of_data.findings] == ["constant"]
    assert check_elbo(
        lambda x: objective(x) + x.flatten(1).sum(1).mean(), pair, x, ignore_constants=True
    ).passed


def test_what_is_not_known_is_still_found(pair, x):
    def objective(x):
        nll, kl = parts(pair, x)
        return (nll + kl + 0.3 * torch.sin(3 * kl)).mean()

    result = check_elbo(objective, pair, x)
    assert [f.kind for f in result.findings] == ["leftover"]
    assert result.leftover > 0.01


def test_the_closed_form_of_a_pair_passes():
    pair = LinearGaussian(4, 2, noise_scale=0.7, seed=1)
    x = pair.sample(12, seed=0)
    assert check_elbo(lambda x: -pair.exact.elbo(x).mean(), pair, x).passed
    assert not check_elbo(lambda x: -pair.exact.log_evidence(x).mean(), pair, x).passed


def test_one_data_set_of_the_toy():
    pair = ExponentialNormal(2.0, 0.5, guide_rate=1.5)
    x = pair.sample(6, seed=0)
    assert check_elbo(lambda x: -pair.exact.elbo(x), pair, x).passed


def test_a_model_and_a_guide_that_are_functions():
    def model(x):
        with pyro.plate("data", len(x)):
            z = pyro.sample("z", Normal(0.0, 1.0))
            pyro.sample("x", Normal(z, 0.5), obs=x)

    def guide(x):
        loc = pyro.param("loc", torch.tensor(0.3))
        with pyro.plate("data", len(x)):
            pyro.sample("z", Normal(loc * x, 0.6))

    x = torch.randn(9)

    def objective(x, beta=1.0):
        q = Normal(pyro.param("loc") * x, 0.6)
        z = q.rsample()
        log_p = Normal(0.0, 1.0).log_prob(z)
        return -(Normal(z, 0.5).log_prob(x) + beta * (log_p - q.log_prob(z))).mean()

    pyro.param("loc", torch.tensor(0.3))
    assert check_elbo(objective, (model, guide), x).passed
    assert not check_elbo(lambda x: objective(x, 0.5), (model, guide), x).passed


def test_everything_is_left_as_it_was(pair, x):
    pair.decoder.net.append(nn.BatchNorm1d(16))
    pair.decoder.train()
    pair.encoder.eval()
    for number, parameter in enumerate(pair.parameters()):
        parameter.grad = torch.full_like(parameter, 1.5) if number % 2 else None
    pyro.param("foreign", torch.ones(2))
    before = {n: t.clone() for n, t in pair.state_dict().items()}
    gradients = [p.grad for p in pair.parameters()]
    modes = [m.training for m in pair.modules()]
    states = torch.get_rng_state(), np.random.get_state()[1].copy(), random.getstate()  # noqa: NPY002

    def objective(x):
        random.random()
        np.random.rand()  # noqa: NPY002
        value = right(pair)(x)
        value.backward(retain_graph=True)
        pair.train()
        return value

    check_elbo(objective, pair, x)
    after = pair.state_dict()
    assert all(torch.equal(before[n], after[n]) for n in before)
    for parameter, gradient in zip(pair.parameters(), gradients, strict=True):
        assert parameter.grad is gradient
        assert gradient is None or bool((gradient == 1.5).all())
    assert [m.training for m in pair.modules()] == modes
    assert torch.equal(states[0], torch.get_rng_state())
    assert np.array_equal(states[1], np.random.get_state()[1])  # noqa: NPY002
    assert states[2] == random.getstate()
    assert list(pyro.get_param_store().keys()) == ["foreign"]


def test_results_are_those_of_the_seed(pair, x):
    first, again, other = (
        check_elbo(right(pair), pair, x, num_replicates=10, seed=s) for s in (3, 3, 4)
    )
    assert first.coefficients == again.coefficients
    assert first.coefficients != other.coefficients


def test_assert_elbo_raises_with_the_diagnosis(pair, x):
    with pytest.raises(AssertionError, match=r"beta-VAE with beta = 4"):
        assert_elbo(weighted(pair, 1.0, 4.0), pair, x)


@pytest.mark.parametrize("order", ["rolled", "one for all"])
def test_single_examples_are_compared(pair, x, order):
    def objective(x):
        value = sum(parts(pair, x))
        return value.roll(1, 0) if order == "rolled" else value.mean().expand(len(x))

    assert check_elbo(lambda x: sum(parts(pair, x)), pair, x, reduction="none").passed
    result = check_elbo(objective, pair, x, reduction="none")
    assert [(f.kind, f.term) for f in result.findings] == [("reduction", "objective")]
    assert "own examples" in str(result.findings[0])
