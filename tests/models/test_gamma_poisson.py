"""The pair of counts with one rate: its data sets, and its closed forms at its parameters."""

import pytest
import torch
from pyro.infer import SVI
from pyro.optim import Adam

from ppl_vae import ESTIMATORS, Exact_ELBO, GammaPoisson, compare_elbos
from ppl_vae.closed_forms import gamma_poisson


@pytest.fixture
def pair():
    return GammaPoisson(2.0, 0.5, guide_concentration=3.0, guide_rate=1.5)


def test_data_sets(pair):
    one, many = pair.sample(4, seed=0), pair.sample(4, seed=0, num_datasets=3)
    assert (one.shape, many.shape) == ((4,), (3, 4))
    assert (pair.num_examples(one), pair.num_examples(many)) == (1, 3)
    x = pair.sample(1, seed=1, num_datasets=200_000).squeeze(-1)
    # A Gamma of Poissons: mean a/b, variance a/b + a/b^2.
    assert abs(x.mean() - 4) < 4.5 * (12 / len(x)) ** 0.5
    squares = (x - 4).square()
    assert abs(squares.mean() - 12) < 4.5 * squares.std() / len(x) ** 0.5


def test_only_counts_are_taken(pair):
    with pytest.raises(ValueError, match="whole numbers of 0 or more only"):
        pair.model(torch.tensor([1.0, 0.5]))
    with pytest.raises(ValueError, match="num_datasets of at least 1"):
        pair.sample(4, num_datasets=0)
    with pytest.raises(ValueError, match="guide_rate finite and above 0"):
        GammaPoisson(guide_rate=0.0)
    with pytest.raises(TypeError, match="concentration as a number"):
        GammaPoisson(concentration="1")


def test_the_closed_forms_are_at_its_parameters(pair):
    x = pair.sample(4, seed=0, num_datasets=3)
    prior = {"concentration": 2.0, "rate": 0.5}
    guide = {"guide_concentration": 3.0, "guide_rate": 1.5}
    assert torch.equal(pair.exact.log_evidence(x), gamma_poisson.log_evidence(x, **prior))
    torch.testing.assert_close(pair.exact.elbo(x), gamma_poisson.elbo(x, **prior, **guide))
    posterior = pair.exact.posterior(x)
    torch.testing.assert_close(posterior.mean, (2 + x.sum(-1)) / 4.5)
    torch.testing.assert_close(posterior.variance, (2 + x.sum(-1)) / 4.5**2)
    with pytest.raises(ValueError, match="gradient variances all have a closed form"):
        pair.exact.gradient_variance(x, estimator="trace")


@pytest.mark.parametrize("num_datasets", [None, 3])
def test_estimators_have_the_variances_of_the_closed_form(pair, num_datasets):
    x = pair.sample(4, seed=0, num_datasets=num_datasets)
    row = compare_elbos(pair, x, ["score-function"], num_replicates=4000, device="cpu")[
        "score-function"
    ]
    assert row.closed_form_gradient_variance.keys() == row.gradient_variance.keys()
    for group, exact in row.closed_form_gradient_variance.items():
        assert abs(row.gradient_variance[group].z_score(exact)) < 4.5
    assert ESTIMATORS["score-function"].gradient == "unbiased"


def test_training_reaches_the_posterior(pair):
    x = torch.tensor([3.0, 5.0, 4.0, 6.0])
    svi = SVI(pair.model, pair.guide, Adam({"lr": 0.05}), loss=Exact_ELBO())
    for _ in range(600):
        svi.step(x)
    assert 0 <= pair.exact.log_evidence(x) - pair.exact.elbo(x) < 1e-4
