"""Expectations in two dimensions against closed forms."""

import pytest
import torch
from torch.distributions import Exponential, Gamma, Independent, MultivariateNormal, Normal

from ppl_vae.diagnostics import expectation


def two_dimensional():
    scale_tril = torch.linalg.cholesky(torch.tensor([[1.0, 0.9], [0.9, 2.0]]))
    loc = torch.tensor([[0.5, -1.0], [0.0, 0.0], [3.0, 1.0]])
    yield MultivariateNormal(loc, scale_tril=scale_tril), loc.prod(-1) + 0.9
    yield Independent(Normal(loc, torch.tensor([1.0, 0.2])), 1), loc.prod(-1)
    yield Independent(Exponential(torch.tensor([2.0, 5.0])), 1), torch.tensor(0.1)
    yield Independent(Gamma(torch.tensor([0.5, 3.0]), 2.0), 1), torch.tensor(0.375)


@pytest.mark.parametrize("number", range(4))
def test_two_dimensions(number):
    distribution, exact = list(two_dimensional())[number]
    for method, count in (("quadrature", 6), ("adaptive", None), ("monte-carlo", 4000)):
        found = expectation(
            distribution, lambda z: z.prod(-1), method=method, num_points=count, tolerance=1e-8
        )
        assert found.mean.shape == distribution.batch_shape
        gap = (found.mean - exact).abs()
        if method == "monte-carlo":
            assert bool((gap < 4.5 * found.standard_error).all())
        else:
            assert bool((gap < 1e-12).all())
            assert found.warning == ""
    points = expectation(distribution, lambda z: z.sum(-1), method="quadrature", num_points=6)
    assert points.num_samples == 36 + 25 + 9


def test_strong_correlation_is_not_missed():
    scale_tril = torch.linalg.cholesky(torch.tensor([[1.0, 0.9999], [0.9999, 1.0]]))
    found = expectation(
        MultivariateNormal(torch.zeros(2), scale_tril=scale_tril),
        lambda z: z.prod(-1),
        method="adaptive",
        tolerance=1e-8,
    )
    assert found.mean.item() == pytest.approx(0.9999, rel=1e-12)
