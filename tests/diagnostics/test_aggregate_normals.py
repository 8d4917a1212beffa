"""The numbers: against integration, in equality cases, under changes that should not matter."""

import math

import numpy as np
import pytest
import torch
from scipy import integrate
from scipy.special import logsumexp

from ppl_vae.diagnostics import aggregate_normals
from ppl_vae.diagnostics.aggregate.draws import _information_given

SMALL = {
    "one": ([[0.7]], [[0.4]]),
    "apart": ([[-2.0], [0.5], [3.0]], [[0.3], [1.0], [0.5]]),
    "overlapping": ([[-0.3], [0.1], [0.2], [0.4]], [[1.0], [0.9], [0.8], [1.3]]),
    "narrow": ([[0.0], [0.01], [1.0]], [[0.01], [0.02], [0.5]]),
    "plane": ([[0.0, 1.0], [1.0, -1.0], [-1.0, 0.5]], [[0.5, 0.6], [0.9, 0.4], [0.7, 1.0]]),
}


def log_normal(z, loc, scale):
    return -0.5 * ((z - loc) / scale) ** 2 - np.log(scale) - 0.5 * math.log(2 * math.pi)


def line_kl(loc, scale):
    """KL of a one-dimensional mixture to the standard Normal, by adaptive integration."""

    def integrand(z):
        log_q = logsumexp(log_normal(z, loc, scale)) - math.log(len(loc))
        return math.exp(log_q) * (log_q - log_normal(z, 0.0, 1.0))

    ends = sorted({float(e) for k in (-12, -3, 0, 3, 12) for e in loc + k * scale})
    pieces = zip(ends[:-1], ends[1:], strict=True)
    return sum(integrate.quad(integrand, a, b, epsabs=1e-11)[0] for a, b in pieces)


def plane_kl(loc, scale):
    """The same in the plane, by the trapezium rule, which is as good as exact for Normals."""
    line = np.linspace(-12, 12, 601)
    z = np.stack(np.meshgrid(line, line, indexing="ij"))[..., None]
    log_q = logsumexp(sum(log_normal(z[d], loc[:, d], scale[:, d]) for d in (0, 1)), axis=-1)
    log_q -= math.log(len(loc))
    log_p = sum(log_normal(z[d, ..., 0], 0.0, 1.0) for d in (0, 1))
    return integrate.trapezoid(integrate.trapezoid(np.exp(log_q) * (log_q - log_p), line), line)


def random_mixture(seed):
    generator = torch.Generator().manual_seed(seed)
    count = int(torch.randint(1, 40, (), generator=generator))
    latent_dim = int(torch.randint(1, 6, (), generator=generator))
    width, depth = torch.rand(2, generator=generator).tolist()
    loc = 3 * width * torch.randn(count, latent_dim, generator=generator)
    return loc, (2 * depth * torch.randn(count, latent_dim, generator=generator) - depth).exp()


@pytest.mark.parametrize("name", SMALL)
def test_small_mixtures_agree_with_integration(name):
    loc, scale = (np.array(each) for each in SMALL[name])
    result = aggregate_normals(torch.tensor(loc), torch.tensor(scale), num_samples=4000)
    exact = line_kl(loc[:, 0], scale[:, 0]) if loc.shape[1] == 1 else plane_kl(loc, scale)
    kl = 0.5 * (scale**2 + loc**2 - 1) - np.log(scale)
    assert result.mean_kl == pytest.approx(kl.sum(1).mean(), rel=1e-13)
    assert abs(result.aggregate_kl.mean - exact) < 4.5 * result.aggregate_kl.standard_error + 1e-9
    gap = result.mutual_information.mean - (result.mean_kl - exact)
    assert abs(gap) < 4.5 * result.mutual_information.standard_error + 1e-9
    each = result.per_dimension
    for d in range(loc.shape[1]):
        exact = line_kl(loc[:, d], scale[:, d])
        error = 4.5 * each.aggregate_kl.standard_error[d] + 1e-9
        assert abs(each.aggregate_kl.mean[d] - exact) < error
        assert abs(each.mutual_information.mean[d] - (kl[:, d].mean() - exact)) < error
        assert each.mean_kl[d] == pytest.approx(kl[:, d].mean(), rel=1e-13)


