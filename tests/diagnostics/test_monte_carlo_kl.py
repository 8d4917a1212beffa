import math
import sys

import numpy as np
import pyro.distributions as pyro_dist
import pytest
import scipy.stats
import torch
from scipy.integrate import quad
from torch.distributions import (
    Bernoulli,
    Distribution,
    Exponential,
    Gamma,
    Independent,
    Laplace,
    MultivariateNormal,
    Normal,
)

from ppl_vae.closed_forms import kl
from ppl_vae.diagnostics import monte_carlo_kl

module = sys.modules["ppl_vae.diagnostics.sampling.monte_carlo_kl"]


class Scripted(Distribution):
    """Draws that are the rows of a table, in turn; its log density is 0, so l = log p(row)."""

    arg_constraints = {}

    def __init__(self, table):
        self.table, self.position = table, 0
        super().__init__(table.shape[1:], validate_args=False)

    def sample(self, sample_shape):
        start, self.position = self.position, self.position + sample_shape[0]
        return self.table[start : self.position]

    def log_prob(self, value):
        return torch.zeros_like(value)


class Itself(Scripted):
    """A log density that is its argument."""

    def log_prob(self, value):
        return value


def scripted(log_ratios, estimator="k1"):
    q, p = Scripted(log_ratios), Itself(log_ratios)
    return monte_carlo_kl(q, p, num_samples=len(log_ratios), estimator=estimator)


def normals(count, *, scales=(0.3, 3.0), reach=3.0, seed=0):
    generator = torch.Generator().manual_seed(seed)
    u = torch.rand(4, count, generator=generator)
    p_loc, p_scale = 20 * u[0] - 10, (6 * u[1] - 3).exp()
    scale = scales[0] * (scales[1] / scales[0]) ** u[2]
    loc = p_loc + reach * (2 * u[3] - 1) * p_scale
    return Normal(loc, scale * p_scale), Normal(p_loc, p_scale)


def standardised(q, p):
    return (q.loc - p.loc) / p.scale, q.scale / p.scale


def by_gauss_hermite(function, m, s, points=200):
    """E[function(l)] for q = Normal(m, s), p = Normal(0, 1)."""
    e, weights = np.polynomial.hermite_e.hermegauss(points)
    log_ratio = e**2 / 2 + np.log(s) - (m + s * e) ** 2 / 2
    return weights @ function(log_ratio) / math.sqrt(2 * math.pi)


@pytest.mark.parametrize("seed", range(3))
def test_k1_is_unbiased_for_a_thousand_normals(seed):
    q, p = normals(1000, seed=seed)
    result = monte_carlo_kl(q, p, num_samples=1000, seed=seed)
    exact = kl.kl_normal_normal(q.loc, q.scale, p.loc, p.scale)
    assert result.z_score(exact).abs().max() < 4.5
    assert result.warning == ""
    assert result.num_samples == 1000


@pytest.mark.parametrize("seed", range(3))
def test_k3_is_unbiased_where_it_has_a_variance(seed):
    q, p = normals(200, scales=(1.0, 1.5), reach=0.5, seed=seed)
    result = monte_carlo_kl(q, p, num_samples=20_000, estimator="k3", seed=seed)
    exact = kl.kl_normal_normal(q.loc, q.scale, p.loc, p.scale)
    assert result.z_score(exact).abs().max() < 4.5
    assert result.warning == ""
    k1 = monte_carlo_kl(q, p, num_samples=20_000, seed=seed)
    assert (result.standard_error < k1.standard_error).all()


def test_k2_has_its_own_mean_and_bias():
    """E[l^2] / 2 = (Var(k1) + KL^2) / 2, also by Gauss-Hermite, and not the divergence."""
    q, p = normals(500, reach=2.0)
    exact = kl.kl_normal_normal(q.loc, q.scale, p.loc, p.scale)
    m, s = standardised(q, p)
    own = ((s**2 - 1).square() / 2 + (m * s).square() + exact.square()) / 2
    for i in range(0, 500, 50):
        quadrature = by_gauss_hermite(lambda x: x**2 / 2, m[i].item(), s[i].item(), 20)
        assert own[i].item() == pytest.approx(quadrature, rel=1e-11)
    result = monte_carlo_kl(q, p, num_samples=4000, estimator="k2")
    assert result.z_score(own).abs().max() < 4.5
    assert (result.z_score(exact).abs() > 4.5).double().mean() > 0.5
    assert (result.mean >= 0).all()


