"""Variances of the toy's estimators against autograd with quadrature, and 60-digit arithmetic."""

import math

import mpmath as mp
import numpy as np
import pytest
import torch
from hypothesis import example, given, settings
from hypothesis import strategies as st
from torch.distributions import Exponential, Normal

from ppl_vae.closed_forms import exponential_normal as en

ESTIMATORS = ["trace", "trace_mean_field", "sticking_the_landing", "score_function"]
SETTINGS = settings(max_examples=40, deadline=None, derandomize=True)


@pytest.fixture(autouse=True, scope="module")
def _digits():
    with mp.workdps(60):
        yield


def one_sample(estimator, x, rate, prior, scale, e):
    """Return values and gradients at the draws e / rate, by torch.distributions and autograd."""
    rate = torch.full_like(e, rate).requires_grad_()
    guide, prior = Exponential(rate), Exponential(torch.tensor(prior))
    z = e / rate
    if estimator == "score_function":
        z = z.detach()
    likelihood = Normal(z.unsqueeze(-1), scale).log_prob(x).sum(-1)
    if estimator == "trace_mean_field":
        value = surrogate = likelihood - torch.distributions.kl_divergence(guide, prior)
    else:
        fixed = Exponential(rate.detach())
        value = likelihood + prior.log_prob(z) - guide.log_prob(z)
        surrogate = {
            "trace": value,
            "sticking_the_landing": likelihood + prior.log_prob(z) - fixed.log_prob(z),
            "score_function": value.detach() * guide.log_prob(z),
        }[estimator]
    (gradient,) = torch.autograd.grad(surrogate.sum(), rate)
    return value.detach(), gradient


@pytest.mark.parametrize("estimator", ESTIMATORS)
@pytest.mark.parametrize(
    ("x", "rate", "prior", "scale"),
    [([3.0], 1.5, 2.0, 0.5), ([0.3, -1.2, 0.7], 2.5, 0.4, 1.3), ([-2.0, -3.0], 9.0, 3.0, 0.9)],
)
def test_variances_are_those_of_the_samples(estimator, x, rate, prior, scale):
    # Both are polynomials in e of degree 3 at most, which 10 nodes integrate exactly.
    nodes, weights = map(torch.from_numpy, np.polynomial.laguerre.laggauss(10))
    x = torch.tensor(x)
    options = {"estimator": estimator, "prior_rate": prior, "noise_scale": scale}
    values, gradients = one_sample(estimator, x, rate, prior, scale, nodes)
    for function, sample in ((en.value_variance, values), (en.gradient_variance, gradients)):
        mean = (weights * sample).sum()
        variance = (weights * (sample - mean) ** 2).sum()
        torch.testing.assert_close(function(x, rate, **options), variance, rtol=1e-10, atol=0)
    # The estimators are unbiased for the closed-form ELBO and its derivative.
    r = torch.tensor(rate, requires_grad=True)
    elbo = en.elbo(x, r, prior_rate=prior, noise_scale=scale)
    (slope,) = torch.autograd.grad(elbo, r)
    torch.testing.assert_close((weights * values).sum(), elbo.detach(), rtol=1e-10, atol=1e-12)
    torch.testing.assert_close((weights * gradients).sum(), slope, rtol=1e-10, atol=1e-11)


def test_published_numbers():
    options = {"prior_rate": 2.0, "noise_scale": 0.5}
    x = torch.tensor([3.0])
    trace = en.gradient_variance(x, 1.5, estimator="trace", **options)
    mean_field = en.gradient_variance(x, 1.5, estimator="trace-mean-field", **options)
    assert round(trace.item(), 2) == 5.71
    assert round(mean_field.item(), 2) == 5.97


def polynomial_variance(coefficients):
    """Return Var(sum c_k e^k), e ~ Exponential(1), by E[e^k] = k!."""
    square = [mp.mpf(0)] * (2 * len(coefficients) - 1)
    for i, a in enumerate(coefficients):
        for j, b in enumerate(coefficients):
            square[i + j] += a * b
    mean, second = (
        mp.fsum(c * mp.factorial(k) for k, c in enumerate(terms))
        for terms in (coefficients, square)
    )
    return second - mean**2


