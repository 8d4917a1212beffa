"""The Gaussian chain against mpmath's densities and quadrature, and against Pyro's estimators."""

import math
import warnings

import mpmath as mp
import pyro
import pyro.distributions as dist
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from pyro.infer import Trace_ELBO, TraceMeanField_ELBO
from torch.autograd import gradcheck, gradgradcheck

from ppl_vae.closed_forms import gaussian_chain as chain

mp.mp.dps = 32
BOTTOM_UP = {"a": 0.6, "s1": 0.7, "b": 0.5, "s2": 0.8}
TOP_DOWN = {"c": 0.4, "s2": 0.8, "d": 0.3, "e": 0.6, "s1": 0.7}
SHIFTS = {"bottom-up": {"a0": 0.2, "b0": -0.3}, "top-down": {"c0": 0.2, "f": -0.3}}
CASES = {"bottom-up": BOTTOM_UP, "top-down": TOP_DOWN}
STEP = mp.mpf("0.6")
GRID = [STEP * i for i in range(-18, 19)]


def log_normal(y, loc, scale):
    return -mp.log(2 * mp.pi * scale**2) / 2 - ((y - loc) / scale) ** 2 / 2


def site_densities(x, guide, u, v, p):
    """z1, z2 and log q of each at two independent standard Normal draws."""
    if guide == "bottom-up":
        loc1 = p["a"] * x + p["a0"]
        z1 = loc1 + p["s1"] * u
        loc2 = p["b"] * z1 + p["b0"]
        z2 = loc2 + p["s2"] * v
    else:
        loc2 = p["c"] * x + p["c0"]
        z2 = loc2 + p["s2"] * v
        loc1 = p["d"] * z2 + p["e"] * x + p["f"]
        z1 = loc1 + p["s1"] * u
    return z1, z2, loc1, log_normal(z1, loc1, p["s1"]) + log_normal(z2, loc2, p["s2"])


def integrate(function):
    """Expectation over two standard Normals; the trapezium rule errs by exp(-2 pi^2 / step^2)."""
    weights = [STEP * mp.npdf(u) for u in GRID]
    return mp.fsum(
        wu * wv * function(u, v)
        for u, wu in zip(GRID, weights, strict=True)
        for v, wv in zip(GRID, weights, strict=True)
    )


def exact(parameters, guide):
    named = dict.fromkeys(("a0", "b0", "c0", "f"), 0.0) | parameters
    return {name: mp.mpf(value) for name, value in named.items()}


def quadrature_elbo(x, guide, parameters):
    x, p = mp.mpf(x), exact(parameters, guide)

    def log_ratio(u, v):
        z1, z2, _, log_q = site_densities(x, guide, u, v, p)
        log_p = log_normal(z2, 0, 1) + log_normal(z1, z2, 1) + log_normal(x, z1, 1)
        return log_p - log_q

    return integrate(log_ratio)


def quadrature_mean_field(x, guide, parameters):
    """The expectation of the estimator that takes each site's KL at the other site's sample."""
    x, p = mp.mpf(x), exact(parameters, guide)

    def kl(loc_q, scale_q, loc_p):
        return (scale_q**2 + (loc_q - loc_p) ** 2 - 1) / 2 - mp.log(scale_q)

    def value(u, v):
        z1, z2, loc1, _ = site_densities(x, guide, u, v, p)
        loc2 = p["b"] * z1 + p["b0"] if guide == "bottom-up" else p["c"] * x + p["c0"]
        return log_normal(x, z1, 1) - kl(loc1, p["s1"], z2) - kl(loc2, p["s2"], 0)

    return integrate(value)


def relative(got, want, scale=0):
    """Error of `got` in units of the answer, or of the largest term where terms cancel."""
    got = mp.mpf(float(got))
    return float(abs(got - want) / max(abs(want), mp.mpf(scale)))


# Against independent sources


def test_the_known_numbers():
    x = torch.tensor(1.3)
    assert chain.elbo(x, **BOTTOM_UP).item() == pytest.approx(-1.794, abs=5e-4)
    assert chain.mean_field_bias(x, **BOTTOM_UP).item() == pytest.approx(-0.245, rel=1e-14)
    total = chain.elbo(x, **BOTTOM_UP) + chain.mean_field_bias(x, **BOTTOM_UP)
    assert total.item() == pytest.approx(-2.04, abs=2e-3)


