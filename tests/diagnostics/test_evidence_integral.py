"""The integrated evidence against closed forms, mpmath and scipy's normalising constants."""

import math

import mpmath
import pytest
import torch
from torch.distributions import (
    Beta,
    Cauchy,
    Exponential,
    Gamma,
    MultivariateNormal,
    Normal,
    Uniform,
    constraints,
)

from ppl_vae.closed_forms import exponential_normal, linear_gaussian
from ppl_vae.diagnostics import integrate_evidence


def toy(x, prior_rate, noise_scale):
    def log_joint(z):
        log_prior = Exponential(prior_rate).log_prob(z[..., 0])
        return log_prior + Normal(z, noise_scale).log_prob(x).sum(-1)

    return log_joint


@pytest.mark.parametrize(
    ("x", "prior_rate", "noise_scale"),
    [
        ([1.2, 0.7, 1.1], 1.0, 1.0),
        ([3.0], 2.0, 0.5),
        ([1.0], 1e4, 1.0),  # the posterior lies against 0, 1e4 times narrower than the search
        ([5.0], 1.0, 1e-3),
        ([-30.0], 1.0, 1.0),
        ([1.0], 1e-3, 1e3),
        ([1e3] * 5, 1.0, 1.0),
    ],
)
def test_agrees_with_the_toy(x, prior_rate, noise_scale):
    """To 1e-10, in any corner, starting from a unit scale at 0."""
    x = torch.tensor(x)
    exact = exponential_normal.log_evidence(x, prior_rate=prior_rate, noise_scale=noise_scale)
    found = integrate_evidence(
        toy(x, prior_rate, noise_scale), dim=1, support=constraints.positive
    )
    gap = abs(found.mean.item() - exact.item())
    assert gap < 1e-10
    assert gap <= found.standard_error
    assert found.standard_error < 1e-10
    assert found.warning == ""


def test_agrees_with_a_batch_of_toys():
    x = 3 * torch.randn(7, 3)
    found = integrate_evidence(
        toy(x, 1.0, 1.0), dim=1, loc=torch.ones(7, 1), support=constraints.positive
    )
    exact = exponential_normal.log_evidence(x)
    assert found.mean.shape == (7,)
    torch.testing.assert_close(found.mean, exact, rtol=0, atol=1e-10)


@pytest.mark.parametrize("latent_dim", [1, 2])
@pytest.mark.parametrize("noise_scale", [2.0, 0.1])
def test_agrees_with_the_linear_gaussian_model(latent_dim, noise_scale):
    weight, loc = torch.randn(5, latent_dim), torch.randn(5)
    x = 2 * torch.randn(3, 5)

    def log_joint(z):
        log_prior = Normal(0.0, 1.0).log_prob(z).sum(-1)
        return log_prior + Normal(z @ weight.T + loc, noise_scale).log_prob(x).sum(-1)

    found = integrate_evidence(log_joint, dim=latent_dim, loc=torch.zeros(3, latent_dim))
    exact = linear_gaussian.log_evidence(x, weight, loc, noise_scale)
    torch.testing.assert_close(found.mean, exact, rtol=1e-13, atol=1e-10)
    assert bool(((found.mean - exact).abs() <= found.standard_error).all())
    assert found.warning == ""


def test_a_narrow_ridge_is_found():
    """A posterior whose correlation is 0.9999, far from where the search begins."""
    factor = torch.linalg.cholesky(torch.tensor([[1.0, 0.9999], [0.9999, 1.0]]))
    normal = MultivariateNormal(torch.tensor([40.0, -200.0]), scale_tril=factor)
    found = integrate_evidence(lambda z: normal.log_prob(z) - 3000, dim=2)
    assert found.mean.item() == pytest.approx(-3000, abs=1e-9)


def test_logistic_evidence_against_mpmath():
    """A Bernoulli likelihood under a Normal prior: no closed form."""
    pixels, slopes = [1.0, 0.0, 1.0], [2.0, -1.5, 40.0]

    def log_joint(z):
        logits = z * torch.tensor(slopes)
        likelihood = torch.distributions.Bernoulli(logits=logits)
        return Normal(0.0, 1.0).log_prob(z[..., 0]) + likelihood.log_prob(
            torch.tensor(pixels)
        ).sum(-1)

    with mpmath.workdps(30):

        def joint(z):
            result = mpmath.npdf(z)
            for pixel, slope in zip(pixels, slopes, strict=True):
                logit = slope * z
                result /= 1 + mpmath.exp(-logit if pixel else logit)
            return result

        exact = float(mpmath.log(mpmath.quad(joint, [-9, -1, -0.1, 0, 0.1, 0.5, 2, 9])))
    found = integrate_evidence(log_joint, dim=1)
    assert abs(found.mean.item() - exact) <= found.standard_error < 1e-10