@pytest.mark.parametrize("estimator", ["k1", "k3"])
@pytest.mark.parametrize(
    ("q", "p", "exact"),
    [
        (Exponential(3.0), Exponential(2.0), kl.kl_exponential_exponential(3.0, 2.0)),
        (Gamma(3.0, 2.0), Gamma(2.0, 1.5), kl.kl_gamma_gamma(3.0, 2.0, 2.0, 1.5)),
        (Laplace(0.5, 1.0), Laplace(0.0, 0.9), kl.kl_laplace_laplace(0.5, 1.0, 0.0, 0.9)),
        (Bernoulli(logits=0.7), Bernoulli(logits=-1), kl.kl_bernoulli_bernoulli(0.7, -1.0)),
    ],
    ids=lambda value: type(value).__name__,
)
def test_other_families(q, p, exact, estimator):
    result = monte_carlo_kl(q, p, num_samples=20_000, estimator=estimator)
    assert abs(result.z_score(exact)) < 4.5
    assert result.warning == ""
    assert result.mean.shape == ()


def test_event_dimensions_are_summed_and_batches_broadcast():
    torch.manual_seed(3)
    q = Normal(torch.randn(4, 1, 5), torch.rand(4, 1, 5) + 0.5)
    p = Normal(torch.randn(3, 5), torch.rand(3, 5) + 0.5)
    exact = kl.kl_normal_normal(q.loc, q.scale, p.loc, p.scale)
    apart = monte_carlo_kl(q, p, num_samples=2000)
    assert apart.mean.shape == (4, 3, 5)
    assert apart.z_score(exact).abs().max() < 4.5
    for summed in (
        (Independent(q, 1), Independent(p, 1)),
        (pyro_dist.Normal(q.loc, q.scale).to_event(1), Independent(p, 1)),
        (Independent(q, 1), MultivariateNormal(p.loc, scale_tril=p.scale.diag_embed())),
    ):
        result = monte_carlo_kl(*summed, num_samples=2000)
        assert result.mean.shape == (4, 3)
        assert result.z_score(exact.sum(-1)).abs().max() < 4.5
        # one unbatched distribution against many, either way round
        one = Normal(torch.zeros(5), torch.ones(5))
        there = monte_carlo_kl(Independent(one, 1), summed[1], num_samples=2000)
        expected = kl.kl_normal_normal(0.0, 1.0, p.loc, p.scale).sum(-1)
        assert there.z_score(expected).abs().max() < 4.5


def test_entries_of_a_batch_are_independent():
    same = Normal(torch.zeros(3), torch.ones(3))
    result = monte_carlo_kl(Normal(0.0, 1.0), Normal(torch.ones(3), 1.0), num_samples=50)
    assert len(set(result.mean.tolist())) == 3
    assert monte_carlo_kl(same, Normal(0.0, 1.0), num_samples=50).mean.tolist() == [0.0] * 3


def test_standard_errors_are_students():
    """With equal scales l is Normal, so z has Student's distribution exactly, even for 5 draws."""
    q, p = Normal(torch.ones(4000), 1.0), Normal(0.0, 1.0)
    for count in (5, 100):
        z = monte_carlo_kl(q, p, num_samples=count).z_score(torch.tensor(0.5))
        assert scipy.stats.kstest(z.numpy(), scipy.stats.t(count - 1).cdf).pvalue > 1e-5


