"""The parts of the search: the maximiser, the points, the control variate."""

import math

import numpy as np
import pytest
import torch
from scipy import optimize

from ppl_vae import LinearGaussian
from ppl_vae.closed_forms import linear_gaussian
from ppl_vae.diagnostics.gap.batched_lbfgs import maximise
from ppl_vae.diagnostics.gap.best_gaussian import climb, fine_rule, matched_rule, starting_points
from ppl_vae.diagnostics.gap.controlled import Controlled
from ppl_vae.diagnostics.gap.gaussian_code import GaussianCode
from ppl_vae.diagnostics.gap.gaussians import Gaussians


def code(latent_dim, data_dim=6, count=5):
    pair = LinearGaussian(data_dim, latent_dim, noise_scale=0.5, seed=2)
    return GaussianCode(pair, pair.sample(count, seed=0), max_bytes=1e8)


def rosenbrock(point, _=None):
    """Minus the function of Rosenbrock, highest at (1, 1), where it is 0."""
    point = point.detach().requires_grad_()
    with torch.enable_grad():
        a, b = point.unbind(-1)
        value = -((1 - a) ** 2 + 100 * (b - a**2) ** 2)
        (gradient,) = torch.autograd.grad(value.sum(), point)
    return value.detach(), gradient


def test_a_curved_valley():
    start = torch.tensor([[-1.2, 1.0], [0.0, 0.0], [2.0, -1.0], [1.0, 1.0]])
    found = maximise(
        rosenbrock, start, metric=torch.ones(2), num_steps=200, tolerance=1e-8, longest=1.0
    )
    torch.testing.assert_close(found.point, torch.ones(4, 2), rtol=0, atol=1e-8)
    assert float(found.gradient_norm.max()) < 1e-8
    assert float(found.value.abs().max()) < 1e-15


def test_it_needs_few_steps_on_an_ill_conditioned_quadratic():
    curvature = torch.logspace(0, 4, 6)
    calls = []

    def function(point, at):
        calls.append(len(at))
        return -0.5 * (curvature * (point - 1).square()).sum(-1), -curvature * (point - 1)

    start = torch.zeros(3, 6)
    found = maximise(
        function, start, metric=torch.ones(6), num_steps=150, tolerance=1e-6, longest=10.0
    )
    torch.testing.assert_close(found.point, torch.ones(3, 6), rtol=0, atol=1e-5)
    reference = optimize.minimize(
        lambda p: 0.5 * float(curvature.numpy() @ (p - 1) ** 2),
        np.zeros(6),
        jac=lambda p: curvature.numpy() * (p - 1),
        method="L-BFGS-B",
        options={"gtol": 1e-6, "ftol": 0, "maxcor": 8},
    )
    assert len(calls) < 2 * reference.nfev


def test_climbs_do_not_disturb_each_other():
    start = torch.tensor([[-1.2, 1.0], [0.3, 2.0], [5.0, 5.0]])
    options = {"metric": torch.ones(2), "num_steps": 40, "tolerance": 1e-5}
    together = maximise(rosenbrock, start, **options)
    for number in range(3):
        alone = maximise(rosenbrock, start[number : number + 1], **options)
        torch.testing.assert_close(alone.point[0], together.point[number], rtol=0, atol=1e-10)


def test_those_that_are_done_are_not_asked_again():
    asked = []

    def function(point, at):
        asked.append(at.tolist())
        return rosenbrock(point)

    start = torch.tensor([[1.0, 1.0], [-1.2, 1.0]])
    maximise(function, start, metric=torch.ones(2), num_steps=5, tolerance=1e-6)
    assert asked == [[0, 1], [1], [1], [1], [1]]


def test_it_stays_where_the_function_is_finite():
    def function(point, _):  # log x - x, highest at 1; NaN below 0
        return (point.log() - point).sum(-1), 1 / point - 1

    found = maximise(
        function,
        torch.tensor([[1e-3], [30.0]]),
        metric=torch.ones(1),
        num_steps=80,
        tolerance=1e-8,
    )
    torch.testing.assert_close(found.point, torch.ones(2, 1), rtol=0, atol=1e-7)


def test_it_stops_at_a_kink():
    asked = []

    def function(point, at):
        asked.append(at)
        return -point.abs().sum(-1), -point.sign()

    start = torch.tensor([[0.7, -0.4]])
    found = maximise(function, start, metric=torch.ones(2), num_steps=1000, tolerance=1e-6)
    assert float(found.point.abs().max()) < 1e-3
    assert float(found.gradient_norm) > 0.9
    assert len(asked) < 500


@pytest.mark.parametrize("latent_dim", [1, 2, 3, 7])
def test_the_points_have_the_moments_of_a_normal(latent_dim):
    found = code(latent_dim, data_dim=8)
    for noise, weights in (matched_rule(64, found), fine_rule(found)):
        close = {"rtol": 0, "atol": 1e-10}
        torch.testing.assert_close(weights.sum(), torch.tensor(1.0), **close)
        torch.testing.assert_close(weights @ noise, torch.zeros(latent_dim), **close)
        covariance = (noise * weights.unsqueeze(-1)).mT @ noise
        torch.testing.assert_close(covariance, torch.eye(latent_dim), **close)