@pytest.mark.parametrize(
    ("name", "support", "loc"),
    [
        ("uniform", constraints.interval(2.0, 5.0), 3.0),
        ("beta", constraints.unit_interval, 0.9),
        ("gamma", constraints.positive, 0.0),
        ("cauchy", constraints.real, 0.0),
        ("mirrored", constraints.less_than(1.0), 0.0),
        ("far", constraints.real, 0.0),
    ],
)
def test_densities_integrate_to_one(name, support, loc):
    density = {
        "uniform": lambda: Uniform(2.0, 5.0).log_prob,
        "beta": lambda: Beta(30.0, 0.7).log_prob,
        "gamma": lambda: Gamma(0.3, 1e3).log_prob,
        "cauchy": lambda: Cauchy(3.0, 1e-4).log_prob,
        "mirrored": lambda: lambda z: Gamma(2.0, 1.0).log_prob(1 - z),
        "far": lambda: Normal(1e6, 10.0).log_prob,
    }[name]()
    found = integrate_evidence(lambda z: density(z[..., 0]), dim=1, support=support, loc=loc)
    # The pole of the Beta is at 1, where numbers are 1e-16 apart.
    assert abs(found.mean.item()) < (1e-9 if name in ("beta", "far") else 1e-11)
    assert found.warning == ""


def test_float32_keeps_its_dtype():
    normal = Normal(torch.tensor(3.0, dtype=torch.float32), 1e-2)
    loc = torch.zeros(2, 1, dtype=torch.float32)
    found = integrate_evidence(lambda z: normal.log_prob(z[..., 0]), dim=1, loc=loc)
    assert found.mean.dtype == torch.float32
    assert bool((found.mean.abs() <= found.standard_error).all())
    assert bool((found.standard_error < 1e-3).all())


def test_says_what_it_could_not_do():
    flat = integrate_evidence(lambda z: 0 * z[..., 0], dim=1, num_points=2000)
    assert "the search did not settle" in flat.warning
    assert "did not come below" in flat.warning
    kinks = integrate_evidence(
        lambda z: Normal(0.0, 1.0).log_prob(z[..., 0]) - (30 * z[..., 0]).cos().abs(),
        dim=1,
        num_points=300,
    )
    assert "raise num_points" in kinks.warning
    assert kinks.standard_error > 1e-6


def test_num_samples_counts_every_point():
    points = []

    def log_joint(z):
        points.append(len(z))
        return Normal(0.0, 1.0).log_prob(z).sum(-1)

    for dim in (1, 2):
        points.clear()
        found = integrate_evidence(log_joint, dim=dim, num_points=2000)
        assert found.num_samples == sum(points)
        assert found.mean.shape == ()


@pytest.mark.parametrize(
    ("change", "error", "message"),
    [
        ({"dim": 3}, ValueError, "dim of 1 or 2; got 3"),
        ({"dim": 1.0}, TypeError, "dim as an int"),
        ({"dim": 2, "loc": torch.zeros(4, 3)}, ValueError, "shapes that broadcast"),
        ({"loc": torch.zeros(4, 3)}, ValueError, r"of shape \(\*batch, 1\); got \(4, 3\)"),
        ({"loc": torch.zeros(0, 1)}, ValueError, "at least one entry"),
        ({"loc": math.inf}, ValueError, "loc: finite numbers only"),
        ({"scale": 0.0}, ValueError, "scale: finite numbers above 0"),
        ({"num_points": 0}, ValueError, "num_points of at least 1"),
        ({"tolerance": -1.0}, ValueError, "tolerance finite and above 0"),
        ({"support": constraints.simplex}, TypeError, "a half-line or an interval"),
        ({"log_joint": lambda z: z}, ValueError, r"log_joint\(z\) of shape"),
        ({"log_joint": lambda z: z[..., 0].log()}, ValueError, "nan at z = "),
        ({"log_joint": lambda z: z[..., 0].square().exp()}, ValueError, "inf at z = "),
        ({"log_joint": lambda z: z[..., 0] - math.inf}, ValueError, "minus infinity at every"),
    ],
    ids=lambda value: str(value)[:25],
)
def test_bad_input(change, error, message):
    with pytest.raises(error, match=message):
        integrate_evidence(**{"log_joint": lambda z: -z[..., 0].square(), "dim": 1, **change})


@pytest.mark.cuda
@pytest.mark.skipif(not torch.cuda.is_available(), reason="no CUDA device")
def test_cuda():
    x = 3 * torch.randn(4, 3, device="cuda")
    found = integrate_evidence(
        toy(x, 1.0, 1.0),
        dim=1,
        loc=torch.ones(4, 1, device="cuda"),
        support=constraints.positive,
    )
    assert found.mean.device == x.device
    torch.testing.assert_close(found.mean, exponential_normal.log_evidence(x), rtol=0, atol=1e-10)
