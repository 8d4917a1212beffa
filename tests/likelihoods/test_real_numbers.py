"""The continuous Bernoulli and Student's t against 60-digit arithmetic."""

import mpmath as mp
import pytest
import torch

from ppl_vae.likelihoods import ContinuousBernoulli, StudentT

LOGITS = [-500.0, -37.0, -2.0, -1.0001, -0.9999, -1e-3, -1e-9, 0.0, 1e-8, 0.3, 1.01, 20.0, 500.0]
DFS = [1e-3, 0.5, 1.0, 3.3, 10.0, 23.9, 24.1, 1e4, 1e8, 1e10, 1e12]


@pytest.fixture(autouse=True, scope="module")
def _digits():
    with mp.workdps(100):
        yield


def cumulant(logits):
    return mp.log(mp.expm1(logits) / logits) if logits else mp.mpf(0)


def mean(logits):
    return 1 / (1 - mp.exp(-logits)) - 1 / logits if logits else mp.mpf(1) / 2


def variance(logits):
    half = logits / 2
    return 1 / logits**2 - 1 / (4 * mp.sinh(half) ** 2) if logits else mp.mpf(1) / 12


@pytest.mark.parametrize("value", LOGITS)
def test_continuous_bernoulli(value):
    logits, exact = torch.tensor(value, requires_grad=True), mp.mpf(value)
    fn = ContinuousBernoulli(logits)
    log_c = mp.log1p(mp.exp(exact)) - cumulant(exact)
    assert abs(fn.mean.item() - mean(exact)) <= 3e-16 * mean(exact)
    assert abs(fn.variance.item() - variance(exact)) <= 3e-15 * variance(exact)
    assert abs(fn.log_normalizer.item() - log_c) <= 1e-14 * log_c
    for x in (0.0, 0.1, 0.5, 0.77, 1.0):
        found = fn.log_prob(torch.tensor(x))
        (slope,) = torch.autograd.grad(found, logits, retain_graph=True)
        expected = exact * mp.mpf(x) - cumulant(exact)
        assert abs(found.item() - expected) <= 4e-16 * max(abs(expected), 1)
        assert abs(slope.item() - (mp.mpf(x) - mean(exact))) <= 4e-16


def test_torchs_own_agrees_where_it_keeps_its_digits():
    x, logits = torch.linspace(0, 1, 11), torch.tensor([-3.0, 2.0]).unsqueeze(-1)
    ours, torchs = (
        cls(logits=logits)
        for cls in (ContinuousBernoulli, torch.distributions.ContinuousBernoulli)
    )
    torch.testing.assert_close(ours.log_prob(x), torchs.log_prob(x), rtol=1e-12, atol=1e-13)
    torch.testing.assert_close(ours.mean, torchs.mean, rtol=1e-12, atol=0)


@pytest.mark.parametrize("value", [-300.0, -3.0, -0.011, -0.009, 1e-6, 0.0, 0.009, 0.03, 5.0])
def test_a_draw_moves_with_the_logits_as_the_quantile_does(value):
    logits = torch.tensor(value).expand(50).clone().requires_grad_()
    x = ContinuousBernoulli(logits).rsample()
    (slope,) = torch.autograd.grad(x.sum(), logits)
    # dx/dl = -(dF/dl) / p(x) with F = expm1(l x) / expm1(l).
    for drawn, moved in zip(x.tolist(), slope.tolist(), strict=True):
        at, exact = mp.mpf(drawn), mp.mpf(value or 1e-40)
        by_logits = mp.diff(lambda t: mp.expm1(t * at) / mp.expm1(t), exact)  # noqa: B023
        density = exact * mp.exp(exact * at) / mp.expm1(exact)
        assert abs(moved + by_logits / density) <= 1e-11 * abs(moved) + 1e-14


@pytest.mark.parametrize("df", DFS)
def test_student_t(df):
    def exact(df, loc, scale, x):
        gammas = mp.loggamma((df + 1) / 2) - mp.loggamma(df / 2)
        kernel = (df + 1) / 2 * mp.log1p(((x - loc) / scale) ** 2 / df)
        return gammas - mp.log(df * mp.pi) / 2 - mp.log(scale) - kernel

    for y in (0.0, 1e-3, 0.5, 3.0, 10.0, 1e3, 1e6):
        arguments = [torch.tensor(v, requires_grad=True) for v in (df, 0.25, 2.0)]
        x = torch.tensor(0.25 + 2 * y)
        found = StudentT(*arguments).log_prob(x)
        numbers = [mp.mpf(v.item()) for v in arguments]
        expected = exact(*numbers, mp.mpf(x.item()))
        assert abs(found.item() - expected) <= 2e-15 * max(abs(expected), 1)
        for i, slope in enumerate(torch.autograd.grad(found, arguments)):
            order = tuple(int(i == j) for j in range(3))
            right = mp.diff(lambda *p: exact(*p, mp.mpf(x.item())), tuple(numbers), order)  # noqa: B023
            assert abs(slope.item() - right) <= 4e-13 * abs(right) + 1e-40


def test_student_t_has_the_moments_that_exist():
    df = torch.tensor([0.5, 1.5, 4.0])
    fn = StudentT(df, torch.tensor(3.0), torch.tensor(2.0))
    torch.testing.assert_close(fn.mean, torch.tensor([torch.nan, 3.0, 3.0]), equal_nan=True)
    expected = torch.tensor([torch.nan, torch.inf, 8.0])
    torch.testing.assert_close(fn.variance, expected, equal_nan=True)
