"""Annealed importance sampling: unbiased both ways, whatever the steps; and its steps."""

import math

import pyro
import pyro.distributions as dist
import pytest
import torch
from standard_errors import BOUND

from ppl_vae import GaussianChain, LinearGaussian, log_evidence
from ppl_vae.diagnostics.evidence.annealing.annealed import Annealing, Path
from ppl_vae.diagnostics.evidence.annealing.hamiltonian import start, transition
from ppl_vae.diagnostics.evidence.density.log_joint import LogJoint
from ppl_vae.diagnostics.evidence.density.particles import Particles


def chain_joint(count=1):
    pair = GaussianChain(guide="bottom-up", initial={"a": 0.4, "s1": 0.9})
    x = torch.tensor([[1.3]]).expand(count, 1)
    return pair, x, LogJoint(Particles.look(pair, x), x)


def mean_ratio(log_weights, log_evidence):
    """Return the mean of w / p(x) and its standard error."""
    ratios = (log_weights - log_evidence).exp().flatten()
    return ratios.mean().item(), ratios.std().item() / len(ratios) ** 0.5


@pytest.mark.parametrize("num_temperatures", [1, 4])
def test_forward_weights_are_unbiased(num_temperatures):
    pair, x, joint = chain_joint(500)
    path = Path.tuned(joint, Annealing(16, num_temperatures, 2))
    mean, error = mean_ratio(path.forward(), pair.exact.log_evidence(x).detach())
    assert abs(mean - 1) < BOUND * error
    assert error < 0.03


def test_backward_weights_are_unbiased_from_exact_posterior_draws():
    pair, x, joint = chain_joint(2000)
    u = pair.exact.posterior(x).sample()[:, 0].unsqueeze(0)
    path = Path.tuned(joint, Annealing(4, 6, 2))
    mean, error = mean_ratio(-path.backward(u), -pair.exact.log_evidence(x).detach())
    assert abs(mean - 1) < BOUND * error
    assert error < 0.03


def test_one_temperature_is_plain_importance_sampling():
    pair, x, joint = chain_joint()
    path = Path.tuned(joint, Annealing(8, 1, 1))
    torch.manual_seed(5)
    found = path.forward()
    torch.manual_seed(5)
    densities = joint(joint.from_guide(8))
    torch.testing.assert_close(found, (densities.model - densities.guide).detach())


@pytest.mark.parametrize("beta", [0.0, 0.4, 1.0])
def test_transitions_leave_their_density_invariant(beta):
    """Guide and model are Normals here, so the density between is one with known moments."""

    def model(x):
        with pyro.plate("data", len(x)):
            z = pyro.sample("z", dist.Normal(x.new_zeros(()), 1.0))
            pyro.sample("x", dist.Normal(z, 1.0), obs=x)

    def guide(x):
        with pyro.plate("data", len(x)):
            pyro.sample("z", dist.Normal(x - 1.0, 0.5))

    x = torch.tensor([0.8])
    joint = LogJoint(Particles.look((model, guide), x), x)
    precision = 4 * (1 - beta) + 2 * beta
    loc = (4 * (1 - beta) * -0.2 + beta * 0.8) / precision
    u = loc + torch.randn(40_000, 1, 1) / precision**0.5
    state = start(joint, u)
    for _ in range(3):
        state, accept = transition(
            joint,
            state,
            beta,
            step_size=torch.tensor([1.1]),
            scale=torch.full((1, 1), 0.5),
            num_leapfrog=3,
        )
    assert 0.3 < accept.mean() < 0.99  # a step that is refused now and then
    assert not torch.equal(state.u, u)
    error = 1 / (precision * 40_000) ** 0.5
    assert abs(state.u.mean().item() - loc) < BOUND * error
    assert abs(state.u.var().item() * precision - 1) < BOUND * (2 / 40_000) ** 0.5
    torch.testing.assert_close(state.model, joint(state.u).model)
    torch.testing.assert_close(state.guide, joint(state.u).guide)


