"""What the reparameterised estimators refuse, and how they say so."""

import pyro
import pyro.distributions as dist
import pytest
import torch
from estimates import value_and_gradient
from pyro import poutine
from refusals import P, guide, model, refused

from ppl_vae.elbos import TraceAnalyticKL_ELBO, TraceDReG_ELBO, TraceIWAE_ELBO, TraceSTL_ELBO

ALL = [TraceAnalyticKL_ELBO, TraceSTL_ELBO, TraceIWAE_ELBO, TraceDReG_ELBO]

VALIDATION = pytest.mark.parametrize("validation", [True, False], ids=["checked", "unchecked"])

every = pytest.mark.parametrize("cls", ALL)


@VALIDATION
@every
@pytest.mark.parametrize("kind", ["Bernoulli", "Categorical", "Poisson"])
def test_a_draw_that_is_not_reparameterised(cls, kind, validation):
    fn = {
        "Bernoulli": dist.Bernoulli(0.4),
        "Categorical": dist.Categorical(torch.tensor([0.3, 0.7])),
        "Poisson": dist.Poisson(1.3),
    }[kind]
    message = (
        "expected a reparameterised distribution at the guide's site 'z'; "
        f"got {kind}, which has no rsample. "
        "Choose 'trace' or 'score-function', or another distribution."
    )
    functions = model(prior=fn), guide(fn=fn)
    refused(cls, functions, NotImplementedError, message, validation=validation)


@every
def test_a_distribution_told_not_to_be_reparameterised(cls):
    fn = dist.Normal(P, 1.0).has_rsample_(False)  # noqa: FBT003
    message = (
        "expected a reparameterised distribution at the guide's site 'z'; got Normal, which has "
        "no rsample. Choose 'trace' or 'score-function', or another distribution."
    )
    refused(cls, (model(), guide(fn=fn)), NotImplementedError, message)


@VALIDATION
@every
@pytest.mark.filterwarnings("ignore:Found vars in model but not guide")
@pytest.mark.filterwarnings("ignore:Found non-auxiliary vars in guide")
def test_a_site_that_the_guide_lacks(cls, validation):
    message = (
        "expected a site 'z' in the guide, as the model has it; got sites 'w'. "
        "Draw it in the guide too."
    )
    refused(cls, (model(), guide("w")), ValueError, message, validation=validation)
    message = message.replace("'w'", "none")
    functions = (model(), lambda: None)
    refused(cls, functions, ValueError, message, validation=validation)


@VALIDATION
@every
@pytest.mark.filterwarnings("ignore:Found non-auxiliary vars in guide")
def test_a_site_that_the_model_lacks(cls, validation):
    def both():
        guide()()
        pyro.sample("w", dist.Normal(P, 1.0))

    message = (
        "expected a site 'w' in the model, as the guide has it; got sites 'z'. "
        'Draw it in the model too, or mark it infer={"is_auxiliary": True}.'
    )
    refused(cls, (model(), both), ValueError, message, validation=validation)

    def with_auxiliary():
        with pyro.plate("data", 2, dim=-1):
            w = pyro.sample("w", dist.Normal(P, 1.0), infer={"is_auxiliary": True})
            pyro.sample("z", dist.Normal(w, 1.0))

    assert cls().loss(model(), with_auxiliary) != 0


@VALIDATION
@every
@pytest.mark.filterwarnings("ignore:Found non-auxiliary vars in guide")
def test_an_observation_in_the_guide(cls, validation):
    def observing():
        guide()()
        pyro.sample("y", dist.Normal(P, 1.0), obs=torch.tensor(1.0))

    message = (
        "expected a site 'y' in the model, as the guide has it; got sites 'z'. "
        'Draw it in the model too, or mark it infer={"is_auxiliary": True}.'
    )
    refused(cls, (model(), observing), ValueError, message, validation=validation)


@every
def test_masks_that_hide_everything(cls):
    message = (
        "expected at least one entry that the masks leave in; got masks that hide every entry of "
        "'z', 'x'. Leave such a batch out."
    )
    for mask in (False, torch.zeros(2, dtype=torch.bool)):
        hidden = poutine.mask(model(), mask=mask)
        refused(cls, (hidden, guide()), ValueError, message)
        refused(cls, (hidden, poutine.mask(guide(), mask=mask)), ValueError, message)
    half = poutine.mask(model(), mask=torch.tensor([True, False]))
    assert cls().loss(half, poutine.mask(guide(), mask=torch.tensor([True, False]))) != 0
    # Without validation the value is what is left: nothing.
    with pyro.validation_enabled(False):  # noqa: FBT003
        nothing = cls().loss(poutine.mask(model(), mask=False), poutine.mask(guide(), mask=False))
        assert nothing == 0


@every
@pytest.mark.parametrize(
    ("count", "error", "message"),
    [
        (0, ValueError, "num_particles of at least 1; got 0"),
        (-3, ValueError, "num_particles of at least 1; got -3"),
        (2.0, TypeError, "num_particles as an int; got float"),
        (True, TypeError, "num_particles as an int; got bool"),
    ],
)
def test_the_number_of_particles(cls, count, error, message):
    with pytest.raises(error, match=message):
        cls(count)


def likelihood():
    pyro.sample("x", dist.Normal(P, 1.0), obs=torch.tensor(1.0))


def nothing():
    pass


@pytest.mark.parametrize("cls", [TraceIWAE_ELBO, TraceDReG_ELBO])
def test_no_latent_leaves_nothing_to_weigh(cls):
    message = "expected at least one latent site; got none. There is nothing to infer."
    refused(cls, (likelihood, nothing), ValueError, message)


@pytest.mark.parametrize("cls", [TraceAnalyticKL_ELBO, TraceSTL_ELBO])
def test_no_latent_leaves_the_likelihood(cls):
    """As with Pyro's Trace_ELBO: how one fits a model by maximum likelihood."""
    value, gradient = value_and_gradient(cls(), likelihood, nothing, (), [P])
    expected = dist.Normal(P, 1.0).log_prob(torch.tensor(1.0)).item()
    assert value.item() == pytest.approx(expected, rel=1e-12)
    assert gradient.item() == pytest.approx(1 - P.item(), rel=1e-12)