@pytest.mark.parametrize("family", ["diagonal", "full"])
def test_the_gradient_norm_tells_what_is_left(family):
    """Half its square, close to the optimum of a full Gaussian, whose curvature it assumes."""
    found = code(3)
    pair, x = found.pair, found.x
    with torch.no_grad():
        posterior = pair.exact.posterior(x)
        best = pair.exact.log_evidence(x)
        model = pair.decoder.weight, pair.decoder.loc, pair.decoder.log_scale.exp()
    scale_tril = posterior.scale_tril * 1.02
    if family == "diagonal":
        scale = torch.linalg.inv(posterior.covariance_matrix).diagonal(dim1=-2, dim2=-1).rsqrt()
        best = linear_gaussian.elbo(x, *model, posterior.mean, scale).detach()
        scale_tril = torch.diag_embed(scale * 1.02)
    start = Gaussians(posterior.mean, scale_tril)
    rule = matched_rule(32, found)
    everything = torch.arange(len(x))
    first = climb(found, start, rule, everything, family=family, num_steps=1, tolerance=1e-9)
    left = best - first.elbo
    torch.testing.assert_close(first.gradient_norm.square() / 2, left, rtol=0.1, atol=0)
    last = climb(found, start, rule, everything, family=family, num_steps=60, tolerance=1e-9)
    torch.testing.assert_close(last.elbo, best, rtol=0, atol=1e-10)


def test_a_diagonal_search_stays_diagonal():
    found = code(3)
    everything = torch.arange(5)
    options = {"family": "diagonal", "num_steps": 30, "tolerance": 1e-6}
    end = climb(found, found.guide, matched_rule(32, found), everything, **options)
    assert float(end.gaussians.scale_tril.tril(-1).abs().max()) == 0
    assert float(end.gaussians.scale_tril.triu(1).abs().max()) == 0


def test_searches_start_far_from_each_other():
    found = code(2)
    starts = starting_points(found, 4)
    assert len(starts) == 4
    assert starts[0] is found.guide
    distance = (starts[3].loc - starts[2].loc).norm(dim=-1)
    assert bool((distance > 0.3).all())
    heights = [found.log_joint(s.loc.unsqueeze(0))[0] for s in starts]
    draws = found.prior_draws(256)
    assert bool((heights[1] > found.log_joint(draws).median(0).values).all())
    # The third has the posterior's mean and spread, as well as draws from the prior tell: where
    # few of them fall into the posterior that is not well, so not every example is asked for.
    posterior = found.pair.exact.posterior(found.x)
    off = (starts[2].loc - posterior.mean.detach()) / posterior.variance.detach().sqrt()
    assert float(off.abs().median()) < 1


def test_the_control_variate_takes_all_noise_of_a_quadratic():
    found = code(3)
    noise, _ = matched_rule(32, found)
    controlled = Controlled.by(found, found.guide, noise)
    draws = torch.randn(50, 5, 3)
    plain = found.log_joint(found.guide.codes(draws)) - found.guide.log_prob(draws)
    left = controlled.values(found, draws)
    assert float(left.std(0).max()) < 1e-12
    assert float(plain.std(0).min()) > 0.1
    elbo = found.pair.exact.elbo(found.x).detach()
    torch.testing.assert_close(left.mean(0), elbo, rtol=0, atol=1e-10)
    torch.testing.assert_close(controlled.elbo, elbo, rtol=0, atol=1e-10)


def test_a_control_variate_that_does_harm_is_left_out():
    found = code(3)
    noise, _ = matched_rule(32, found)
    wrong = Controlled.by(found, found.guide, noise)
    wrong = Controlled(wrong.gaussians, wrong.elbo, -10 * wrong.hessian, wrong.share)
    draws = torch.randn(400, 5, 3)
    assert float(wrong.tuned(found, draws).share.max()) == 0
    right = Controlled.by(found, found.guide, noise).tuned(found, draws)
    torch.testing.assert_close(right.share, torch.ones(5), rtol=0, atol=1e-10)


def test_densities_of_gaussians():
    loc, tril = torch.randn(4, 3), torch.randn(4, 3, 3).tril(-1) + torch.eye(3) * 0.7
    gaussians = Gaussians(loc, tril)
    noise = torch.randn(6, 4, 3)
    z = gaussians.codes(noise)
    expected = torch.distributions.MultivariateNormal(loc, scale_tril=tril).log_prob(z)
    torch.testing.assert_close(gaussians.log_prob(noise), expected)
    torch.testing.assert_close(gaussians.log_volume, torch.full((4,), 3 * math.log(0.7)))
    mixed = gaussians.where(torch.tensor([True, False, True, False]), gaussians[[1, 1, 1, 1]])
    assert torch.equal(mixed.loc, loc[[0, 1, 2, 1]])
