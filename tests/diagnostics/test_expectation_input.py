"""What expectation refuses, and how it says so."""

import pytest
import torch
from expectation_methods import METHODS
from torch.distributions import Bernoulli, Dirichlet, Independent, Laplace, Normal, Poisson

from ppl_vae.diagnostics import expectation


@pytest.mark.parametrize(
    ("distribution", "change", "error", "message"),
    [
        (
            Normal(torch.zeros(0), 1.0),
            {},
            ValueError,
            r"one batch element; got batch shape \(0,\)",
        ),
        (3, {}, TypeError, "as a torch.distributions.Distribution; got int"),
        (Normal(0.0, 1.0), {"method": "quadratur"}, ValueError, "Did you mean 'quadrature'"),
        (Normal(0.0, 1.0), {"num_points": 0}, ValueError, "num_points of at least 1; got 0"),
        (Normal(0.0, 1.0), {"num_points": 2.5}, TypeError, "num_points as an int"),
        (Normal(0.0, 1.0), {"tolerance": 0.0}, ValueError, "tolerance finite and above 0"),
        (Bernoulli(0.5), {}, TypeError, "Bernoulli, discrete. Use method='monte-carlo'"),
        (Poisson(0.5), {"method": "quadrature"}, TypeError, "a continuous distribution"),
        (
            Independent(Normal(torch.zeros(3), 1.0), 1),
            {},
            ValueError,
            r"one or two dimensions; got Independent of event shape \(3,\)",
        ),
        (Laplace(0.0, 1.0), {"method": "quadrature"}, TypeError, "got Laplace. Use method='adap"),
        (Dirichlet(torch.ones(2)), {}, TypeError, "a half-line or an interval in each dimension"),
        (
            Normal(torch.zeros(2), 1.0),
            {"function": lambda z: z.sum(-1)},
            ValueError,
            r"of shape \(num_points, \*batch_shape\).*Keep the first dimension",
        ),
        (Normal(0.0, 1.0), {"function": torch.Tensor.log}, ValueError, r"finite values.*at z = "),
        (Normal(0.0, 1.0), {"function": lambda z: z > 0}, TypeError, "of a floating dtype"),
        (Normal(0.0, 1.0), {"function": len}, TypeError, r"function\(z\) as a torch tensor"),
    ],
    ids=lambda value: str(value)[:25],
)
def test_bad_input(distribution, change, error, message):
    with pytest.raises(error, match=message):
        expectation(distribution, **{"function": torch.square, "method": "adaptive", **change})


@pytest.mark.parametrize("method", METHODS)
def test_values_that_are_not_finite(method):
    with pytest.raises(ValueError, match="Look for an overflow"):
        expectation(Normal(0.0, 1.0), torch.sqrt, method=method)