def references(estimator, x, rate, prior, scale):
    x = [mp.mpf(v) for v in x.tolist()]
    r, lam, s = (mp.mpf(v.item()) for v in (rate, prior, scale))
    n, total = len(x), mp.fsum(x) / s**2
    m, b = n / s**2, total - lam
    slope = {"trace": b, "trace_mean_field": total, "sticking_the_landing": b + r}
    if estimator == "score_function":
        constant = -mp.fsum(v * v for v in x) / (2 * s**2) - mp.mpf(n) / 2 * mp.log(
            2 * mp.pi * s**2
        )
        f = [constant + mp.log(lam / r), (b + r) / r, -m / (2 * r**2)]
        gradient = [f[0], f[1] - f[0], f[2] - f[1], -f[2]]
        gradient = [c / r for c in gradient]
    else:
        gradient = [0, -slope[estimator] / r**2, m / r**3]
    value = total / r if estimator == "trace_mean_field" else b / r + 1
    return polynomial_variance(gradient), polynomial_variance([0, value, -m / (2 * r**2)])


@SETTINGS
@given(
    estimator=st.sampled_from(ESTIMATORS),
    n=st.sampled_from([1, 2, 10, 1000]),
    log_scale=st.floats(-3, 3),
    log_prior=st.floats(-4, 5),
    b=st.one_of(st.sampled_from([0.0, 1e4, -1e4]), st.floats(-1e4, 1e4)),
    log_factor=st.sampled_from([0.0, 0.0, 1e-9, 0.3, -1.0, 2.0]),
    dtype=st.sampled_from([torch.float64, torch.float32]),
)
@example("sticking_the_landing", 1, 3.0, 0.0, -1e4, 0.0, torch.float64)
@example("trace", 1, 3.0, 4.0, 0.0, 0.0, torch.float64)
def test_variances_agree_with_sixty_digits(
    estimator, n, log_scale, log_prior, b, log_factor, dtype
):
    scale, prior = 10**log_scale, 10**log_prior
    noise = torch.randn(n, generator=torch.Generator().manual_seed(n)) * scale
    x = (noise - noise.mean() + (b + prior) * scale**2 / n).to(dtype)
    prior, scale = torch.tensor(prior, dtype=dtype), torch.tensor(scale, dtype=dtype)
    rate = en.optimal_guide_rate(x, prior_rate=prior, noise_scale=scale) * 10**log_factor
    options = {"estimator": estimator, "prior_rate": prior, "noise_scale": scale}
    results = en.gradient_variance(x, rate, **options), en.value_variance(x, rate, **options)
    expected = references(estimator, x, rate, prior, scale)
    rtol = 1e-12 if dtype == torch.float64 else 1e-5
    for result, reference in zip(results, expected, strict=True):
        assert result.dtype == dtype
        if reference < torch.finfo(dtype).max:
            assert abs(mp.mpf(result.item()) - reference) <= rtol * reference


def test_variances_broadcast_and_differentiate():
    x = torch.randn(4, 1, 3, requires_grad=True)
    rate = (torch.rand(5) + 0.5).requires_grad_()
    prior = (torch.rand(4, 1) + 0.5).requires_grad_()
    scale = torch.tensor(0.8, requires_grad=True)
    for function in (en.gradient_variance, en.value_variance):
        for estimator in ESTIMATORS:

            def call(x, rate, prior, scale, function=function, estimator=estimator):
                options = {"prior_rate": prior, "noise_scale": scale}
                return function(x, rate, estimator=estimator, **options)

            assert call(x, rate, prior, scale).shape == (4, 5)
            assert torch.autograd.gradcheck(call, (x, rate, prior, scale))
            hyphens = function(x, rate, estimator=estimator.replace("_", "-"))
            torch.testing.assert_close(hyphens, function(x, rate, estimator=estimator))


