"""The three gaps against closed forms and against an independent optimiser."""

import math

import numpy as np
import pyro
import pyro.distributions as dist
import pytest
import torch
from scipy import integrate, optimize
from torch import nn

from ppl_vae import BernoulliVAE, LinearGaussian, Pair, inference_gap
from ppl_vae.closed_forms import linear_gaussian


def model_of(pair):
    decoder = pair.decoder
    return decoder.weight, decoder.loc, decoder.log_scale.exp()


def mean_field(posterior):
    """The diagonal Gaussian nearest to a Gaussian posterior: its mean, and its precisions."""
    precision = torch.linalg.inv(posterior.covariance_matrix).diagonal(dim1=-2, dim2=-1)
    return posterior.mean, precision.rsqrt()


@pytest.mark.parametrize("latent_dim", [1, 2, 4])  # two by a Gauss rule, one by draws
@pytest.mark.parametrize("family", ["diagonal", "full"])
def test_linear_gaussian(latent_dim, family):
    pair = LinearGaussian(5, latent_dim, noise_scale=0.6, seed=3)
    x = pair.sample(6, seed=1)
    gap = inference_gap(pair, x, family=family, tolerance=1e-5, device="cpu")
    with torch.no_grad():
        evidence, elbo = pair.exact.log_evidence(x), pair.exact.elbo(x)
        best = linear_gaussian.elbo(x, *model_of(pair), *mean_field(pair.exact.posterior(x)))
        found = linear_gaussian.elbo_full(x, *model_of(pair), gap.best.loc, gap.best.scale_tril)
    best = evidence if family == "full" else best
    close = {"rtol": 0, "atol": 1e-8}
    torch.testing.assert_close(gap.log_evidence.mean, evidence, **close)
    torch.testing.assert_close(gap.elbo.mean, elbo, **close)
    torch.testing.assert_close(gap.best_elbo.mean, best, **close)
    torch.testing.assert_close(found, best, **close)
    torch.testing.assert_close(gap.total.mean, evidence - elbo, **close)
    torch.testing.assert_close(gap.approximation.mean, evidence - best, **close)
    torch.testing.assert_close(gap.amortisation.mean, best - elbo, **close)
    assert bool(gap.converged.all())
    if family == "diagonal" and latent_dim > 1:
        assert bool((gap.approximation.mean > 0.01).all())


def exact_guide(pair, factor=1.0):
    """Give a linear pair with orthogonal weights the guide that is its posterior."""
    with torch.no_grad():
        decoder, encoder = pair.decoder, pair.encoder
        decoder.weight.copy_(torch.linalg.qr(decoder.weight).Q * torch.tensor([2.0, 0.7, 1.3]))
        noise = decoder.log_scale.exp()
        precision = 1 + (decoder.weight / noise).square().sum(0)
        encoder.weight.copy_(decoder.weight.mT / noise**2 / precision.unsqueeze(-1))
        encoder.log_scale.copy_(-0.5 * precision.log() + math.log(factor))


@pytest.mark.parametrize("family", ["diagonal", "full"])
def test_an_exact_guide_has_no_gap(family):
    pair = LinearGaussian(6, 3, noise_scale=0.5, seed=2)
    exact_guide(pair)
    x = pair.sample(8, seed=0)
    gap = inference_gap(pair, x, family=family, device="cpu")
    for found in (gap.total, gap.approximation, gap.amortisation):
        assert float(found.mean.abs().max()) < 1e-10
        assert float(found.standard_error.max()) < 1e-10
    torch.testing.assert_close(gap.best.loc, gap.guide.loc, rtol=0, atol=1e-8)


def test_a_guide_that_is_only_too_wide_has_an_amortisation_gap_only():
    pair = LinearGaussian(6, 3, noise_scale=0.5, seed=2)
    exact_guide(pair, factor=1.5)
    x = pair.sample(8, seed=0)
    gap = inference_gap(pair, x, tolerance=1e-6, device="cpu")
    # KL of Normal(m, (1.5 s)^2) to Normal(m, s^2), three times.
    kl = 3 * (0.5 * 1.5**2 - 0.5 - math.log(1.5))
    assert float(gap.approximation.mean.abs().max()) < 1e-8
    assert float((gap.amortisation.mean - kl).abs().max()) < 1e-8


class Bent(Pair):
    """x ~ Normal(z^2 + tilt z, noise) in every dimension, so that the posterior is not Gaussian.

    It has two modes in every dimension, of different height; the guide sits at the lower.
    """

    def __init__(self, dim=1, tilt=0.3, noise=0.4, loc=-1.2, log_scale=-1.0):
        super().__init__(dim=dim, tilt=tilt, noise=noise, loc=loc, log_scale=log_scale)
        self.dim, self.tilt, self.noise = dim, tilt, noise
        self.loc = nn.Parameter(torch.full((dim,), loc))
        self.log_scale = nn.Parameter(torch.full((dim,), log_scale))

    def model(self, x):
        self.begin(x)
        with pyro.plate("data", len(x)):
            z = pyro.sample("z", dist.Normal(x.new_zeros(self.dim), 1.0).to_event(1))
            mean = z.square() + self.tilt * z
            pyro.sample("x", dist.Normal(mean, self.noise).to_event(1), obs=x)

    def guide(self, x):
        self.begin(x)
        with pyro.plate("data", len(x)):
            pyro.sample("z", dist.Normal(self.loc, self.log_scale.exp()).to_event(1))


