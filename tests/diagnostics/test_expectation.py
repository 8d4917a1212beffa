"""Expectations against closed forms and against mpmath's quadrature at 30 digits."""

import math

import mpmath
import pytest
import torch
from expectation_methods import METHODS
from torch.distributions import (
    Bernoulli,
    Beta,
    Exponential,
    Gamma,
    Laplace,
    LogNormal,
    Normal,
    StudentT,
    Uniform,
    Weibull,
)

from ppl_vae.closed_forms.truncated_normal import TruncatedNormal
from ppl_vae.diagnostics import expectation


def bernoulli_log_likelihood(z):
    """Four pixels, logits linear in z: smooth."""
    pixels, slopes, shifts = (torch.tensor(v, dtype=z.dtype) for v in _PIXELS)
    return Bernoulli(logits=slopes * z.unsqueeze(-1) + shifts).log_prob(pixels).sum(-1)


_PIXELS = [1.0, 0.0, 1.0, 1.0], [2.0, -1.5, 0.5, -3.0], [0.3, -0.2, 1.0, 0.1]


def reference_bernoulli(density, ends):
    """The same expectation by mpmath, from the exact float values."""
    with mpmath.workdps(30):

        def integrand(z):
            total = mpmath.mpf(0)
            for pixel, slope, shift in zip(*_PIXELS, strict=True):
                logit = mpmath.mpf(slope) * z + mpmath.mpf(shift)
                total -= mpmath.log1p(mpmath.exp(-logit if pixel else logit))
            return density(z) * total

        return float(mpmath.quad(integrand, ends))


def mp_normal(loc, scale):
    return lambda z: mpmath.npdf(z, mpmath.mpf(loc), mpmath.mpf(scale))


def mp_gamma(a, rate):
    a, rate = mpmath.mpf(a), mpmath.mpf(rate)
    return lambda z: rate**a * z ** (a - 1) * mpmath.exp(-rate * z) / mpmath.gamma(a)


BERNOULLI = {
    "normal": (lambda: Normal(0.7, 0.4), mp_normal(0.7, 0.4), [-5, -1, 0.7, 2, 6]),
    "wide normal": (lambda: Normal(-1.0, 2.0), mp_normal(-1.0, 2.0), [-30, -8, -1, 6, 28]),
    "exponential": (lambda: Exponential(1.3), mp_gamma(1.0, 1.3), [0, 1, 4, 80]),
    "gamma": (lambda: Gamma(2.5, 3.0), mp_gamma(2.5, 3.0), [0, 1, 4, 40]),
}


@pytest.mark.parametrize("method", METHODS)
@pytest.mark.parametrize("case", BERNOULLI)
def test_bernoulli_likelihood(case, method):
    """E_q[log p(x given z)] of a Bernoulli likelihood, which has no closed form."""
    distribution, density, ends = BERNOULLI[case]
    exact = reference_bernoulli(density, ends)
    distribution = distribution()
    found = expectation(distribution, bernoulli_log_likelihood, method=method, seed=3)
    gap = abs(found.mean.item() - exact)
    factor = 4.5 if method == "monte-carlo" else 1.0
    assert gap <= factor * found.standard_error.item()
    assert found.warning == ""
    if method == "adaptive":
        assert gap < 1e-10
        assert found.standard_error < 1e-8


@pytest.mark.parametrize("num_points", [4, 8, 16, 32, 64, 128])
@pytest.mark.parametrize("case", BERNOULLI)
def test_smooth_quadrature_converges_and_its_error_is_a_bound(case, num_points):
    distribution, density, ends = BERNOULLI[case]
    exact = reference_bernoulli(density, ends)
    distribution = distribution()
    found = expectation(
        distribution, bernoulli_log_likelihood, method="quadrature", num_points=num_points
    )
    assert abs(found.mean.item() - exact) <= found.standard_error.item()
    assert found.num_samples == num_points + num_points - 1 + num_points // 2
    if num_points == 128 and case != "wide normal":
        assert found.mean.item() == pytest.approx(exact, rel=1e-8)