@pytest.mark.parametrize("name", ["apart", "plane"])
@pytest.mark.parametrize("num_samples", [100, 301])
def test_standard_errors_are_what_they_say(name, num_samples):
    """Also with a number of draws that the components do not divide."""
    loc, scale = (np.array(each) for each in SMALL[name])
    exact = line_kl(loc[:, 0], scale[:, 0]) if name == "apart" else plane_kl(loc, scale)
    runs = [
        aggregate_normals(
            torch.tensor(loc), torch.tensor(scale), num_samples=num_samples, seed=seed
        ).aggregate_kl
        for seed in range(400)
    ]
    means = torch.tensor([run.mean for run in runs])
    spread = means.std().item()
    assert abs(means.mean().item() - exact) < 4.5 * spread / 20
    claimed = torch.tensor([run.standard_error for run in runs]).square().mean().sqrt().item()
    assert claimed == pytest.approx(spread, rel=0.2)


def test_a_nearly_normal_mixture_leaves_hardly_any_noise():
    """Where q is nearly the prior, the plain estimators have errors of about 0.02 here."""
    line = torch.distributions.Normal(0.0, 0.6).icdf(torch.linspace(0.001, 0.999, 500))
    result = aggregate_normals(line.unsqueeze(-1), torch.full((500, 1), 0.8))
    assert result.aggregate_kl.standard_error < 1e-3
    assert result.mutual_information.mean == pytest.approx(-math.log(0.8), abs=0.01)


def test_the_order_holds_over_random_mixtures():
    for seed in range(200):
        result = aggregate_normals(*random_mixture(seed), num_samples=200, seed=seed)
        slack = 4.5 * result.aggregate_kl.standard_error + 1e-12 * result.mean_kl
        assert result.moment_matched_kl <= result.aggregate_kl.mean + slack
        assert result.aggregate_kl.mean <= result.mean_kl + slack
        assert result.moment_matched_kl <= result.mean_kl * (1 + 1e-13)
        each = result.per_dimension
        slack = 4.5 * each.aggregate_kl.standard_error + 1e-12 * each.mean_kl
        assert bool((each.moment_matched_kl <= each.aggregate_kl.mean + slack).all())
        assert bool((each.aggregate_kl.mean <= each.mean_kl + slack).all())


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
@pytest.mark.parametrize(("count", "latent_dim"), [(1, 1), (1, 33), (7, 3), (1000, 2)])
def test_equal_components_are_one_exactly(count, latent_dim, dtype):
    loc = (3 * torch.randn(1, latent_dim, dtype=dtype)).expand(count, -1)
    scale = torch.randn(1, latent_dim, dtype=dtype).exp().expand(count, -1)
    result = aggregate_normals(loc, scale)
    assert result.mean_kl == result.aggregate_kl.mean == result.moment_matched_kl
    assert result.mutual_information.mean == result.mutual_information.standard_error == 0
    each = result.per_dimension
    assert torch.equal(each.mean_kl, each.aggregate_kl.mean)
    assert torch.equal(each.mean_kl, each.moment_matched_kl)
    assert not each.mutual_information.mean.any()
    assert result.active_units == 0
    assert result.at_ceiling == (count == 1)


def test_equal_to_the_prior_is_zero():
    result = aggregate_normals(torch.zeros(9, 4), torch.ones(9, 4))
    assert (result.mean_kl, result.aggregate_kl.mean, result.moment_matched_kl) == (0, 0, 0)


@pytest.mark.parametrize("count", [2, 5, 64])
def test_far_components_reach_the_ceiling(count):
    loc = 100 * torch.arange(float(count)).unsqueeze(-1).expand(-1, 3)
    result = aggregate_normals(loc, torch.ones(count, 3))
    assert result.mutual_information.mean == pytest.approx(math.log(count), rel=1e-15)
    assert result.mutual_information.standard_error == 0
    assert result.at_ceiling
    assert result.ceiling == math.log(count)
    assert f"log {count} = " in result.ceiling_note
    assert result.ceiling_note in str(result)


def test_below_the_ceiling_there_is_no_note():
    result = aggregate_normals(torch.zeros(50, 2), torch.rand(50, 2) + 0.5)
    assert not result.at_ceiling
    assert result.ceiling_note == ""
    assert "of 50 examples, 2-dimensional" in str(result)
    assert len(str(result).splitlines()) == 6


def test_moment_matched_is_the_divergence_of_a_full_covariance():
    loc = torch.randn(200, 6) @ torch.randn(6, 6)
    scale = torch.rand(200, 6) + 0.1
    result = aggregate_normals(loc, scale)
    mean = loc.numpy().mean(0)
    covariance = np.cov(loc.numpy().T, bias=True) + np.diag((scale.numpy() ** 2).mean(0))
    log_determinant = np.linalg.slogdet(covariance)[1]
    exact = 0.5 * (np.trace(covariance) + mean @ mean - 6 - log_determinant)
    assert result.moment_matched_kl == pytest.approx(exact, rel=1e-12)
    variance = np.diag(covariance)
    each = 0.5 * (variance + mean**2 - 1 - np.log(variance))
    np.testing.assert_allclose(result.per_dimension.moment_matched_kl, each, rtol=1e-12)


