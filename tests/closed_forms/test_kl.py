"""The divergences of one variable against mpmath, quadrature and their own limits.

mpmath is given the exact floats, with digits enough for every cancellation in the plain formulas.
"""

import math
from typing import NamedTuple

import mpmath as mp
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch.autograd import gradcheck, gradgradcheck

from ppl_vae.closed_forms import kl

EXPONENT = {torch.float64: 30, torch.float32: 15}
TOLERANCE = {torch.float64: 1e-13, torch.float32: 2e-7}
STEPS = [0.0, 1e-16, -1e-16, 1e-9, -1e-9, 1e-6, -1e-3, 0.1, -0.2, 0.24, -0.24, 0.26, -0.4, 3.0]


def normal(m, s, n, r):
    value = ((s / r) ** 2 - 1) / 2 - mp.log(s / r) + ((m - n) / r) ** 2 / 2
    by_scale = [(r - s) * (r + s) / r**3, -((m - n) ** 2) / r**3]
    return value, [[(m - n) / r**2], [s / r**2 - 1 / s], [(n - m) / r**2], by_scale]


def normal_standard(m, s):
    value, gradient = normal(m, s, mp.mpf(0), mp.mpf(1))
    return value, gradient[:2]


def normal_log_variance(m, v):
    return (mp.expm1(v) - v + m**2) / 2, [[m], [mp.expm1(v) / 2]]


def exponential(q, p):
    return mp.log(q / p) + p / q - 1, [[1 / q - p / q**2], [1 / q - 1 / p]]


def gamma(a, r, b, rate):
    mean_ratio = a * rate / (b * r)
    value = mp.loggamma(b) - mp.loggamma(a) - (b - a) * mp.digamma(a)
    value += b * mp.log(r / rate) + a * (rate / r - 1)
    by_a = [(a - b) * (mp.psi(1, a) - 1 / a), b / a * (mean_ratio - 1)]
    by_b = [(mp.digamma(b) - mp.digamma(a)) - mp.log(b / a), -mp.log(mean_ratio)]
    return value, [by_a, [b / r - a * rate / r**2], by_b, [a / r - b / rate]]


def laplace(m, s, n, r):
    d, sign = abs(m - n), mp.sign(m - n)
    e = mp.exp(-d / s)
    value = mp.log(r / s) + d / r + s / r * e - 1
    by_loc = sign * (1 - e) / r
    by_scale = [r**-1, -(d + s * e) / r**2]
    return value, [[by_loc], [e * (1 + d / s) / r - 1 / s], [-by_loc], by_scale]


def bernoulli(x, y):
    q, p = 1 / (1 + mp.exp(-x)), 1 / (1 + mp.exp(-y))
    value = mp.log1p(mp.exp(y)) - mp.log1p(mp.exp(x)) - (y - x) * q
    return value, [[(x - y) * q * (1 - q)], [p - q]]


def magnitudes(exponent):
    return st.floats(-exponent, exponent).map(lambda e: 10.0**e)


@st.composite
def scale_pairs(draw, exponent):
    first = draw(magnitudes(exponent))
    beside = st.sampled_from(STEPS).map(lambda step: first * (1 + step))
    return first, draw(st.one_of(beside, magnitudes(exponent)))


@st.composite
def real_pairs(draw, limit, unit):
    first = draw(st.one_of(st.just(0.0), st.floats(-limit, limit), st.floats(-1, 1)))
    steps = st.sampled_from([*STEPS, -1.0, 0.9, 1.1, 30.0, -700.0, 760.0])
    second = draw(
        st.one_of(
            st.sampled_from(STEPS).map(lambda step: first * (1 + step)),
            steps.map(lambda step: first + step * unit),
            st.floats(-limit, limit),
        )
    )
    return first, max(-limit, min(limit, second))


@st.composite
def loc_scales(draw, exponent):
    s, r = draw(scale_pairs(exponent))
    m, n = draw(real_pairs(1e6, draw(st.sampled_from([s, r]))))
    return m, s, n, r


@st.composite
def gammas(draw, exponent):
    a, b = draw(scale_pairs(draw(st.sampled_from([2, exponent]))))
    r, rate = draw(scale_pairs(exponent))
    if draw(st.booleans()):
        rate = r * b / a * (1 + draw(st.sampled_from(STEPS)))
    return a, r, b, rate


class Case(NamedTuple):
    function: object
    reference: object
    arguments: object
    digits: int = 170


def log_variances(exponent):
    value = st.one_of(st.floats(-138, 138), st.sampled_from([*STEPS, 0.49, 0.51, -0.49]))
    return st.tuples(st.one_of(st.just(0.0), st.floats(-1e6, 1e6)), value)


CASES = {
    "normal": Case(kl.kl_normal_normal, normal, loc_scales),
    "normal-standard": Case(
        kl.kl_normal_standard,
        normal_standard,
        lambda e: st.tuples(
            st.one_of(st.just(0.0), st.floats(-1e6, 1e6)),
            st.one_of(magnitudes(e), st.sampled_from([1 + step for step in STEPS])),
        ),
    ),
    "log-variance": Case(
        kl.kl_normal_standard_from_log_variance, normal_log_variance, log_variances, 400
    ),
    "exponential": Case(kl.kl_exponential_exponential, exponential, scale_pairs),
    "gamma": Case(kl.kl_gamma_gamma, gamma, gammas),
    "laplace": Case(kl.kl_laplace_laplace, laplace, loc_scales, 400),
    "bernoulli": Case(kl.kl_bernoulli_bernoulli, bernoulli, lambda e: real_pairs(1e4, 1.0), 400),
}