class Referee:
    """Evidence and ELBOs of one dimension of `Bent`, by scipy and numpy."""

    def __init__(self, x, tilt=0.3, noise=0.4):
        self.x, self.tilt, self.noise = x, tilt, noise

    def log_joint(self, z):
        error = (self.x - z * z - self.tilt * z) / self.noise
        return -0.5 * (z * z + error**2) - math.log(2 * math.pi * self.noise)

    def elbo(self, loc, log_scale):
        e = np.linspace(-9, 9, 2001)
        weight = np.exp(-0.5 * e * e) / math.sqrt(2 * math.pi)
        entropy = log_scale + 0.5 * math.log(2 * math.pi * math.e)
        return np.trapezoid(weight * self.log_joint(loc + math.exp(log_scale) * e), e) + entropy

    def best_elbo(self):
        starts = [[loc, -1.5] for loc in (-1.5, -0.5, 0.5, 1.5)]
        options = {"method": "BFGS", "options": {"gtol": 1e-7}}
        return -min(optimize.minimize(lambda p: -self.elbo(*p), s, **options).fun for s in starts)

    def log_evidence(self):
        options = {"epsabs": 1e-13, "epsrel": 1e-12, "limit": 500}
        return math.log(integrate.quad(lambda z: math.exp(self.log_joint(z)), -8, 8, **options)[0])


def test_two_modes_against_scipy():
    pair = Bent()
    x = torch.tensor([[0.5], [1.0], [2.0], [3.0]])
    gap = inference_gap(pair, x, tolerance=1e-6, evidence_tolerance=1e-7, device="cpu")
    assert gap.method == "quadrature"
    for number, value in enumerate(x[:, 0].tolist()):
        exact = Referee(value)
        assert float(gap.log_evidence.mean[number]) == pytest.approx(
            exact.log_evidence(), abs=1e-6
        )
        assert float(gap.best_elbo.mean[number]) == pytest.approx(exact.best_elbo(), abs=1e-6)
        assert float(gap.elbo.mean[number]) == pytest.approx(exact.elbo(-1.2, -1.0), abs=1e-9)
    # For the first one Gaussian over both modes is best, else the mode far from the guide.
    assert float(gap.best.scale_tril[0]) > 0.4
    assert bool((gap.best.loc[1:] > 0.5).all())
    assert bool((gap.amortisation.mean > 0.05).all())


def test_standard_errors_of_draws_are_right():
    pair = Bent(3, loc=1.1, log_scale=-1.2)
    x = torch.linspace(0.5, 3.0, 120).reshape(40, 3)
    gap = inference_gap(pair, x, num_samples=4000, num_starts=1, num_evidence_samples=50)
    elbo = torch.tensor([sum(Referee(v).elbo(1.1, -1.2) for v in row) for row in x.tolist()])
    best = torch.tensor(
        [
            sum(Referee(v).elbo(a, math.log(b)) for v, a, b in zip(*rows, strict=True))
            for rows in zip(
                x.tolist(),
                gap.best.loc.tolist(),
                gap.best.scale_tril.diagonal(dim1=-2, dim2=-1).tolist(),
                strict=True,
            )
        ]
    )
    for found, exact in (
        (gap.elbo, elbo),
        (gap.best_elbo, best),
        (gap.amortisation, best - elbo),
    ):
        z_scores = found.z_score(exact)
        assert float(z_scores.abs().max()) < 4.5
        assert 0.5 < float(z_scores.square().mean()) < 1.7


def test_common_noise_sharpens_the_difference():
    pair = Bent(3, loc=1.0, log_scale=-1.8)
    x = torch.full((10, 3), 1.1**2 + 0.3 * 1.1)  # a mode a little to the right of the guide
    gap = inference_gap(pair, x, num_starts=1, num_evidence_samples=50)
    apart = torch.hypot(gap.elbo.standard_error, gap.best_elbo.standard_error)
    assert bool((gap.amortisation.mean > 0.01).all())
    assert bool((gap.amortisation.standard_error < 0.5 * apart).all())


def test_the_guide_alone_as_a_start_stays_in_its_mode():
    pair = Bent()
    x = torch.tensor([[2.0], [3.0]])
    stuck = inference_gap(pair, x, num_starts=1, device="cpu")
    free = inference_gap(pair, x, num_starts=2, device="cpu")
    assert bool((stuck.best.loc < 0).all())
    assert bool((free.best.loc > 0).all())
    assert bool((free.best_elbo.mean > stuck.best_elbo.mean + 0.05).all())


@pytest.mark.parametrize("latent_dim", [2, 3])
def test_networks(latent_dim):
    pair = BernoulliVAE((1, 4, 4), latent_dim, hidden=(8,), seed=1)
    with torch.no_grad():  # far from linear, so that no Gaussian is the posterior
        for parameter in pair.decoder.parameters():
            parameter.mul_(3.0)
    x = pair.sample(12, seed=0)
    diagonal, full = (
        inference_gap(pair, x, family=family, device="cpu") for family in ("diagonal", "full")
    )
    for gap in (diagonal, full):
        error = gap.approximation.standard_error
        assert bool((gap.approximation.mean > -4.5 * error - 1e-3).all())
        assert bool((gap.amortisation.mean > -4.5 * gap.amortisation.standard_error).all())
        whole = gap.approximation.mean + gap.amortisation.mean
        torch.testing.assert_close(gap.total.mean, whole, rtol=0, atol=1e-9)
    # The diagonal ones are among the full ones.
    better = full.best_elbo.mean - diagonal.best_elbo.mean
    error = torch.hypot(full.best_elbo.standard_error, diagonal.best_elbo.standard_error)
    assert bool((better > -4.5 * error - 1e-3).all())
    assert float(better.mean()) > 0.001
