import io

import pyro
import pyro.distributions as dist
import pytest
import torch
from cases import CASES, is_served
from pyro import poutine
from pyro.infer import Trace_ELBO, TraceMeanField_ELBO
from pyro.infer.autoguide import AutoNormal
from rich.console import Console

from ppl_vae import ESTIMATORS, GaussianChain, LinearGaussian, explain_elbo


def model(x):
    loc = pyro.sample("loc", dist.Normal(0.0, 1.0))
    rate = pyro.sample("rate", dist.Gamma(2.0, 2.0))
    with pyro.plate("data", len(x)):
        pyro.sample("x", dist.Normal(loc, rate), obs=x)


@pytest.mark.parametrize("name", CASES)
@pytest.mark.parametrize("estimator", ["trace", "analytic-kl"])
def test_rows_add_up_to_the_elbo(name, estimator):
    if not is_served(name, estimator):
        pytest.skip("the estimator does not serve this pair")
    pair = CASES[name]()
    x = pair.sample(5, seed=0)
    ledger = explain_elbo(estimator, pair, x, num_draws=300)
    assert ledger.is_valid
    total = sum(row.value.mean for row in ledger.rows)
    assert total == pytest.approx(ledger.value.mean, rel=1e-12)
    if hasattr(pair.exact, "elbo"):
        assert abs(ledger.value.z_score(pair.exact.elbo(x).sum().item())) < 4.5


def test_bottom_up_chain_names_the_invalid_site():
    pair = GaussianChain(2, guide="bottom-up")
    x = pair.sample(5, seed=0)
    ledger = explain_elbo("trace-mean-field", pair, x, num_draws=400)
    assert not ledger.is_valid
    assert "z2, descends from it in the guide" in ledger["z1"].treatment.why
    biased = (pair.exact.elbo(x) + pair.exact.mean_field_bias(x)).sum().item()
    assert abs(ledger.value.z_score(biased)) < 4.5
    assert explain_elbo("analytic-kl", pair, x)["z1"].treatment.how == "sampled"


def test_autonormal_on_a_model_of_ones_own():
    guide = AutoNormal(model)
    x = torch.randn(6)
    ledger = explain_elbo("analytic-kl", (model, guide), x)
    how = {row.treatment.site: (row.treatment.role, row.treatment.how) for row in ledger.rows}
    assert how["loc"] == ("latent", "closed form")
    assert how["rate"] == ("latent", "sampled")
    assert how["loc_unconstrained"] == ("auxiliary", "closed form")
    assert how["rate_unconstrained"] == ("auxiliary", "sampled")
    assert how["x"] == ("observed", "given")
    assert ledger["loc_unconstrained"].value.mean == 0
    sampled = explain_elbo(Trace_ELBO(), (model, guide), x, num_draws=2000)
    gap = ledger.value.mean - sampled.value.mean
    assert (
        abs(gap) < 4.5 * (ledger.value.standard_error**2 + sampled.value.standard_error**2) ** 0.5
    )
    deltas = explain_elbo(TraceMeanField_ELBO(), (model, guide), x)
    assert deltas["loc"].treatment.how == "Delta"


def test_disjoint_support_is_infinite():
    def program(x):
        pyro.sample("z", dist.Uniform(0.0, 1.0))

    def guide(x):
        high = pyro.param("high", torch.tensor(2.0))
        pyro.sample("z", dist.Uniform(0.0, high))

    row = explain_elbo("trace-mean-field", (program, guide), torch.ones(1)).rows[0]
    assert row.treatment.how == "infinite"
    assert not row.treatment.is_valid
    assert row.value.mean == -float("inf")


def test_scales_and_masks_of_both_sides_are_shown():
    pair = LinearGaussian(4, 2, seed=1)
    x = pair.sample(5, seed=0)
    annealed = poutine.scale(pair.model, 0.5)
    ledger = explain_elbo("trace-mean-field", (annealed, pair.guide), x)
    assert ledger["z"].scale == "model 0.5, guide 1"
    assert not ledger["z"].treatment.is_valid
    assert "model's is left out" in ledger["z"].treatment.why
    mask = torch.tensor([True, True, False, False, False])
    hidden = poutine.mask(pair.model, mask=mask), poutine.mask(pair.guide, mask=mask)
    assert explain_elbo("analytic-kl", hidden, x)["z"].mask == "hides 3 of 5"


@pytest.mark.parametrize("name", ESTIMATORS)
def test_every_estimator_can_be_explained_and_printed(name):
    pair = GaussianChain()
    ledger = explain_elbo(name, pair, pair.sample(3, seed=0), num_draws=2)
    screen = Console(file=io.StringIO(), width=100)
    ledger.print(screen)
    assert "z1" in screen.file.getvalue()
    assert "| z1 | latent |" in ledger.to_markdown()
    assert ledger.to_dataframe().loc["x", "role"] == "observed"
    assert len(pyro.get_param_store()) == 0


def test_bad_input():
    pair = GaussianChain()
    x = pair.sample(3, seed=0)
    with pytest.raises(ValueError, match="Did you mean 'trace'"):
        explain_elbo("tracee", pair, x)
    with pytest.raises(ValueError, match="num_draws of at least 2"):
        explain_elbo("trace", pair, x, num_draws=1)
    with pytest.raises(TypeError, match="a Pyro model and its guide as a tuple"):
        explain_elbo("trace", pair.model, x)
    with pytest.raises(ValueError, match="at least one parameter in model or guide"):
        explain_elbo("trace", (lambda x: None, lambda x: None), x)
    with pytest.raises(ValueError, match="Did you mean 'z1'"):
        _ = explain_elbo("trace", pair, x)["z11"]