def check(case, numbers, dtype):
    """Value and gradient of one case at one point, against mpmath at the floats' exact values."""
    arguments = [torch.tensor(x, dtype=dtype, requires_grad=True) for x in numbers]
    value = case.function(*arguments)
    value.backward()
    info, tolerance = torch.finfo(dtype), TOLERANCE[dtype]
    with mp.workdps(case.digits):
        expected, gradient = case.reference(*(mp.mpf(x.item()) for x in arguments))
        got = value.item()
        if expected > info.max * (1 - info.eps / 2):
            assert got in (math.inf, info.max)
            return
        assert 0 <= got < math.inf
        # Below the smallest normal number a float has fewer digits to be right in.
        assert abs(got - expected) <= tolerance * max(expected, info.tiny)
        for x, terms in zip(arguments, gradient, strict=True):
            slope = max(-info.max, min(info.max, x.grad.item()))
            assert slope == x.grad.item()
            if abs(mp.fsum(terms)) < info.max:
                size = mp.fsum(abs(term) for term in terms)
                slack = 10 * tolerance * max(size, info.tiny / info.eps)
                assert abs(slope - mp.fsum(terms)) <= slack


@pytest.mark.parametrize("dtype", EXPONENT)
@pytest.mark.parametrize("name", CASES)
@settings(deadline=None, derandomize=True, max_examples=60)
@given(data=st.data())
def test_values_and_gradients_in_the_corners(name, dtype, data):
    check(CASES[name], data.draw(CASES[name].arguments(EXPONENT[dtype])), dtype)


@pytest.mark.parametrize(
    ("name", "numbers"),
    [
        ("normal", (3.0, 1.0 + 1e-9, 3.0, 1.0)),
        ("exponential", (1e30, 1e30 * (1 + 1e-9))),
        ("gamma", (3.0, 2.0, 3.0 * (1 + 1e-9), 2.0)),
        ("gamma", (1e30, 1e-30, 1e30 * (1 + 1e-9), 1e-30 * (1 + 1e-9))),
        ("gamma", (1e10, 2.0, 1e10 * (1 - 1e-9), 2.0 * (1 - 1e-9) * (1 + 3e-16))),
        ("gamma", (1e-30, 1.0, 1e-30 * (1 + 1e-9), 1.0)),
        ("laplace", (1e6, 1e-30, 1e6 - 1e-9, 1e30)),
        ("laplace", (0.0, 1.0, 1e-9, 1.0 + 1e-9)),
        ("bernoulli", (40.0, 40.0 * (1 + 1e-9))),
        ("bernoulli", (1e4, -1e4)),
        ("bernoulli", (30.0, 1e4)),
    ],
)
def test_values_and_gradients_at_chosen_points(name, numbers):
    check(CASES[name], numbers, torch.float64)


@pytest.mark.parametrize("dtype", EXPONENT)
@pytest.mark.parametrize("name", CASES)
@settings(deadline=None, derandomize=True, max_examples=15)
@given(data=st.data())
def test_equal_distributions_diverge_by_exactly_nothing(name, dtype, data):
    case = CASES[name]
    numbers = list(data.draw(case.arguments(EXPONENT[dtype])))
    half = len(numbers) // 2
    numbers[half:] = numbers[:half]
    if name in ("normal-standard", "log-variance"):
        numbers = [0.0, float(name == "normal-standard")]
    arguments = [torch.tensor(x, dtype=dtype, requires_grad=True) for x in numbers]
    value = case.function(*arguments)
    value.backward()
    assert value.item() == 0
    assert all(x.grad.item() == 0 for x in arguments)


DENSITIES = {
    "normal": (
        lambda z, m, s: mp.npdf(z, m, s),
        [-mp.inf, -1, 0, 1, mp.inf],
        (0.3, 0.8, -0.5, 1.7),
    ),
    "exponential": (lambda z, r: r * mp.exp(-r * z), [0, 1, mp.inf], (1.5, 0.4)),
    "gamma": (
        lambda z, a, r: r**a * z ** (a - 1) * mp.exp(-r * z) / mp.gamma(a),
        [0, 0.1, 1, 4, mp.inf],
        (2.5, 1.5, 0.7, 0.4),
    ),
    "laplace": (
        lambda z, m, s: mp.exp(-abs(z - m) / s) / (2 * s),
        [-mp.inf, -0.5, 0.3, mp.inf],
        (0.3, 0.8, -0.5, 1.7),
    ),
}


@pytest.mark.parametrize("name", DENSITIES)
def test_the_integral_that_defines_it(name):
    density, breaks, numbers = DENSITIES[name]
    half = len(numbers) // 2
    q, p = numbers[:half], numbers[half:]

    def integrand(z):
        here = density(z, *q)
        return here * mp.log(here / density(z, *p)) if here > mp.mpf(10) ** -60 else mp.mpf(0)

    with mp.workdps(25):
        expected = mp.quad(integrand, breaks)
    assert CASES[name].function(*numbers).item() == pytest.approx(float(expected), rel=1e-10)


@pytest.mark.parametrize("name", CASES)
def test_second_derivatives(name):
    numbers = (0.3, 0.8, 0.7, 0.9)[: CASES[name].reference.__code__.co_argcount]
    points = tuple(torch.tensor([x, 3 * x], requires_grad=True) for x in numbers)
    assert gradcheck(CASES[name].function, points)
    assert gradgradcheck(CASES[name].function, points)
