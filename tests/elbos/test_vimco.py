"""VIMCO and reweighted wake-sleep against sums over the states of all particles, and by hand."""

import copy

import numpy as np
import pyro
import pyro.distributions as dist
import pytest
import torch
from discrete_programs import PROGRAMS, bound_by_enumeration
from estimates import replicates, value_and_gradient
from pyro.infer import ReweightedWakeSleep
from scipy.special import logsumexp

from ppl_vae import BinaryLatentVAE, LinearGaussian
from ppl_vae.elbos import (
    TraceIWAE_ELBO,
    TraceReweightedWakeSleep_ELBO,
    TraceVIMCO_ELBO,
    bound_of,
    make,
)
from ppl_vae.elbos.discrete.vimco import _gains

X = torch.tensor([0.3, -1.2, 2.0, 0.1], dtype=torch.float64)
BOTH = (TraceVIMCO_ELBO, TraceReweightedWakeSleep_ELBO)


@pytest.fixture
def pair():
    return BinaryLatentVAE((1, 2, 2), 3, seed=1)


@pytest.mark.parametrize("cls", BOTH)
@pytest.mark.parametrize("num_particles", [2, 3])
def test_each_draw_is_the_hand_formula(cls, num_particles, pair):
    x = pair.sample(4, seed=0)
    torch.manual_seed(4)
    z = torch.stack([pair.guide(x) for _ in range(num_particles)])
    log_p = pair.prior().log_prob(z) + pair.likelihood(z).log_prob(x)
    logs = (log_p - pair.posterior(x).log_prob(z)).detach().numpy()
    score = (z - pair.posterior(x).mean).detach().numpy()
    bound = logsumexp(logs, axis=0) - np.log(num_particles)
    shares = np.exp(logs - logsumexp(logs, axis=0))
    by_hand = 0.0
    for k in range(num_particles):
        others = np.delete(logs, k, axis=0)
        replaced = np.concatenate([others, others.mean(0, keepdims=True)])
        baseline = logsumexp(replaced, axis=0) - np.log(num_particles)
        weight = bound - baseline - shares[k] if cls is TraceVIMCO_ELBO else shares[k]
        by_hand = by_hand + (weight[:, None] * score[k]).sum(0)
    torch.manual_seed(4)
    value, gradient = value_and_gradient(
        cls(num_particles), pair.model, pair.guide, (x,), [pair.encoder[0].bias]
    )
    np.testing.assert_allclose(value, bound.sum(), rtol=1e-10)
    np.testing.assert_allclose(gradient, by_hand, rtol=1e-9, atol=1e-12)


@pytest.mark.parametrize("name", ["hierarchy", "subsampled", "masked"])
@pytest.mark.parametrize("vectorise", [False, True])
@pytest.mark.parametrize("num_particles", [2, 3])
@pytest.mark.parametrize("cls", BOTH)
def test_the_expectation_is_the_sum_over_all_states(cls, num_particles, vectorise, name):
    program = PROGRAMS[name]()
    x = X.repeat(50)
    seen = x[program.shown(x)] if name == "masked" else x
    exact = bound_by_enumeration(*program.terms(seen), num_particles).sum()
    slopes = torch.autograd.grad(exact, program.parameters)
    elbo = cls(num_particles, vectorize_particles=vectorise)
    count = 100
    values, gradients = replicates(
        elbo, program.model, program.guide, (x,), program.parameters, count
    )
    assert abs(values.mean() - exact) < 4.5 * values.std() / count**0.5
    gaps = gradients.mean(0) - torch.cat([s.flatten() for s in slopes])
    z_scores = (gaps / gradients.std(0) * count**0.5).abs()
    of_guide = torch.tensor(
        [
            n in ("up", "bias", "above", "above_bias")
            for n, p in program.p.items()
            for _ in range(p.numel())
        ]
    )
    assert z_scores[~of_guide].max() < 4.5
    if cls is TraceVIMCO_ELBO:
        assert z_scores[of_guide].max() < 4.5
    else:  # the guide follows another objective
        assert z_scores[of_guide].max() > 4.5


def test_mixed_latents_have_the_bound_of_iwae_with_the_states_summed():
    """Against scores alone of everything, which is unbiased too."""
    program = PROGRAMS["mixed"]()
    x = X.repeat(50)
    found = []
    for cls in (TraceVIMCO_ELBO, _ScoresOnly):
        found.append(
            replicates(cls(2), program.model, program.guide, (x,), program.parameters, 60)
        )
    for ours, theirs in zip(*found, strict=True):
        error = ((ours.var(0) + theirs.var(0)) / 60).sqrt()
        assert bool(((ours.mean(0) - theirs.mean(0)).abs() < 4.5 * error).all())


