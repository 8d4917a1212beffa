"""`check_kl` on every family of torch and Pyro: each works, or is refused with the reason."""

import inspect

import pyro.distributions as pd
import pytest
import torch
import torch.distributions as td
from diagnostics.kl_families import REFUSED, SERVED, SOURCE

from ppl_vae import check_kl

ABSTRACT = {"Distribution", "ExponentialFamily", "TorchDistribution"}
# Wrong by torch's KL of transformed distributions, slow, or with a sampler, a check of shapes or a
# gradient that does not serve.
LEFT_OUT = {
    "FoldedDistribution",
    "GaussianScaleMixture",
    "IndependentHMM",
    "LKJ",
    "MixtureOfDiagNormals",
    "SineBivariateVonMises",
    "SoftAsymmetricLaplace",
    "SpanningTree",
    "Stable",
    "StableWithLogProb",
    "Wishart",
}
CLOSED = {"OneHotCategoricalStraightThrough"}
PLANTED = (
    "Binomial",
    "MixtureSameFamily",
    "TransformedDistribution",
    "MultivariateNormal covariance",
    "RelaxedBernoulli",
    "VonMises",
    "MaskedDistribution",
    "ZeroInflatedPoisson",
)


def sampled(q, p):
    """KL by 16 draws, with its gradient whether or not they are reparameterised."""
    size = torch.Size((16,))
    if q.has_rsample:
        z = q.rsample(size)
        return (q.log_prob(z) - p.log_prob(z)).mean(0)
    z = q.sample(size)
    log_q = q.log_prob(z)
    ratio = log_q - p.log_prob(z)
    others = (ratio - ratio.mean(0)).detach() * (16 / 15)
    return (ratio + others * (log_q - log_q.detach())).mean(0)


def right(name):
    return td.kl_divergence if name in CLOSED else sampled


def two_of(name):
    SOURCE.manual_seed(3)
    return SERVED[name](), SERVED[name]()


def test_no_family_is_forgotten():
    modules = (td, pd)
    families = {
        name
        for module in modules
        for name, each in vars(module).items()
        if inspect.isclass(each) and issubclass(each, td.Distribution)
    }
    named = {name.split()[0] for name in SERVED} | set(REFUSED) | ABSTRACT | LEFT_OUT
    assert families - named == set()


@pytest.mark.filterwarnings("ignore:class LKJCorr")
@pytest.mark.parametrize("name", SERVED)
def test_right_kl_passes(name):
    result = check_kl(right(name), *two_of(name), num_replicates=10)
    assert result.passed, str(result)
    assert "q" in result.gradient


@pytest.mark.filterwarnings("ignore:class LKJCorr")
@pytest.mark.parametrize("name", PLANTED)
def test_planted_factor_is_found(name):
    function = right(name)
    result = check_kl(lambda q, p: 2 * function(q, p), *two_of(name), num_replicates=10)
    assert any("= 2" in f.message for f in result.findings), str(result)


@pytest.mark.parametrize("name", REFUSED)
def test_refusals_name_family_and_reason(name):
    make, says = REFUSED[name]
    SOURCE.manual_seed(3)
    with pytest.raises((NotImplementedError, ValueError), match=says):
        check_kl(sampled, make(), make())
