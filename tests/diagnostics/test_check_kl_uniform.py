"""`check_kl` where the log density of p is constant, or bounds what q may do."""

import math

import pyro.distributions as pd
import pytest
import torch
from torch.distributions import (
    Beta,
    Categorical,
    Distribution,
    LowRankMultivariateNormal,
    Normal,
    OneHotCategorical,
    Uniform,
    VonMises,
    constraints,
    kl_divergence,
)

from ppl_vae import check_kl

UNIT = Uniform(0.0, 1.0)


def minus_entropy(q, p):
    return -q.entropy()


def over_three(q, p):
    return math.log(3.0) - q.entropy()


def on_circle(q, p):
    k = q.concentration
    scaled = torch.special.i0e(k)
    return k * torch.special.i1e(k) / scaled - scaled.log() - k


def beta():
    return Beta(torch.rand(4) * 2 + 1, torch.rand(4) * 2 + 1)


CASES = {
    "Beta": lambda: (minus_entropy, beta(), UNIT),
    "Beta registered": lambda: (kl_divergence, beta(), UNIT),
    "Uniform": lambda: (over_three, Uniform(torch.rand(4) / 2, torch.rand(4) + 0.6), SHIFTED),
    "Categorical": lambda: (over_three, Categorical(logits=torch.randn(4, 3)), FLAT),
    "OneHotCategorical": lambda: (
        over_three,
        OneHotCategorical(logits=torch.randn(4, 3)),
        OneHotCategorical(probs=torch.ones(3) / 3),
    ),
    "VonMises": lambda: (on_circle, VonMises(torch.randn(4), torch.rand(4) + 1), CIRCLE),
    "improper": lambda: (
        minus_entropy,
        Normal(torch.randn(4), torch.rand(4) + 1),
        pd.ImproperUniform(constraints.real, (), ()),
    ),
}
SHIFTED, CIRCLE = Uniform(-1.0, 2.0), Uniform(-math.pi, math.pi)
FLAT = Categorical(logits=torch.zeros(3))


@pytest.mark.parametrize("name", CASES)
def test_entropy_with_the_right_constant_passes(name):
    function, q, p = CASES[name]()
    result = check_kl(function, q, p, num_replicates=30)
    assert result.passed, str(result)
    assert set(result.gradient) == {"q"}


@pytest.mark.parametrize("name", CASES)
def test_constant_left_out_and_entropy_halved_are_found(name):
    function, q, p = CASES[name]()
    result = check_kl(lambda q, p: function(q, p) + 1, q, p, num_replicates=30)
    assert [f.kind for f in result.findings] == ["constant"], str(result)
    result = check_kl(lambda q, p: function(q, p) / 2, q, p, num_replicates=30)
    assert any(f.term in ("entropy", "kl") and "1/2" in f.message for f in result.findings), str(
        result
    )


class Shifted(Distribution):
    """A Normal of scale 1, with no expand and no registered KL."""

    arg_constraints = {"loc": constraints.real}
    support = constraints.real
    has_rsample = True

    def __init__(self, loc, validate_args=None):
        self.loc = loc
        super().__init__(loc.shape, validate_args=validate_args)

    def rsample(self, sample_shape=()):
        return self.loc + torch.randn(self._extended_shape(sample_shape))

    def log_prob(self, value):
        return -((value - self.loc) ** 2) / 2 - math.log(2 * math.pi) / 2


def test_a_family_of_ones_own():
    q, p = Shifted(torch.randn(4)), Shifted(torch.randn(4))

    def right(q, p):
        assert type(q) is Shifted
        return (q.loc - p.loc) ** 2 / 2

    assert check_kl(right, q, p).passed
    assert not check_kl(lambda q, p: 2 * right(q, p), q, p).passed


def test_two_low_rank_normals_in_single_precision():
    torch.set_default_dtype(torch.float32)
    torch.manual_seed(60)

    def normal():
        factor = torch.randn(8, 3, 2)
        return LowRankMultivariateNormal(torch.randn(8, 3), factor, torch.rand(8, 3) + 0.5)

    result = check_kl(kl_divergence, normal(), normal())
    assert result.passed, str(result)
