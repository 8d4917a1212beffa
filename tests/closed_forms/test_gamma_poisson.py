"""Counts of one unknown rate against 60-digit arithmetic, quadrature and draws."""

import mpmath as mp
import numpy as np
import pytest
import torch
from hypothesis import example, given, settings
from hypothesis import strategies as st
from scipy.special import roots_genlaguerre
from torch.distributions import Gamma, Poisson, kl_divergence

from ppl_vae.closed_forms import gamma_poisson as gp

SETTINGS = settings(max_examples=40, deadline=None, derandomize=True)
RTOL = {torch.float64: 1e-12, torch.float32: 1e-5}
LOG = st.floats(-7, 7)
COUNTS = st.lists(st.integers(0, 50) | st.integers(0, 1_000_000), min_size=1, max_size=8)
X = torch.tensor([2.0, 0.0, 1.0], dtype=torch.float64)
PRIOR = {"concentration": 1.3, "rate": 0.8}
GUIDE = {"guide_concentration": 2.5, "guide_rate": 1.7}


@pytest.fixture(autouse=True, scope="module")
def _digits():
    with mp.workdps(60):
        yield


class Reference:
    """The formulas of the module's docstrings, literally."""

    def __init__(self, x, a, b):
        self.x, self.a, self.b = x, mp.mpf(a), mp.mpf(b)
        self.total, self.count = self.a + sum(x), self.b + len(x)
        prior = self.a * mp.log(self.b) - mp.loggamma(self.a)
        self.constant = prior - mp.fsum(mp.loggamma(v + 1) for v in x)

    def log_evidence(self):
        return self.constant + mp.loggamma(self.total) - self.total * mp.log(self.count)

    def elbo(self, c, r):
        c, r = mp.mpf(c), mp.mpf(r)
        value = self.constant + (self.total - c) * mp.digamma(c) - self.total * mp.log(r)
        return value - self.count * c / r + c + mp.loggamma(c)

    def log_joint(self, z):
        return self.constant + (self.total - 1) * mp.log(z) - self.count * z


@pytest.mark.parametrize("dtype", [torch.float64, torch.float32])
@SETTINGS
@given(x=COUNTS, a=LOG, b=LOG, c=LOG, r=LOG)
@example(x=[1_000_000] * 8, a=18.0, b=-7.0, c=15.0, r=1.0)
@example(x=[0], a=-14.0, b=-10.0, c=-10.0, r=10.0)
def test_evidence_and_elbo_keep_their_digits(dtype, x, a, b, c, r):
    data = torch.tensor(x, dtype=dtype)
    a, b, c, r = (torch.tensor(10.0 ** (v / 2), dtype=dtype) for v in (a, b, c, r))
    known = Reference([int(v) for v in data.tolist()], a.item(), b.item())
    prior, guide = {"concentration": a, "rate": b}, {"guide_concentration": c, "guide_rate": r}
    evidence = gp.log_evidence(data, **prior)
    assert evidence.dtype is dtype
    assert abs(evidence.item() - known.log_evidence()) <= RTOL[dtype] * abs(known.log_evidence())
    value = gp.elbo(data, **prior, **guide)
    expected = known.elbo(c.item(), r.item())
    assert abs(value.item() - expected) <= RTOL[dtype] * abs(expected)


def test_the_evidence_is_the_integral_of_the_joint():
    known = Reference([2, 0, 1], 1.3, 0.8)
    integral = mp.quad(lambda z: mp.exp(known.log_joint(z)), [0, 0.5, 2, 10, mp.inf])
    found = gp.log_evidence(X, **PRIOR).item()
    assert abs(found - mp.log(integral)) < 1e-13


def test_the_posterior_closes_the_gap():
    posterior = gp.posterior(X, **PRIOR)
    assert (posterior.concentration.item(), posterior.rate.item()) == (4.3, 3.8)
    guide = {"guide_concentration": posterior.concentration, "guide_rate": posterior.rate}
    gap = gp.log_evidence(X, **PRIOR) - gp.elbo(X, **PRIOR, **guide)
    assert abs(gap) < 1e-15
    other = kl_divergence(Gamma(2.5, 1.7), posterior)
    found = gp.log_evidence(X, **PRIOR) - gp.elbo(X, **PRIOR, **GUIDE)
    torch.testing.assert_close(found, other, rtol=1e-12, atol=0)


