"""The negative binomial, also with excess zeros, against 60-digit arithmetic."""

import itertools

import mpmath as mp
import pytest
import torch

from ppl_vae.likelihoods import NegativeBinomial, ZeroInflatedNegativeBinomial

COUNTS = [0, 1, 2, 7, 12, 30, 999, 12345, 1_000_000]
LOG_MEANS = [-7.0, -1.0, 0.5, 5.0, 13.8155]
# From 1e-10 to 1e10.
LOG_SIZES = [-23.0, -18.42, -3.0, 0.0, 2.3, 2.6, 5.0, 18.42, 23.0]
EPS = {torch.float64: 1.0, torch.float32: 2.0**29}


@pytest.fixture(autouse=True, scope="module")
def _digits():
    with mp.workdps(60):
        yield


def exact(x, log_mean, log_size):
    m, r = mp.exp(mp.mpf(log_mean)), mp.exp(mp.mpf(log_size))
    gammas = mp.loggamma(x + r) - mp.loggamma(r) - mp.loggamma(x + 1)
    return gammas - r * mp.log1p(m / r) - x * mp.log1p(r / m)


def derivatives(x, log_mean, log_size):
    """By log mean and log size, each with the largest of the terms whose difference it is."""
    m, r = mp.exp(mp.mpf(log_mean)), mp.exp(mp.mpf(log_size))
    y = (x - m) / (r + m)
    gain = mp.digamma(x + r) - mp.log(x + r) - mp.digamma(r) + mp.log(r)
    loss = y - mp.log1p(y)
    by_mean = r * (x - m) / (r + m), r * max(x, m) / (r + m)
    return by_mean, (r * (gain - loss), r * max(gain, loss))


@pytest.mark.parametrize("dtype", [torch.float64, torch.float32])
@pytest.mark.parametrize("log_size", LOG_SIZES)
def test_values_and_gradients_keep_their_digits(log_size, dtype):
    # In float32 the parameters themselves are rounded: compare at the rounded ones.
    for x, log_mean in itertools.product(COUNTS, LOG_MEANS):
        mean = torch.tensor(log_mean, dtype=dtype, requires_grad=True)
        size = torch.tensor(log_size, dtype=dtype, requires_grad=True)
        found = NegativeBinomial(mean, size).log_prob(torch.tensor(float(x), dtype=dtype))
        slopes = torch.autograd.grad(found, (mean, size))
        expected = exact(x, mean.item(), size.item())
        # exp() of a float32 is known to its rounding, which the gap to the mean multiplies.
        wrong = abs(x - mp.exp(mean.item())) * 1e-16 if dtype is torch.float32 else 0
        assert abs(found.item() - expected) <= EPS[dtype] * (3e-15 * abs(expected) + wrong)
        known = derivatives(x, mean.item(), size.item())
        for slope, (right, size_of_terms), tolerance in zip(
            slopes, known, (4e-15, 5e-14), strict=True
        ):
            assert abs(slope.item() - right) <= EPS[dtype] * tolerance * size_of_terms


def test_the_limit_is_a_poisson():
    x = torch.tensor([0.0, 1.0, 40.0, 1e6])
    near = NegativeBinomial(torch.tensor(3.0), torch.tensor(60.0)).log_prob(x)
    poisson = torch.distributions.Poisson(torch.tensor(3.0).exp()).log_prob(x)
    torch.testing.assert_close(near, poisson, rtol=1e-12, atol=0)


def test_torchs_own_agrees_where_it_keeps_its_digits():
    x = torch.arange(30.0)
    ours = NegativeBinomial(torch.tensor(1.1), torch.tensor(0.4))
    torchs = torch.distributions.NegativeBinomial(ours.total_count, logits=ours.logits)
    torch.testing.assert_close(ours.log_prob(x), torchs.log_prob(x), rtol=1e-13, atol=0)
    for name in ("mean", "variance", "probs"):
        torch.testing.assert_close(getattr(ours, name), getattr(torchs, name))


@pytest.mark.parametrize("x", [0.0, 1.0, 13.0])
def test_second_derivatives_are_those_of_the_first(x):
    arguments = [torch.tensor(v, requires_grad=True) for v in (0.7, 1.2)]
    count = torch.tensor(x)

    def log_prob(*args):
        return NegativeBinomial(*args).log_prob(count)

    assert torch.autograd.gradgradcheck(log_prob, arguments)


def zero_inflated(gate, x, log_mean, log_size):
    gate, rest = 1 / (1 + mp.exp(-gate)), 1 / (1 + mp.exp(gate))
    inside = exact(x, log_mean, log_size)
    return mp.log(gate + rest * mp.exp(inside)) if x == 0 else mp.log(rest) + inside


@pytest.mark.parametrize("gate", [-100.0, -37.0, -3.0, 0.0, 1.0, 10.0, 40.0, 100.0])
@pytest.mark.parametrize("x", [0, 1, 17])
def test_excess_zeros_are_exact_at_any_gate(gate, x):
    for log_mean, log_size in itertools.product([-30.0, -1.0, 0.5, 5.0], [-18.0, 0.0, 20.0]):
        logits = torch.tensor(gate, requires_grad=True)
        fn = ZeroInflatedNegativeBinomial(
            logits, torch.tensor(log_mean), torch.tensor(log_size), validate_args=True
        )
        found = fn.log_prob(torch.tensor(float(x)))
        (slope,) = torch.autograd.grad(found, logits)
        with mp.workdps(150):
            expected = zero_inflated(mp.mpf(gate), x, log_mean, log_size)
            by_gate = mp.diff(lambda g: zero_inflated(g, x, log_mean, log_size), mp.mpf(gate))  # noqa: B023
            assert abs(found.item() - expected) <= 3e-15 * abs(expected)
            assert abs(slope.item() - by_gate) <= 2e-14 * abs(by_gate)


def test_no_gradient_is_nan_at_the_edges():
    grid = torch.cartesian_prod(
        torch.tensor([0.0, 1.0, 1e6]),
        torch.tensor([-100.0, 0.0, 100.0]),
        torch.tensor([-40.0, 0.0, 40.0]),
        torch.tensor([-40.0, 0.0, 40.0]),
    )
    for dtype in (torch.float32, torch.float64):
        x, *arguments = (part.to(dtype).requires_grad_() for part in grid.unbind(-1))
        found = ZeroInflatedNegativeBinomial(*arguments).log_prob(x.detach())
        slopes = torch.autograd.grad(found.sum(), arguments)
        assert all(part.isfinite().all() for part in (found, *slopes))