@pytest.mark.parametrize(("m", "s"), [(0.0, 0.2), (1.3, 0.5), (-2.0, 1.0), (0.4, 1.7)])
def test_variance_of_k1_is_its_closed_form(m, s):
    count = 100_000
    result = monte_carlo_kl(Normal(m, s), Normal(0.0, 1.0), num_samples=count)
    variance = result.standard_error.item() ** 2 * count
    exact = (s**2 - 1) ** 2 / 2 + m**2 * s**2
    mean = by_gauss_hermite(lambda x: x, m, s, 20)
    fourth = by_gauss_hermite(lambda x: (x - mean) ** 4, m, s, 20)
    assert abs(variance - exact) < 4.5 * math.sqrt((fourth - exact**2) / count)


@pytest.mark.parametrize(("m", "s"), [(0.0, 1.2), (0.5, 1.5), (1.0, 1.1)])
def test_variance_of_k3_agrees_with_integration(m, s):
    count = 200_000
    result = monte_carlo_kl(Normal(m, s), Normal(0.0, 1.0), num_samples=count, estimator="k3")
    q = scipy.stats.norm(m, s)

    def k3(z):
        log_ratio = scipy.stats.norm.logpdf(z) - q.logpdf(z)
        return np.expm1(log_ratio) - log_ratio

    def moment(function):
        return quad(lambda z: function(k3(z)) * q.pdf(z), m - 12 * s, m + 12 * s, limit=200)[0]

    mean = moment(lambda k: k)
    variance, fourth = (moment(lambda k, n=n: (k - mean) ** n) for n in (2, 4))
    assert mean == pytest.approx((s**2 + m**2 - 1) / 2 - math.log(s), rel=1e-9)
    found = result.standard_error.item() ** 2 * count
    assert abs(found - variance) < 4.5 * math.sqrt((fourth - variance**2) / count)


def test_constant_log_ratio_has_no_error():
    table = torch.full((1000, 2), -0.1)
    result = scripted(table)
    assert result.mean.tolist() == [0.1, 0.1]
    assert result.standard_error.tolist() == [0.0, 0.0]


@pytest.mark.parametrize("elements", [1, 6, 3 * 7, 3 * 250, 3 * 999, 2**20])
@pytest.mark.parametrize("estimator", ["k1", "k2", "k3"])
def test_chunks_do_not_change_the_result(elements, estimator, monkeypatch):
    monkeypatch.setattr(module, "ELEMENTS_AT_ONCE", elements)
    table = torch.randn(1000, 3, generator=torch.Generator().manual_seed(0))
    values = {"k1": -table, "k2": table**2 / 2, "k3": table.exp() - 1 - table}[estimator]
    result = scripted(table, estimator)
    torch.testing.assert_close(result.mean, values.mean(0), rtol=1e-13, atol=1e-14)
    error = values.std(0) / math.sqrt(1000)
    torch.testing.assert_close(result.standard_error, error, rtol=1e-13, atol=0)
    table[700, 1] = -math.inf
    result = scripted(table, estimator)
    assert result.mean.isinf().tolist() == [False, True, False]
    table[3, 1] = math.nan
    assert scripted(table, estimator).mean.isnan().tolist() == [False, True, False]


def test_error_survives_a_large_mean(monkeypatch):
    """Mean 1e9, spread 1: sums of squares would leave no digit of the variance."""
    monkeypatch.setattr(module, "ELEMENTS_AT_ONCE", 100)
    noise = torch.randn(10_000, 2, generator=torch.Generator().manual_seed(0))
    result = scripted(1e9 + noise)
    torch.testing.assert_close(result.standard_error, noise.std(0) / 100, rtol=1e-6, atol=0)
    torch.testing.assert_close(result.mean, -1e9 - noise.mean(0), rtol=1e-15, atol=0)


def test_sums_are_taken_in_float64(monkeypatch):
    monkeypatch.setattr(module, "ELEMENTS_AT_ONCE", 10_000)
    table = torch.rand(200_000, 1, dtype=torch.float32)
    result = scripted(table)
    assert result.mean.dtype == result.standard_error.dtype == torch.float32
    assert result.mean.item() == pytest.approx(-table.double().mean().item(), rel=1e-7)
