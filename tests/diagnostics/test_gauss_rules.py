"""The Gauss rules against SciPy's, and against the moments of a Gamma."""

import math

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import special

from ppl_vae.diagnostics.quadrature.gauss import gauss_hermite, gauss_laguerre


@pytest.mark.parametrize("num_points", [1, 2, 7, 32, 100])
def test_rules_are_scipys(num_points):
    nodes, weights = special.roots_hermitenorm(num_points)
    x, w = gauss_hermite(num_points)
    torch.testing.assert_close(x, torch.tensor(nodes))
    torch.testing.assert_close(w, torch.tensor(weights) / math.sqrt(2 * math.pi))
    for a in (0.3, 1.0, 2.5, 60.0):
        nodes, weights = special.roots_genlaguerre(num_points, a - 1)
        x, w = gauss_laguerre(num_points, a)
        torch.testing.assert_close(x, torch.tensor(nodes), rtol=1e-10, atol=1e-13)
        torch.testing.assert_close(w, torch.tensor(weights / weights.sum()), rtol=1e-9, atol=1e-13)


@settings(deadline=None, derandomize=True, max_examples=40)
@given(
    a=st.floats(1e-3, 1e6),
    num_points=st.integers(2, 64),
    degree=st.integers(1, 3),
)
def test_gauss_laguerre_has_the_gamma_moments(a, num_points, degree):
    concentration = torch.tensor(a, requires_grad=True)
    x, w = gauss_laguerre(num_points, concentration)
    moment = (w * x**degree).sum()
    (slope,) = torch.autograd.grad(moment, concentration)
    other = torch.tensor(a, requires_grad=True)
    exact = torch.stack([other + k for k in range(degree)]).prod()
    (exact_slope,) = torch.autograd.grad(exact, other)
    assert moment.item() == pytest.approx(exact.item(), rel=1e-12)
    assert slope.item() == pytest.approx(exact_slope.item(), rel=1e-8)
    assert w.sum().item() == pytest.approx(1.0, abs=1e-13)
