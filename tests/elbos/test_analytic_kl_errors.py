"""What TraceAnalyticKL_ELBO alone refuses: a support too wide, a KL without closed form."""

import re

import pyro
import pyro.distributions as dist
import pytest
import torch
from estimates import value_and_gradient
from pyro import poutine
from refusals import guide, model, refused

from ppl_vae.elbos import TraceAnalyticKL_ELBO

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