def test_a_trajectory_that_overflows_is_refused():
    _, _, joint = chain_joint()
    state = start(joint, torch.zeros(50, 1, 2))
    with pyro.validation_enabled(False):  # noqa: FBT003
        moved, accept = transition(
            joint,
            state,
            1.0,
            step_size=torch.tensor([1e160]),
            scale=torch.ones(1, 2),
            num_leapfrog=3,
        )
    assert torch.equal(moved.u, state.u)
    assert bool((accept == 0).all())


def test_steps_are_tuned_example_by_example():
    """Three of four trajectories are accepted at the end, whatever the posterior's width."""

    def model(x):
        with pyro.plate("data", len(x)):
            z = pyro.sample("z", dist.Normal(torch.zeros(4), 1.0).to_event(1))
            pyro.sample("x", dist.Normal(z.sum(-1), x.abs()), obs=x)

    def guide(x):
        with pyro.plate("data", len(x)):
            pyro.sample("z", dist.Normal(torch.zeros(len(x), 4), 1.0).to_event(1))

    x = torch.tensor([0.05, 5.0])
    joint = LogJoint(Particles.look((model, guide), x), x)
    path = Path.tuned(joint, Annealing(64, 100, 4))
    assert path.step_sizes[-1, 0] < 0.3 * path.step_sizes[-1, 1]
    state = start(joint, joint.from_guide(64))
    for number in range(1, 101):
        state, accept = transition(
            joint,
            state,
            path.betas[number],
            step_size=path.step_sizes[number - 1],
            scale=path.scale,
            num_leapfrog=4,
        )
    assert bool((accept.mean(0) > 0.5).all())


def test_betas_rise_from_0_to_1():
    for count in (1, 2, 7, 200):
        betas = Annealing(2, count, 1).betas()
        assert len(betas) == count + 1
        assert (betas[0], betas[-1]) == (0.0, 1.0)
        assert all(low < high for low, high in zip(betas, betas[1:], strict=False))


def test_more_temperatures_tighten_the_bound():
    pair = LinearGaussian(6, 4, noise_scale=0.3, seed=1)  # an untrained guide, far off
    x = pair.sample(8, seed=0)
    truth = pair.exact.log_evidence(x).detach()
    plain, few, many = (
        (
            truth - log_evidence(pair, x, method="ais", num_temperatures=t, num_samples=12).mean
        ).mean()
        for t in (1, 12, 100)
    )
    assert plain > 2 * few > 0
    assert many < 0.3 * few
    assert many < 0.3


def test_constrained_latents_in_plates_of_their_own():
    """Two positive latents per example in a second plate, beside a bounded one."""

    def model(x):
        with pyro.plate("data", len(x), dim=-1):
            top = pyro.sample("top", dist.Beta(x.new_tensor(2.0), 2.0))
            with pyro.plate("parts", 2, dim=-2):
                rate = pyro.sample("rate", dist.Gamma(x.new_tensor(2.0), 1.0))
                pyro.sample("y", dist.Poisson(rate), obs=x[:, :2].mT)
            pyro.sample("w", dist.Bernoulli(top), obs=x[:, 2])

    def guide(x):
        with pyro.plate("data", len(x), dim=-1):
            with pyro.plate("parts", 2, dim=-2):
                pyro.sample("rate", dist.Gamma(2.0 + x[:, :2].mT, 1.7))
            pyro.sample("top", dist.Beta(2.0 + x[:, 2], 2.5))

    x = torch.tensor([[1.0, 0.0, 1.0], [3.0, 2.0, 0.0]])
    truth = math.log(0.5) + torch.distributions.NegativeBinomial(
        torch.tensor(2.0), torch.tensor(0.5)
    ).log_prob(x[:, :2]).sum(-1)
    for method in ("ais", "iwae"):
        found = log_evidence((model, guide), x, method=method, num_temperatures=30)
        assert bool((found.per_example().z_score(truth).abs() < BOUND).all())
        assert bool((found.standard_error < 0.1).all())