class _ScoresOnly(TraceVIMCO_ELBO):
    """No draw is followed along the path."""

    def _get_trace(self, *args):
        from ppl_vae.elbos.discrete.score_function import WithoutReparameterisation

        with WithoutReparameterisation():
            return super()._get_trace(*args)


def test_without_discrete_latents_vimco_is_iwae():
    pair = LinearGaussian(4, 2, noise_scale=0.7, seed=1)
    x = pair.sample(5, seed=0)
    found = []
    for cls in (TraceVIMCO_ELBO, TraceIWAE_ELBO):
        torch.manual_seed(0)
        found.append(
            value_and_gradient(cls(3), pair.model, pair.guide, (x,), [*pair.parameters()])
        )
    torch.testing.assert_close(found[0], found[1], rtol=1e-12, atol=0)


def test_models_learn_from_the_bound_in_wake_sleep():
    pair = LinearGaussian(4, 2, noise_scale=0.7, seed=1)
    x = pair.sample(5, seed=0)
    model = [pair.decoder.weight, pair.decoder.log_scale]  # the guide subtracts the loc too
    found = []
    for cls in (TraceReweightedWakeSleep_ELBO, TraceIWAE_ELBO):
        # With draws held fixed: a model's parameter moves no draw.
        torch.manual_seed(0)
        found.append(value_and_gradient(cls(3), pair.model, pair.guide, (x,), model))
    torch.testing.assert_close(found[0], found[1], rtol=1e-10, atol=1e-12)


@pytest.mark.parametrize("insomnia", [1.0, 0.3, 0.0])
def test_one_data_point_is_pyros_own_wake_sleep(insomnia):
    p = {
        n: torch.tensor(v, requires_grad=True) for n, v in (("prior", 0.3), ("w", 1.2), ("q", 0.8))
    }

    def model(observations=None):
        with pyro.plate("data", 1):
            z = pyro.sample("z", dist.Bernoulli(logits=p["prior"]))
            given = None if observations is None else observations["x"]
            pyro.sample("x", dist.Normal(p["w"] * z, 1.0), obs=given)

    def guide(observations=None):
        with pyro.plate("data", 1):
            pyro.sample("z", dist.Bernoulli(logits=p["q"] * observations["x"]))

    options = {"num_particles": 4, "insomnia": insomnia, "vectorize_particles": False}
    data = {"observations": {"x": torch.tensor([0.7])}}
    found = []
    for elbo in (TraceReweightedWakeSleep_ELBO(**options), ReweightedWakeSleep(**options)):
        for each in p.values():
            each.grad = None
        torch.manual_seed(3)
        loss = elbo.loss_and_grads(model, guide, **copy.deepcopy(data))
        loss = loss[0] if isinstance(loss, tuple) else float(loss)
        found.append([loss, *(each.grad.item() for each in p.values())])
    assert found[0] == pytest.approx(found[1], rel=1e-10)


def test_the_loss_of_wake_sleep_is_one_number():
    pair = BinaryLatentVAE((1, 2, 2), 3, seed=1)
    x = pair.sample(4, seed=0)
    elbo = make("reweighted-wake-sleep")
    assert isinstance(elbo, ReweightedWakeSleep)
    svi = pyro.infer.SVI(pair.model, pair.guide, pyro.optim.Adam({"lr": 0.05}), elbo)
    before = pair.exact.log_evidence(x).sum()
    assert isinstance(svi.evaluate_loss(x), float)
    assert all(isinstance(svi.step(x), float) for _ in range(200))
    assert pair.exact.log_evidence(x).sum() > before


def test_more_particles_raise_the_bound_of_vimco(pair):
    x = pair.sample(20, seed=0)
    bounds = [bound_by_enumeration(*pair.exact.terms(x), k).sum().item() for k in (1, 2, 3)]
    assert pair.exact.elbo(x).sum().item() == pytest.approx(bounds[0], rel=1e-12)
    assert bounds == sorted(bounds)
    assert bounds[-1] < pair.exact.log_evidence(x).sum()
    assert bound_of(make("vimco")) == "importance-weighted"


def test_a_particle_that_the_model_rules_out_leaves_the_others_a_baseline():
    logs = torch.tensor([[0.5], [-torch.inf]])
    # Only its own weight is left to the first particle, so its baseline is 0.
    expected = torch.tensor([[0.5], [0.5]]) - torch.tensor(2.0).log()
    expected[1] -= 0.5
    torch.testing.assert_close(_gains(logs), expected)


@pytest.mark.parametrize("cls", BOTH)
def test_bad_input(cls):
    with pytest.raises(ValueError, match="num_particles of at least 2 .* got 1. .* choose 2"):
        cls(1)
    with pytest.raises(TypeError, match="num_particles as an int"):
        cls(2.0)
    program = PROGRAMS["shared bit"]()
    with pytest.raises(NotImplementedError, match="every latent inside of the plate 'data'; got"):
        cls(2).loss(program.model, program.guide, X)