def test_batches_broadcast_and_gradients_are_those_of_the_formula():
    x = torch.tensor([[2.0, 0.0, 1.0], [5.0, 7.0, 6.0]])
    rates = torch.tensor([0.4, 2.0])
    rows = [gp.log_evidence(v, concentration=1.3, rate=r) for v, r in zip(x, rates, strict=True)]
    assert torch.equal(gp.log_evidence(x, concentration=1.3, rate=rates), torch.stack(rows))
    assert gp.posterior(x, rate=rates).batch_shape == (2,)

    def of(a, b, c, r):
        options = {"guide_concentration": c, "guide_rate": r}
        return gp.elbo(x, concentration=a, rate=b, **options)

    arguments = [torch.tensor(v, requires_grad=True) for v in (1.3, 0.8, 2.5, 1.7)]
    assert torch.autograd.gradcheck(of, arguments)


def one_sample(estimator, g, c, r):
    """Return gradients by c and r at z = g/r, by torch.distributions and autograd."""
    c, r = (torch.full_like(g, v).requires_grad_() for v in (c, r))
    z = _Drawn.apply(g, c) / r
    guide, prior = Gamma(c, r), Gamma(torch.tensor(1.3), torch.tensor(0.8))
    if estimator == "score_function":
        z = z.detach()
    likelihood = Poisson(z.unsqueeze(-1)).log_prob(X).sum(-1)
    if estimator == "trace_mean_field":
        surrogate = likelihood - kl_divergence(guide, prior)
    else:
        fixed = Gamma(c.detach(), r.detach())
        joint = likelihood + prior.log_prob(z)
        surrogate = {
            "trace": joint - guide.log_prob(z),
            "sticking_the_landing": joint - fixed.log_prob(z),
            "score_function": (joint - fixed.log_prob(z)).detach() * guide.log_prob(z),
        }[estimator]
    return torch.autograd.grad(surrogate.sum(), (c, r))


class _Drawn(torch.autograd.Function):
    """A value of Gamma(c, 1) whose derivative by c is torch's implicit one."""

    @staticmethod
    def forward(ctx, g, c):
        ctx.save_for_backward(g, c)
        return g.clone()

    @staticmethod
    def backward(ctx, grad):
        g, c = ctx.saved_tensors
        return None, grad * torch._standard_gamma_grad(c, g)


ESTIMATORS = ["trace", "trace_mean_field", "sticking_the_landing", "score_function"]


@pytest.mark.parametrize("estimator", ESTIMATORS)
def test_variances_are_those_of_the_samples(estimator):
    found = gp.gradient_variance(X, **PRIOR, **GUIDE, estimator=estimator)
    if estimator == "score_function":
        # log g is no polynomial: integrate over t = log g, where the rule converges quickly.
        t = torch.linspace(-60, 6, 200_001)
        log_density = 2.5 * t - t.exp() - torch.lgamma(torch.tensor(2.5))
        weights, nodes = log_density.exp() * (t[1] - t[0]), t.exp()
    else:
        nodes, weights = map(torch.from_numpy, roots_genlaguerre(20, 1.5))
        weights = weights / weights.sum()
    for name, samples in zip(
        gp.GradientVariance._fields, one_sample(estimator, nodes, 2.5, 1.7), strict=True
    ):
        closed = getattr(found, name)
        if closed is None:
            assert name == "guide_concentration"
            continue
        mean = (weights * samples).sum()
        variance = (weights * (samples - mean) ** 2).sum()
        torch.testing.assert_close(closed, variance, rtol=1e-9, atol=0)
        # Each is unbiased for the derivative of the closed-form ELBO.
        guide = {k: torch.tensor(v, requires_grad=True) for k, v in GUIDE.items()}
        (slope,) = torch.autograd.grad(gp.elbo(X, **PRIOR, **guide), guide[name])
        torch.testing.assert_close(mean, slope, rtol=1e-9, atol=1e-11)


