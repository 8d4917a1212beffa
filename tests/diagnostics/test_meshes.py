"""Adaptive integration of many functions, each over a mesh of its own."""

import math

import numpy as np
import pytest
import torch
from numpy.polynomial.legendre import leggauss

from ppl_vae.diagnostics.evidence.grids.cells import product_rule, rule
from ppl_vae.diagnostics.evidence.grids.meshes import integrate_each


def test_the_rule():
    x, kronrod, gauss = rule()
    for degree in range(12):
        exact = (1 - (-1) ** (degree + 1)) / (degree + 1)
        assert abs(float((kronrod * x**degree).sum()) - exact) < 1e-14
    nodes, weights = leggauss(3)
    np.testing.assert_allclose(x[gauss > 0], nodes, atol=1e-15)
    np.testing.assert_allclose(gauss[gauss > 0], weights, rtol=1e-14)
    points, both = product_rule(2)
    value = (both[:, 0] * points[:, 0] ** 4 * points[:, 1] ** 6).sum()
    assert abs(float(value) - 4 / 35) < 1e-14


@pytest.mark.parametrize("dim", [1, 2])
def test_narrow_and_wide_functions_at_once(dim):
    """Normal densities a thousand times narrower than the cube, and a constant."""
    loc = torch.tensor([[0.2, -0.3], [-0.71, 0.55], [0.0, 0.0]])[:, :dim]
    scale = torch.tensor([0.1, 0.001, math.inf])

    def values(owner, t):
        gap = (t - loc[owner]) / scale[owner].unsqueeze(-1)
        return -0.5 * gap.square().sum(-1) - 1000 * owner

    found = integrate_each(
        values, count=3, dim=dim, tolerance=1e-6, max_points=10**6, device=torch.device("cpu")
    )
    exact = dim * torch.tensor([math.log(0.1), math.log(0.001), math.log(2.0)])
    exact[:2] += dim * 0.5 * math.log(2 * math.pi)
    gap = (found.log_value - exact + 1000 * torch.arange(3)).abs()
    assert bool((gap <= found.error + 1e-12).all())
    assert bool(found.converged.all())
    assert bool((found.num_points < 20_000).all())  # an even mesh would take 10^7


def test_kinks_have_an_honest_error():
    """Many random kinks: the error reported is above the true one, which a fine grid knows."""
    slopes, shifts = 30 * torch.randn(40), torch.rand(40) * 2 - 1

    def log_f(t):
        return -(slopes * (t - shifts)).clamp(min=0).sum(-1) / 40

    found = integrate_each(
        lambda owner, t: log_f(t),
        count=1,
        dim=1,
        tolerance=1e-5,
        max_points=10**5,
        device=torch.device("cpu"),
    )
    t = (2 * torch.arange(400_000) + 1) / 400_000 - 1
    exact = log_f(t.unsqueeze(-1)).logsumexp(0) + math.log(2 / 400_000)
    assert abs(found.log_value - exact) <= found.error <= 1e-5


def test_where_to_stop_is_kept():
    found = integrate_each(
        lambda owner, t: -(t[..., 0].abs() + 1e-300).log() * 0.9,
        count=1,
        dim=1,
        tolerance=1e-12,
        max_points=500,
        device=torch.device("cpu"),
    )
    assert not bool(found.converged)
    assert found.num_points < 1500