@pytest.mark.parametrize("guide", CASES)
@pytest.mark.parametrize("shifted", [False, True])
@pytest.mark.parametrize("x", [0.0, 1.3, -40.0])
def test_elbo_and_bias_agree_with_quadrature(guide, shifted, x):
    parameters = CASES[guide] | (SHIFTS[guide] if shifted else {})
    truth = quadrature_elbo(x, guide, parameters)
    got = chain.elbo(torch.tensor(x), guide=guide, **parameters)
    assert relative(got, truth) < 1e-12
    bias = chain.mean_field_bias(torch.tensor(x), guide=guide, **parameters)
    wrong = quadrature_mean_field(x, guide, parameters)
    assert float(abs(mp.mpf(bias.item()) - (wrong - truth))) < 1e-15


@pytest.mark.parametrize("guide", CASES)
@settings(max_examples=8, deadline=None, derandomize=True)
@given(data=st.data())
def test_elbo_agrees_with_quadrature_in_the_corners(guide, data):
    number = st.floats(-1e3, 1e3)
    scale = st.floats(-8, 8).map(lambda e: 10.0**e)
    names = [*CASES[guide], *SHIFTS[guide]]
    parameters = {n: data.draw(scale if n[0] == "s" else number, label=n) for n in names}
    x = data.draw(number, label="x")
    truth = quadrature_elbo(x, guide, parameters)
    # The logarithms can cancel the squares: then the digits of the terms are what can be had.
    terms = 1 + sum(abs(math.log(parameters[s])) for s in ("s1", "s2"))
    for dtype, bound in ((torch.float64, 1e-12), (torch.float32, 2e-6)):
        given_ = {n: torch.tensor(v, dtype=dtype) for n, v in parameters.items()}
        given_["x"] = torch.tensor(x, dtype=dtype)
        if dtype == torch.float32:
            held = {n: v.item() for n, v in given_.items()}
            truth = quadrature_elbo(held.pop("x"), guide, held)
        got = chain.elbo(given_.pop("x"), guide=guide, **given_)
        assert got.dtype == dtype
        assert relative(got.double(), truth, terms) < bound


@pytest.mark.parametrize("x", [0.0, 1.3, -7.0, 1e8])
def test_evidence_and_posterior_agree_with_quadrature_and_bayes(x):
    evidence = chain.log_evidence(torch.tensor(x))
    assert relative(evidence, log_normal(mp.mpf(x), 0, mp.sqrt(3))) < 1e-14
    z = torch.randn(5, 2) + x / 3
    posterior = chain.posterior(torch.tensor(x))
    for z1, z2 in z.tolist():
        joint = log_normal(z2, 0, 1) + log_normal(z1, z2, 1) + log_normal(mp.mpf(x), z1, 1)
        want = joint - log_normal(mp.mpf(x), 0, mp.sqrt(3))
        got = posterior.log_prob(torch.tensor([z1, z2]))
        assert relative(got, want, mp.mpf(x) ** 2 / 6 + 1) < 1e-13
    third = torch.tensor(1 / 3)
    torch.testing.assert_close(
        posterior.covariance_matrix, third * torch.tensor([[2.0, 1.0], [1.0, 2.0]])
    )


@pytest.mark.parametrize("guide", CASES)
def test_the_optimal_guide_is_the_posterior(guide):
    x = torch.linspace(-5, 5, 11)
    optimal = chain.optimal_bottom_up() if guide == "bottom-up" else chain.optimal_top_down()
    parameters = {n: torch.tensor(v, requires_grad=True) for n, v in optimal._asdict().items()}
    value = chain.elbo(x, guide=guide, **parameters)
    torch.testing.assert_close(value, chain.log_evidence(x), rtol=1e-14, atol=1e-14)
    for gradient in torch.autograd.grad(value.sum(), list(parameters.values())):
        assert gradient.abs() < 1e-13


