"""What the reparameterised estimators refuse, and how they say so."""

import re

import pyro
import pyro.distributions as dist
import pytest
import torch
from estimates import value_and_gradient
from pyro import poutine

from ppl_vae.elbos import (
    TraceAnalyticKL_ELBO,
    TraceDReG_ELBO,
    TraceIWAE_ELBO,
    TraceSTL_ELBO,
)

ALL = [TraceAnalyticKL_ELBO, TraceSTL_ELBO, TraceIWAE_ELBO, TraceDReG_ELBO]
VALIDATION = pytest.mark.parametrize("validation", [True, False], ids=["checked", "unchecked"])
every = pytest.mark.parametrize("cls", ALL)
P = torch.tensor(0.3, requires_grad=True)


def model(site="z", prior=None):
    def program():
        with pyro.plate("data", 2, dim=-1):
            z = pyro.sample(site, prior or dist.Normal(0.0, 1.0))
            pyro.sample("x", dist.Normal(z, 1.0), obs=torch.ones(2))

    return program


def guide(site="z", fn=None):
    def program():
        with pyro.plate("data", 2, dim=-1):
            return pyro.sample(site, fn or dist.Normal(P, 1.0))

    return program


def refused(cls, functions, error, message, *, validation=True):
    with (
        pyro.validation_enabled(validation),
        pytest.raises(error, match="^" + re.escape(message) + "$"),
    ):
        cls().loss(*functions)


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


UNIFORM = "expected a guide at site 'z' whose support lies within the prior's; got one that does "
UNIFORM += "not: the guide puts mass where {} has none. Choose a distribution with the prior's "
UNIFORM += "support."


@pytest.mark.parametrize(
    ("fn", "prior"),
    [
        (dist.Uniform(0.0, 2.0), dist.Uniform(0.0, 1.0)),
        (dist.Uniform(-1e-3, 1.0), dist.Exponential(1.0)),
        (dist.Normal(0.5, 0.1), dist.Gamma(2.0, 1.0)),
        (dist.Exponential(1.0), dist.Uniform(0.0, 1.0)),
        (dist.Laplace(5.0, 0.1), dist.Exponential(1.0)),
    ],
    ids=str,
)
def test_a_guide_whose_support_leaves_the_priors(fn, prior):
    message = UNIFORM.format(type(prior).__name__)
    functions = model(prior=prior), guide(fn=fn)
    refused(TraceAnalyticKL_ELBO, functions, ValueError, message, validation=False)
    # With validation Pyro may be first, at a draw that lies outside; it names the site too.
    many = TraceAnalyticKL_ELBO(50)
    with pytest.raises(ValueError, match="site 'z'"):
        many.loss(*functions)


def test_a_guide_whose_support_leaves_the_priors_in_the_course_of_training():
    high = torch.tensor(0.9, requires_grad=True)
    functions = model(prior=dist.Uniform(0.0, 1.0)), lambda: guide(fn=dist.Uniform(0.0, high))()
    elbo = TraceAnalyticKL_ELBO()
    value, _ = value_and_gradient(elbo, *functions, (), [high])
    assert bool(value.isfinite())
    high.data.fill_(1.0 + 1e-9)
    with pytest.raises(ValueError, match=re.escape(UNIFORM.format("Uniform"))):
        elbo.loss(*functions)


def test_hidden_entries_may_leave_the_support():
    mask = torch.tensor([True, False])
    fn = dist.Uniform(0.0, torch.tensor([0.5, 2.0]))
    functions = [
        poutine.mask(f, mask=mask) for f in (model(prior=dist.Uniform(0.0, 1.0)), guide(fn=fn))
    ]
    with pyro.validation_enabled(False):  # noqa: FBT003
        silent = poutine.block(functions[0], hide=["x"])
        assert TraceAnalyticKL_ELBO().loss(silent, functions[1]) == pytest.approx(
            torch.tensor(2.0).log().item(), rel=1e-12
        )


def test_strict_says_for_which_site_and_why():
    def low_first():
        z1 = pyro.sample("z1", dist.Normal(0.0, 1.0))
        pyro.sample("z2", dist.Normal(z1, 1.0))

    def top_first():
        z2 = pyro.sample("z2", dist.Normal(0.0, 1.0))
        pyro.sample("z1", dist.Normal(z2, 1.0))

    with pytest.raises(NotImplementedError) as caught:
        TraceAnalyticKL_ELBO(strict=True).loss(top_first, low_first)
    assert str(caught.value) == (
        "expected a closed-form KL at site 'z1'; got none that may be used: its parent in the "
        "model, z2, descends from it in the guide. Pass strict=False to sample it."
    )
    functions = model(prior=dist.StudentT(3.0)), guide()
    with pytest.raises(NotImplementedError) as caught:
        TraceAnalyticKL_ELBO(strict=True).loss(*functions)
    assert str(caught.value) == (
        "expected a closed-form KL at site 'z'; got none that may be used: no closed form is "
        "known for Normal against StudentT. Pass strict=False to sample it."
    )
    assert TraceAnalyticKL_ELBO(strict=True).loss(top_first, top_first) == 0
