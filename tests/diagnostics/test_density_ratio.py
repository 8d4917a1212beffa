import pyro.distributions as pyro_dist
import pytest
import scipy.linalg
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch.distributions import (
    Exponential,
    Gamma,
    HalfNormal,
    Independent,
    Laplace,
    LogNormal,
    LowRankMultivariateNormal,
    MultivariateNormal,
    Normal,
    StudentT,
)

from ppl_vae.diagnostics.sampling.density_ratio import second_moment_is_infinite

POSITIVE = st.floats(0.1, 10.0)


def diverges(q, p, at):
    """Whether z p(z)^2 / q(z) fails to fall from one end of `at` to the other."""
    first, last = (2 * p.log_prob(z) - q.log_prob(z) + z.abs().log() for z in at)
    return bool(last >= first)


def ends(low, high):
    return torch.tensor(low), torch.tensor(high)


def test_normals_to_the_last_digit():
    """q.scale^2 <= p.scale^2 / 2: with p.scale = 2^k sqrt(2) no rounding; locs do not matter."""
    scale = torch.tensor([1e-200, 0.5, 1.0, 1e200])
    root = torch.tensor(2.0).sqrt()
    for factor, expected in ((1 + 1e-15, True), (1 - 1e-15, False)):
        found = second_moment_is_infinite(Normal(3.0, scale), Normal(0.0, factor * root * scale))
        assert found.tolist() == [expected] * 4
    assert second_moment_is_infinite(Normal(0.0, 0.5), Normal(0.0, 1.0))
    assert not second_moment_is_infinite(Normal(1.0, 1.0), Normal(1.0, 1.0))


@settings(deadline=None, derandomize=True, max_examples=40)
@given(POSITIVE, POSITIVE, POSITIVE, POSITIVE)
def test_families_against_the_tails_of_the_integrand(a, b, c, d):
    upper, lower = ends(1e3, 1e6), ends(1e-100, 1e-300)
    for kind in (Normal, Laplace, HalfNormal):
        loc = () if kind is HalfNormal else (0.0,)
        q, p = kind(*loc, torch.tensor(a)), kind(*loc, torch.tensor(b))
        assert bool(second_moment_is_infinite(q, p)) == diverges(q, p, upper)
    q, p = LogNormal(0.0, torch.tensor(a)), LogNormal(0.0, torch.tensor(b))
    assert second_moment_is_infinite(q, p) == second_moment_is_infinite(q.base_dist, p.base_dist)
    q, p = Exponential(torch.tensor(a)), Exponential(torch.tensor(b))
    assert bool(second_moment_is_infinite(q, p)) == diverges(q, p, upper)
    q, p = Gamma(torch.tensor(a), torch.tensor(b)), Gamma(torch.tensor(c), torch.tensor(d))
    expected = diverges(q, p, upper) or diverges(q, p, lower)
    assert bool(second_moment_is_infinite(q, p)) == expected


def test_one_narrow_dimension_is_enough():
    scale = torch.ones(3, 2, 4)
    scale[1, 0, 2] = scale[2, 1, 3] = 0.7
    q, p = Normal(torch.zeros(4), scale), Normal(torch.zeros(4), torch.ones(4))
    assert second_moment_is_infinite(q, p).sum() == 2
    one = second_moment_is_infinite(Independent(q, 1), Independent(p, 1))
    assert one.tolist() == [[False, False], [True, False], [False, True]]
    nested = Independent(Independent(q, 1), 1)
    two = second_moment_is_infinite(nested, pyro_dist.Normal(0.0, 1.0).expand([2, 4]).to_event(2))
    assert two.tolist() == [False, True, True]


def test_gaussian_vectors_against_generalised_eigenvalues():
    torch.manual_seed(1)
    size, count = 3, 60
    factors = torch.randn(2, count, size, size).tril(-1) * 0.3
    factors += torch.diag_embed(torch.rand(2, count, size) + 0.6)
    q, p = (MultivariateNormal(torch.randn(count, size), scale_tril=f) for f in factors)
    expected = [
        scipy.linalg.eigh(a.numpy(), b.numpy(), eigvals_only=True).min() <= 0.5
        for a, b in zip(q.covariance_matrix, p.covariance_matrix, strict=True)
    ]
    assert 5 < sum(expected) < 55
    assert second_moment_is_infinite(q, p).tolist() == expected
    low_rank = LowRankMultivariateNormal(
        torch.zeros(size), torch.randn(size, 1), torch.rand(size) + 0.5
    )
    dense = MultivariateNormal(torch.zeros(size), low_rank.covariance_matrix)
    mixed = second_moment_is_infinite(q, low_rank)
    assert torch.equal(mixed, second_moment_is_infinite(q, dense))


def test_diagonal_and_full_vectors_agree():
    torch.manual_seed(2)
    scale = torch.rand(50, 3) + 0.6
    diagonal = Independent(Normal(torch.zeros(3), scale), 1)
    full = MultivariateNormal(torch.zeros(3), scale_tril=torch.diag_embed(scale))
    unit = Independent(Normal(torch.zeros(3), torch.ones(3)), 1)
    full_unit = MultivariateNormal(torch.zeros(3), torch.eye(3))
    expected = second_moment_is_infinite(diagonal, unit)
    assert 5 < expected.sum() < 50
    for q, p in ((full, full_unit), (diagonal, full_unit), (full, unit)):
        assert torch.equal(second_moment_is_infinite(q, p), expected)


@pytest.mark.parametrize(
    ("q", "p"), [(StudentT(3.0), StudentT(4.0)), (Normal(0.0, 1.0), Laplace(0.0, 1.0))]
)
def test_unknown_families_are_left_open(q, p):
    assert second_moment_is_infinite(q, p) is None