@pytest.mark.parametrize("function", [en.gradient_variance, en.value_variance])
def test_bad_input_is_refused(function):
    x = torch.ones(3)
    with pytest.raises(
        ValueError, match=r"got 'trace_meanfield'. Did you mean 'trace_mean_field'"
    ):
        function(x, 1.0, estimator="trace-meanfield")
    with pytest.raises(ValueError, match="expected estimator as one of trace, trace_mean_field"):
        function(x, 1.0, estimator=3)
    with pytest.raises(ValueError, match="expected guide_rate: finite numbers above 0 only"):
        function(x, 0.0, estimator="trace")
    with pytest.raises(ValueError, match="expected x with at least one entry"):
        function(x[:0], 1.0, estimator="trace")
    with pytest.raises(TypeError, match="expected x as a torch tensor; got float"):
        function(1.0, 1.0, estimator="trace")


@pytest.mark.parametrize("lam", [1e-30, 1e-3, 1.0, 7.7, 1e30])
@pytest.mark.parametrize("dtype", [torch.float64, torch.float32])
def test_probability_of_a_negative_kl_agrees_with_sixty_digits(lam, dtype):
    factors = [1e-6, 0.1, 0.5, 0.66, 0.67, 0.9, 1 - 1e-4, 1 - 1e-12, 1 - 2**-53]
    factors += [1 + 2**-52, 1 + 1e-9, 1 + 1e-3, 1.2, 1.49, 1.51, 1.5, 3.0, 1e6]
    p = torch.tensor(lam, dtype=dtype)
    q = torch.tensor(factors, dtype=dtype) * p
    result = en.probability_of_negative_kl(q, p)
    assert result.dtype == dtype
    for rate, value in zip(q.tolist(), result.tolist(), strict=True):
        r, lam = mp.mpf(rate), mp.mpf(p.item())
        if r == lam:
            expected = 0
        elif r > lam:
            expected = (lam / r) ** (r / (r - lam))
        else:
            expected = 1 - (r / lam) ** (r / (lam - r))
        assert abs(value - expected) <= (1e-12 if dtype == torch.float64 else 1e-5) * expected


def test_probability_of_a_negative_kl_jumps_at_equal_rates():
    rates = torch.tensor([1 - 1e-14, 1.0, 1 + 1e-14], requires_grad=True)
    result = en.probability_of_negative_kl(rates, 1.0)
    torch.testing.assert_close(result, torch.tensor([1 - 1 / math.e, 0.0, 1 / math.e]))
    (slope,) = torch.autograd.grad(result.sum(), rates)  # d tau / d r = 1/2 at r = lam = 1
    torch.testing.assert_close(slope, torch.tensor([0.5, 0.0, -0.5]) / math.e)
    assert torch.autograd.gradcheck(
        en.probability_of_negative_kl,
        (torch.tensor([0.1, 0.9, 1.1, 5.0], requires_grad=True), torch.tensor(1.0)),
    )


@pytest.mark.parametrize("r", [0.5, 1.5])
def test_probability_of_a_negative_kl_is_the_share_of_negative_draws(r):
    generator = torch.Generator().manual_seed(11)
    z = torch.empty(20000).exponential_(r, generator=generator)
    q, p = Exponential(torch.tensor(r)), Exponential(torch.tensor(1.0))
    share = (q.log_prob(z) - p.log_prob(z) < 0).double().mean()
    expected = en.probability_of_negative_kl(r, 1.0)
    assert abs(share - expected) < 4.5 * (expected * (1 - expected) / len(z)).sqrt()
    if r == 1.5:
        assert round(expected.item(), 4) == 0.2963


def test_probability_of_a_negative_kl_refuses_bad_rates():
    with pytest.raises(ValueError, match="expected p_rate: finite numbers above 0 only"):
        en.probability_of_negative_kl(1.0, -1.0)
    with pytest.raises(
        TypeError, match="expected q_rate of a floating dtype; got dtype torch.int"
    ):
        en.probability_of_negative_kl(torch.tensor(1), 1.0)
    with pytest.raises(ValueError, match=r"broadcast; got q_rate \(2,\), p_rate \(3,\)"):
        en.probability_of_negative_kl(torch.ones(2), torch.ones(3))
