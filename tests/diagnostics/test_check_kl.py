"""`check_kl`: hand-written divergences, closed and sampled."""

import pytest
import torch
from torch.distributions import (
    Beta,
    Exponential,
    Gamma,
    Independent,
    Laplace,
    LogNormal,
    MultivariateNormal,
    Normal,
    Poisson,
    TransformedDistribution,
    kl_divergence,
)
from torch.distributions.transforms import AffineTransform

from ppl_vae import check_kl

# The same numbers however the tests are collected.
SOURCE = torch.Generator().manual_seed(0)


def rand(*shape):
    return torch.rand(shape, generator=SOURCE)


def randn(*shape):
    return torch.randn(shape, generator=SOURCE)


@pytest.fixture
def normals():
    q = Independent(Normal(torch.randn(8, 3), torch.rand(8, 3) + 0.5), 1)
    return q, Independent(Normal(torch.zeros(8, 3), torch.ones(8, 3)), 1)


def to_standard(q, p):
    loc, scale = q.base_dist.loc, q.base_dist.scale
    return (0.5 * (loc**2 + scale**2 - 1) - scale.log()).sum(-1)


def sampled(q, p):
    z = q.rsample()
    return q.log_prob(z) - p.log_prob(z)


@pytest.mark.parametrize("function", [kl_divergence, to_standard, sampled])
def test_right_divergences_pass(normals, function):
    result = check_kl(function, *normals)
    assert result.passed
    assert set(result.coefficients) == {"log_prior", "entropy", "constant"}


@pytest.mark.parametrize(
    ("q", "p"),
    [
        (Normal(torch.tensor(0.3), torch.tensor(0.5)), Normal(0.0, 1.0)),
        (Normal(randn(4, 2), rand(4, 2) + 0.5), Normal(0.0, 2.0)),
        (Gamma(rand(5) + 1, rand(5) + 1), Gamma(rand(5) + 1, 1.0)),
        (Laplace(randn(5), rand(5) + 1), Laplace(randn(5), 2.0)),
        (Exponential(rand(5) + 1), Exponential(rand(5) + 1)),
        (
            MultivariateNormal(randn(4, 2), torch.eye(2) * 1.5),
            MultivariateNormal(torch.zeros(2), torch.eye(2)),
        ),
    ],
    ids=lambda d: type(d).__name__,
)
def test_families(q, p):
    # The right one up to a factor, so that one check tells both halves.
    result = check_kl(lambda q, p: 1.5 * kl_divergence(q, p), q, p)
    assert not result.passed
    for half in ("log_prior", "entropy"):
        assert result.coefficients[half].mean == pytest.approx(1.5, abs=1e-4)
    assert result.coefficients["constant"].mean == pytest.approx(0.0, abs=1e-4)


@pytest.mark.parametrize(
    ("q", "p"),
    [
        (Beta(rand(5) + 1, rand(5) + 1), Beta(rand(5) + 1, 2.0)),
        (LogNormal(randn(5), rand(5) + 0.5), LogNormal(0.0, 1.0)),
        (Poisson(rand(5) * 3 + 0.5), Poisson(rand(5) * 3 + 0.5)),
    ],
    ids=lambda d: type(d).__name__,
)
def test_families_without_some_closed_form(q, p):
    function = sampled if q.has_rsample else kl_divergence
    assert check_kl(function, q, p).passed
    wrong = check_kl(lambda q, p: 0.5 * function(q, p), q, p)
    assert any("1/2" in f.message for f in wrong.findings), str(wrong)


@pytest.mark.parametrize(
    ("function", "kind", "says"),
    [
        (lambda q, p: kl_divergence(p, q), "formula", "swapped"),
        (lambda q, p: kl_divergence(q, p) / 3, "weight", "1/3: averaged over the latent"),
        (lambda q, p: to_standard(q, p) + 1.5, "constant", "the 1 of"),
        (lambda q, p: -kl_divergence(q, p), "sign", "sign"),
        (lambda q, p: sampled(q, p) * 2, "weight", "= 2"),
        (
            lambda q, p: to_standard(q, p) + q.base_dist.scale.log().sum(-1),
            "missing",
            "sum(log scale)",
        ),
    ],
)
def test_wrong_divergences_are_diagnosed(normals, function, kind, says):
    result = check_kl(function, *normals)
    assert any(f.kind == kind and says in f.message for f in result.findings), str(result)


def to_affine(q, p):
    """To a standard Normal that was moved and scaled, of which only the move is read."""
    moved = p.transforms[0]
    ratio, distance = q.scale / moved.scale, (q.loc - moved.loc) / moved.scale
    return 0.5 * (ratio**2 + distance**2 - 1) - ratio.log()


def test_the_base_of_a_flow_stays_where_it_is_not_read():
    q = Normal(randn(5), rand(5) + 0.5)
    p = TransformedDistribution(
        Normal(torch.zeros(5), torch.ones(5)), [AffineTransform(randn(5), rand(5) + 0.5)]
    )
    assert check_kl(to_affine, q, p).passed
    wrong = check_kl(lambda q, p: to_affine(q, p) + p.transforms[0].scale.log() / 2, q, p)
    assert not wrong.passed


def test_a_scale_that_is_not_read_moves():
    # Right at these parameters, and wrong as soon as p's scale is learned.
    q, p = Normal(randn(5), rand(5) + 0.5), Normal(randn(5), torch.ones(5))

    def forgets(q, p):
        return 0.5 * (q.scale**2 + (q.loc - p.loc) ** 2 - 1) - q.scale.log()

    assert not check_kl(forgets, q, p).passed


def test_reductions(normals):
    assert check_kl(lambda q, p: kl_divergence(q, p).mean(), *normals, reduction="mean").passed
    result = check_kl(lambda q, p: kl_divergence(q, p).sum(), *normals, reduction="mean")
    assert result.findings[0].kind == "reduction"


def test_refusals(normals):
    with pytest.raises(ValueError, match="q and p of one event shape"):
        check_kl(kl_divergence, normals[0], Normal(0.0, 1.0))
    with pytest.raises(TypeError, match="q"):
        check_kl(kl_divergence, 3.0, normals[1])
    with pytest.raises(ValueError, match="one number per example"):
        check_kl(lambda q, p: kl_divergence(q, p).sum(), *normals)