def test_moments_keep_their_digits_when_components_are_narrow():
    """Two collinear dimensions, scales of 1e-6: the determinant comes from the scales alone."""
    line = torch.linspace(-1, 1, 11)
    loc, scale = torch.stack([line, line], -1), torch.full((11, 2), 1e-6)
    variance = float(line.square().mean())
    determinant = 1e-12 * (1e-12 + 2 * variance)
    exact = 0.5 * (2 * (1e-12 + variance) - 2 - math.log(determinant))
    assert aggregate_normals(loc, scale).moment_matched_kl == pytest.approx(exact, rel=1e-10)


def test_active_units_are_those_whose_loc_varies():
    loc = torch.tensor([[-0.11, 0.09, 5.0], [0.11, -0.09, 5.0]])
    result = aggregate_normals(loc, torch.ones(2, 3))
    assert result.active_units == 1
    assert result.per_dimension.active_units.tolist() == [True, False, False]
    expected = torch.tensor([0.0121, 0.0081, 0.0])
    torch.testing.assert_close(result.per_dimension.loc_variance, expected)
    assert aggregate_normals(loc, torch.ones(2, 3), active_threshold=0.005).active_units == 2


def close(a, b, tolerance=1e-10):
    for name in ("mean_kl", "moment_matched_kl"):
        assert getattr(a, name) == pytest.approx(getattr(b, name), rel=tolerance)
    for name in ("aggregate_kl", "mutual_information"):
        assert getattr(a, name).mean == pytest.approx(getattr(b, name).mean, rel=tolerance)


def test_every_example_twice_is_the_same_mixture():
    loc, scale = torch.randn(30, 3), torch.rand(30, 3) + 0.2
    once = aggregate_normals(loc, scale)
    twice = aggregate_normals(loc.repeat_interleave(2, 0), scale.repeat_interleave(2, 0))
    close(once, twice)
    assert twice.ceiling == pytest.approx(once.ceiling + math.log(2))


def test_the_order_of_the_examples_does_not_matter():
    loc, scale = torch.randn(300, 3), torch.rand(300, 3) + 0.2
    order = torch.randperm(300)
    a, b = aggregate_normals(loc, scale), aggregate_normals(loc[order], scale[order])
    assert a.mean_kl == pytest.approx(b.mean_kl, rel=1e-13)
    assert a.moment_matched_kl == pytest.approx(b.moment_matched_kl, rel=1e-12)
    error = math.hypot(a.aggregate_kl.standard_error, b.aggregate_kl.standard_error)
    assert abs(a.aggregate_kl.mean - b.aggregate_kl.mean) < 4.5 * error


def test_mutual_information_does_not_see_units():
    loc, scale = torch.randn(30, 3), torch.rand(30, 3) + 0.2
    unit, shift = torch.tensor([1e-6, 3.0, 1e5]), torch.tensor([1.0, -20.0, 1e6])
    a, b = aggregate_normals(loc, scale), aggregate_normals(unit * loc + shift, unit * scale)
    gap = abs(a.mutual_information.mean - b.mutual_information.mean)
    assert gap < 1e-8  # what is left of 1e-6 * loc beside a shift of 1


def test_many_draws_and_components_go_through_in_tiles():
    """More than one tile of either, with a rest; against the plain formula, by the same draws."""
    loc, scale = torch.randn(5000, 20), torch.rand(5000, 20) + 0.3
    index = torch.randint(5000, (70,))
    z = loc[index] + scale[index] * torch.randn(70, 20)
    log_q = torch.distributions.Normal(loc, scale).log_prob(z.unsqueeze(1))
    found = _information_given(loc, scale, z, index)
    share = log_q.softmax(1)
    information = math.log(5000) + (share * share.log()).sum(1)
    torch.testing.assert_close(found[:, :-1], information, rtol=1e-12, atol=1e-12)
    share = log_q.sum(-1).softmax(1)
    information = math.log(5000) + torch.special.xlogy(share, share).sum(1)
    torch.testing.assert_close(found[:, -1], information, rtol=1e-12, atol=1e-12)


def test_extreme_scales_stay_finite():
    loc = torch.tensor([[0.0, 1e6], [1e6, -1e6], [0.0, 0.0]])
    scale = torch.tensor([[1e-30, 1e30], [1.0, 1e-30], [1e30, 1e-5]])
    result = aggregate_normals(loc, scale)
    assert math.isfinite(result.aggregate_kl.mean)
    assert result.moment_matched_kl <= result.mean_kl * (1 + 1e-13)
    assert -1e-9 <= result.mutual_information.mean <= math.log(3) + 1e-9