@pytest.mark.parametrize("num_points", [2, 3, 10, 40])
def test_toy_is_exact_by_gauss_laguerre_from_two_points(num_points):
    """log p(x given z) of the toy is quadratic in z: c + S z - m z^2 / 2."""
    x, rate, scale = torch.tensor([1.2, 0.7, 2.1]), torch.tensor([0.1, 0.8, 30.0]), 0.5
    total, count = x.sum() / scale**2, 3 / scale**2
    constant = -x.square().sum() / (2 * scale**2) - 1.5 * math.log(2 * math.pi * scale**2)
    exact = constant + total / rate - count / rate**2

    def log_likelihood(z):
        return Normal(z.unsqueeze(-1), scale).log_prob(x).sum(-1)

    for method in ("quadrature", "adaptive"):
        found = expectation(
            Exponential(rate),
            log_likelihood,
            method=method,
            num_points=num_points if method == "quadrature" else None,
        )
        torch.testing.assert_close(found.mean, exact, rtol=1e-12, atol=1e-12)
        if num_points > 3 or method == "adaptive":
            assert bool(((found.mean - exact).abs() <= found.standard_error).all())


MOMENTS = {
    "normal": lambda: Normal(torch.tensor([0.3, -40.0]), torch.tensor([2.0, 1e-3])),
    "exponential": lambda: Exponential(torch.tensor([1e-5, 1.0, 1e5])),
    "gamma": lambda: Gamma(torch.tensor([0.2, 1.0, 50.0]), torch.tensor([1.0, 3.0, 0.1])),
    "laplace": lambda: Laplace(torch.tensor([-1.0, 5.0]), torch.tensor([2.0, 0.1])),
    "student": lambda: StudentT(torch.tensor([3.5, 30.0]), 1.0, 2.0),
    "uniform": lambda: Uniform(torch.tensor([-5.0, 0.0]), torch.tensor([7.0, 1e-4])),
    "beta": lambda: Beta(torch.tensor([0.8, 2.0, 40.0]), torch.tensor([1.5, 3.0, 4.0])),
    "log-normal": lambda: LogNormal(torch.tensor([0.0, -2.0]), torch.tensor([1.0, 0.1])),
    "weibull": lambda: Weibull(torch.tensor([1.0, 2.0]), torch.tensor([0.5, 3.0])),
    "truncated normal": lambda: TruncatedNormal(torch.tensor([-1e4, -3.0, 0.0, 3.0, 1e3]), 1.0),
}


@pytest.mark.parametrize("case", MOMENTS)
def test_adaptive_moments(case):
    """Mean and second moment by the distribution's own formulas, over supports of every kind."""
    distribution = MOMENTS[case]()
    for function, exact in (
        (lambda z: z, distribution.mean),
        (torch.square, distribution.variance + distribution.mean**2),
    ):
        found = expectation(distribution, function, method="adaptive")
        gap = (found.mean - exact).abs()
        scale = distribution.variance.sqrt() + exact.abs()
        assert bool((gap <= found.standard_error + 1e-13 * scale).all())
        assert bool((gap <= 1e-9 * scale).all())
        assert bool((found.standard_error <= 1e-7 * scale).all())
        assert found.warning == ""
        assert found.mean.shape == distribution.batch_shape


@pytest.mark.parametrize("case", ["normal", "exponential", "gamma"])
def test_gauss_moments_to_rounding(case):
    distribution = MOMENTS[case]()
    first = expectation(distribution, lambda z: z, method="quadrature").mean
    second = expectation(distribution, torch.square, method="quadrature").mean
    torch.testing.assert_close(first, distribution.mean, rtol=1e-13, atol=0)
    torch.testing.assert_close(
        second, distribution.variance + distribution.mean**2, rtol=1e-13, atol=0
    )