@pytest.mark.parametrize("estimator", ESTIMATORS[:3])
def test_implicit_gradients_by_the_concentration_are_unbiased(estimator):
    # Their variance has no closed form; it is finite, and their mean is the ELBO's derivative.
    g = Gamma(2.5, 1.0).sample((200_000,))
    samples, _ = one_sample(estimator, g, 2.5, 1.7)
    guide = {k: torch.tensor(v, requires_grad=True) for k, v in GUIDE.items()}
    (slope,) = torch.autograd.grad(gp.elbo(X, **PRIOR, **guide), guide["guide_concentration"])
    assert abs(samples.mean() - slope) < 4.5 * samples.std() / len(g) ** 0.5


def test_sticking_the_landing_is_noiseless_by_the_rate_at_the_posteriors_rate():
    options = PRIOR | {"guide_concentration": 4.3, "guide_rate": 3.8}
    found = gp.gradient_variance(X, **options, estimator="sticking-the-landing")
    assert found.guide_rate == 0


@SETTINGS
@given(x=COUNTS, c=st.floats(-2, 2), r=st.floats(-2, 2))
def test_score_function_variances_keep_their_digits(x, c, r):
    c, r = np.exp(c), np.exp(r)
    known = Reference(x, 1.3, 0.8)
    alpha, beta = known.total - mp.mpf(c), known.count / mp.mpf(r) - 1
    value, c_ = known.elbo(c, r), mp.mpf(c)

    def moment(i, j):
        """E[u^i v^j], u = log g - digamma(c), by derivatives of E[g^s exp(t g)]."""
        shift = mp.digamma(c_)
        total = mp.mpf(0)
        for k in range(j + 1):
            ratio = lambda s, k=k: mp.exp(  # noqa: E731
                mp.loggamma(c_ + s + k) - mp.loggamma(c_) - s * shift
            )
            total += mp.binomial(j, k) * (-c_) ** (j - k) * mp.diff(ratio, 0, i)
        return total

    def expectation(power, with_u):
        """E[f^power s^power] with s = u or v, and f = value + alpha u - beta v."""
        total = mp.mpf(0)
        for i in range(power + 1):
            for j in range(power + 1 - i):
                factor = mp.factorial(power) / mp.factorial(i) / mp.factorial(j)
                factor *= alpha**i * (-beta) ** j * value ** (power - i - j)
                factor /= mp.factorial(power - i - j)
                u, v = (i + power, j) if with_u else (i, j + power)
                total += factor * moment(u, v)
        return total

    guide = {"guide_concentration": float(c), "guide_rate": float(r)}
    found = gp.gradient_variance(
        torch.tensor([float(v) for v in x]), **PRIOR, **guide, estimator="score-function"
    )
    by_c = expectation(2, True) - expectation(1, True) ** 2  # noqa: FBT003
    by_r = (expectation(2, False) - expectation(1, False) ** 2) / mp.mpf(r) ** 2  # noqa: FBT003
    assert abs(found.guide_concentration.item() - by_c) <= 1e-9 * by_c
    assert abs(found.guide_rate.item() - by_r) <= 1e-9 * by_r


@pytest.mark.parametrize(
    ("x", "change", "error", "message"),
    [
        (torch.tensor([1.5]), {}, ValueError, "whole numbers of 0 or more only"),
        (torch.tensor([-1.0]), {}, ValueError, "whole numbers of 0 or more only"),
        (torch.tensor([]), {}, ValueError, "at least one entry"),
        (torch.tensor(1.0), {}, ValueError, "x of shape"),
        (torch.tensor([1]), {}, TypeError, "floating dtype"),
        (torch.tensor([float("nan")]), {}, ValueError, "no NaN"),
        (torch.tensor([1.0]), {"rate": 0.0}, ValueError, "rate: finite numbers above 0 only"),
        (torch.tensor([1.0]), {"concentration": "1"}, TypeError, "concentration as a number"),
        (torch.ones(3, 2), {"rate": torch.ones(2)}, ValueError, "shapes that broadcast"),
    ],
)
def test_bad_input(x, change, error, message):
    for function in (gp.log_evidence, gp.posterior):
        with pytest.raises(error, match=message):
            function(x, **(PRIOR | change))
    with pytest.raises(error, match=message):
        gp.elbo(x, **(PRIOR | change), **GUIDE)
    with pytest.raises(error, match=message):
        gp.gradient_variance(x, **(PRIOR | change), **GUIDE, estimator="trace")


def test_unknown_estimators():
    with pytest.raises(ValueError, match="Did you mean 'trace'"):
        gp.gradient_variance(X, **GUIDE, estimator="trase")