@pytest.mark.parametrize("guide", CASES)
def test_elbo_is_evidence_less_the_divergence_to_the_posterior(guide):
    x = torch.tensor([-2.0, 0.0, 1.3])
    p = CASES[guide] | SHIFTS[guide]
    zero = torch.zeros(())
    if guide == "bottom-up":
        loc1 = p["a"] * x + p["a0"]
        mean = torch.stack([loc1, p["b"] * loc1 + p["b0"]], -1)
        tril = torch.tensor([[p["s1"], zero], [p["b"] * p["s1"], p["s2"]]])
    else:
        loc2 = p["c"] * x + p["c0"]
        mean = torch.stack([p["d"] * loc2 + p["e"] * x + p["f"], loc2], -1)
        root = torch.tensor([[p["d"] * p["s2"], p["s1"]], [p["s2"], zero]])
        tril = torch.linalg.cholesky(root @ root.T)
    q = torch.distributions.MultivariateNormal(mean, scale_tril=tril)
    gap = torch.distributions.kl_divergence(q, chain.posterior(x))
    got = chain.elbo(x, guide=guide, **p)
    torch.testing.assert_close(got, chain.log_evidence(x) - gap, rtol=1e-13, atol=1e-13)


def pyro_elbos(guide, x, parameters, num_replicates=40, num_particles=4000):
    p = dict.fromkeys(("a0", "b0", "c0", "f"), 0.0) | parameters

    def model():
        z2 = pyro.sample("z2", dist.Normal(0.0, 1.0))
        z1 = pyro.sample("z1", dist.Normal(z2, 1.0))
        pyro.sample("x", dist.Normal(z1, 1.0), obs=x)

    def bottom_up():
        z1 = pyro.sample("z1", dist.Normal(p["a"] * x + p["a0"], p["s1"]))
        pyro.sample("z2", dist.Normal(p["b"] * z1 + p["b0"], p["s2"]))

    def top_down():
        z2 = pyro.sample("z2", dist.Normal(p["c"] * x + p["c0"], p["s2"]))
        pyro.sample("z1", dist.Normal(p["d"] * z2 + p["e"] * x + p["f"], p["s1"]))

    for estimator in (Trace_ELBO, TraceMeanField_ELBO):
        loss = estimator(num_particles, max_plate_nesting=0, vectorize_particles=True)
        with warnings.catch_warnings():
            # Pyro sees that the bottom-up sites come in another order, and only warns.
            warnings.filterwarnings("ignore", message="Failed to verify mean field restriction")
            run = bottom_up if guide == "bottom-up" else top_down
            values = torch.tensor([-loss.loss(model, run) for _ in range(num_replicates)])
        yield values.mean(), values.std() / num_replicates**0.5


@pytest.mark.parametrize("guide", CASES)
def test_pyro_estimators_agree_within_their_errors(guide):
    x, parameters = torch.tensor(1.3), CASES[guide] | SHIFTS[guide]
    (trace, trace_error), (mean_field, mean_field_error) = pyro_elbos(guide, x, parameters)
    truth = chain.elbo(x, guide=guide, **parameters)
    bias = chain.mean_field_bias(x, guide=guide, **parameters)
    assert abs(trace - truth) < 4.5 * trace_error
    assert abs(mean_field - truth - bias) < 4.5 * mean_field_error
    if guide == "bottom-up":
        assert abs(mean_field - truth) > 20 * mean_field_error


# Gradients


@pytest.mark.parametrize("guide", CASES)
def test_gradients(guide):
    names = list(CASES[guide] | SHIFTS[guide])
    values = [torch.tensor([v]).requires_grad_() for v in (CASES[guide] | SHIFTS[guide]).values()]
    x = torch.tensor([1.3, -0.2], requires_grad=True)

    def value(x, *parameters):
        return chain.elbo(x, guide=guide, **dict(zip(names, parameters, strict=True)))

    assert gradcheck(value, (x, *values))
    assert gradgradcheck(value, (x, *values))


def test_the_bias_has_a_gradient():
    b, s1 = torch.tensor(0.5, requires_grad=True), torch.tensor(0.7, requires_grad=True)
    got = torch.autograd.grad(chain.mean_field_bias(b=b, s1=s1), (b, s1))
    torch.testing.assert_close(torch.stack(got), torch.tensor([-0.49, -0.7]))
