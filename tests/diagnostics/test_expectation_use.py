"""Gradients, seeds, dtypes, devices and the distributions that expectation serves."""

import pytest
import torch
from expectation_methods import METHODS
from torch.distributions import (
    Exponential,
    Gamma,
    Independent,
    MultivariateNormal,
    Normal,
    Poisson,
)

from ppl_vae.diagnostics import expectation


def test_gradients_flow_through_the_nodes():
    """Closed forms of E[z^2]: its gradients in loc, scale, rate, concentration."""
    loc, scale, rate, a = (torch.tensor(v, requires_grad=True) for v in (0.7, 0.3, 2.0, 1.7))
    for method, tolerance in (("quadrature", 1e-10), ("monte-carlo", 0.05)):
        keep = {"method": method, "num_points": 20 if method == "quadrature" else 40_000}
        normal = expectation(Normal(loc, scale), torch.square, **keep)
        slopes = torch.autograd.grad(normal.mean, (loc, scale))
        torch.testing.assert_close(
            torch.stack(slopes), torch.tensor([1.4, 0.6]), rtol=tolerance, atol=0
        )
        exponential = expectation(Exponential(rate), torch.square, **keep)
        (slope,) = torch.autograd.grad(exponential.mean, rate)
        torch.testing.assert_close(slope, torch.tensor(-0.5), rtol=tolerance, atol=0)
        gamma = expectation(Gamma(a, rate), torch.square, **keep)
        slopes = torch.autograd.grad(gamma.mean, (a, rate))
        exact = torch.tensor([4.4 / 4, -2 * 1.7 * 2.7 / 8])
        torch.testing.assert_close(torch.stack(slopes), exact, rtol=tolerance, atol=0)
        assert not normal.standard_error.requires_grad
    scale_tril = torch.tensor([[1.0, 0.0], [0.5, 2.0]], requires_grad=True)
    both = expectation(
        MultivariateNormal(torch.zeros(2), scale_tril=scale_tril),
        lambda z: z.prod(-1),
        method="quadrature",
    )
    (slopes,) = torch.autograd.grad(both.mean, scale_tril)
    torch.testing.assert_close(slopes.tril(), torch.tensor([[0.5, 0.0], [1.0, 0.0]]))
    assert not expectation(Normal(loc, scale), torch.square, method="adaptive").mean.requires_grad


def test_monte_carlo_serves_discrete_and_many_dimensions():
    many = Independent(Normal(torch.zeros(3, 20), 1.0), 1)
    found = expectation(many, lambda z: z.square().sum(-1), num_points=2000)
    assert bool((found.z_score(torch.full((3,), 20.0)).abs() < 4.5).all())
    found = expectation(Poisson(torch.tensor([0.5, 4.0])), torch.square, num_points=5000)
    assert bool((found.z_score(torch.tensor([0.75, 20.0])).abs() < 4.5).all())


def test_seeds_and_the_global_random_state():
    normal, state = Normal(0.0, 1.0), torch.get_rng_state()
    first = expectation(normal, torch.square, num_points=50, seed=4)
    assert first.mean == expectation(normal, torch.square, num_points=50, seed=4).mean
    assert first.mean != expectation(normal, torch.square, num_points=50, seed=5).mean
    generator = torch.Generator().manual_seed(0)
    draws = [expectation(normal, torch.square, seed=generator).mean for _ in range(2)]
    assert draws[0] != draws[1]
    adaptive = [
        expectation(normal, torch.square, method="adaptive", seed=seed).mean for seed in (0, 1)
    ]
    assert adaptive[0] == adaptive[1]
    assert torch.equal(state, torch.get_rng_state())


@pytest.mark.parametrize("method", METHODS)
def test_float32_keeps_its_dtype(method):
    loc = torch.tensor([0.5, -2.0], dtype=torch.float32)
    found = expectation(Normal(loc, 0.3), torch.square, method=method)
    assert found.mean.dtype == found.standard_error.dtype == torch.float32
    gap = (found.mean - loc**2 - 0.09).abs()
    assert bool((gap <= 4.5 * found.standard_error).all())
    if method != "monte-carlo":
        assert bool((gap < 4e-6).all())


@pytest.mark.cuda
@pytest.mark.skipif(not torch.cuda.is_available(), reason="no CUDA device")
@pytest.mark.parametrize("method", METHODS)
def test_cuda(method):
    loc = torch.tensor([0.5, -2.0], device="cuda")
    state = torch.cuda.get_rng_state()
    for distribution in (Normal(loc, 0.3), Exponential(loc.exp()), Gamma(loc.exp(), loc.exp())):
        found = expectation(distribution, torch.square, method=method)
        assert found.mean.device == found.standard_error.device == loc.device
        exact = distribution.variance + distribution.mean**2
        assert bool(((found.mean - exact).abs() <= 4.5 * found.standard_error).all())
    assert torch.equal(state, torch.cuda.get_rng_state())
