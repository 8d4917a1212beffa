"""The prior's score, rewritten along the prior's own noise."""

import math

import pyro
import pyro.distributions as dist
import pytest
import torch
from estimates import replicates, value_and_gradient
from pyro.infer.autoguide import AutoNormal
from torch.distributions import Normal

from ppl_vae import BernoulliVAE, GaussianChain, HierarchicalVAE, LinearGaussian
from ppl_vae.elbos import TraceDReG_ELBO, TraceGDReG_ELBO, TraceIWAE_ELBO
from ppl_vae.models.priors import FlowPrior, MixturePrior

COUNT = 60


class Program:
    """One latent per data point, whose prior has the parameters `a` and `b`."""

    def __init__(self, prior, guide):
        self.a, self.b = (torch.tensor(v).requires_grad_() for v in (0.3, -0.2))
        self.c = torch.tensor(0.4).requires_grad_()
        self._prior, self._guide = prior, guide

    def model(self, x):
        with pyro.plate("data", len(x), dim=-1):
            z = pyro.sample("z", self._prior(self.a, self.b))
            z = z.sum(-1) if self._prior is multivariate else z
            pyro.sample("x", dist.Normal(z.cos() + z / 2, 0.7), obs=x)

    def guide(self, x):
        with pyro.plate("data", len(x), dim=-1):
            pyro.sample("z", self._guide(self.c, x))


def positive_guide(c, x):
    return dist.LogNormal(0.2 * x, c.exp())


def multivariate(a, b):
    zero = torch.zeros(())
    factor = torch.stack([torch.stack([a.exp(), zero]), torch.stack([b, b.exp()])])
    return dist.MultivariateNormal(torch.stack([a, b]), scale_tril=factor)


PRIORS = {
    "normal": (lambda a, b: dist.Normal(a, b.exp()), lambda c, x: dist.Normal(c * x, 0.8)),
    "laplace": (lambda a, b: dist.Laplace(a, b.exp()), lambda c, x: dist.Normal(c * x, 0.8)),
    "exponential": (lambda a, b: dist.Exponential((a + b).exp()), positive_guide),
    "log-normal": (lambda a, b: dist.LogNormal(a, b.exp()), positive_guide),
    "multivariate": (
        multivariate,
        lambda c, x: dist.Normal(c * x.unsqueeze(-1).expand(*x.shape, 2), 0.8).to_event(1),
    ),
}


def agrees_with_iwae(pair, x, parameters, **options):
    elbos = [cls(3, vectorize_particles=True, max_plate_nesting=1, **options) for cls in BOTH]
    found = [replicates(e, pair.model, pair.guide, (x,), parameters, COUNT) for e in elbos]
    torch.testing.assert_close(found[0][0], found[1][0], rtol=1e-10, atol=0)
    difference = found[1][1] - found[0][1]
    error = difference.std(0) / math.sqrt(COUNT) + 1e-9 * found[0][1].abs().mean(0)
    return ((difference.mean(0).abs() / error.clamp_min(1e-12)) < 4.5).all()


BOTH = (TraceIWAE_ELBO, TraceGDReG_ELBO)


@pytest.mark.parametrize("name", PRIORS)
def test_gradient_is_that_of_iwae_in_expectation(name):
    program, x = Program(*PRIORS[name]), torch.tensor([0.9]).repeat(3000)
    assert agrees_with_iwae(program, x, [program.a, program.b, program.c])


class WithoutSquares(TraceGDReG_ELBO):
    """Planted and wrong: the weights themselves where their squares belong."""

    def through_model(self, draws, weights, normalised):
        root = weights.by_draw
        weights.by_draw = lambda values: root(values.sqrt() if values is normalised else values)
        return super().through_model(draws, weights, normalised)


def test_a_wrong_power_of_the_weights_is_seen():
    program, x = Program(*PRIORS["normal"]), torch.tensor([0.9]).repeat(3000)
    global BOTH
    BOTH = (TraceIWAE_ELBO, WithoutSquares)
    try:
        assert not agrees_with_iwae(program, x, [program.a, program.b])
    finally:
        BOTH = (TraceIWAE_ELBO, TraceGDReG_ELBO)


@pytest.mark.parametrize(
    "make",
    [
        lambda: GaussianChain(initial={"e": -0.2}),
        lambda: GaussianChain(guide="bottom-up"),
        lambda: HierarchicalVAE((1, 1, 2), (2, 2), hidden=(3, 3), seed=1),
        lambda: HierarchicalVAE((1, 1, 2), (2, 2), "top-down", hidden=(3, 3), seed=1),
    ],
    ids=["chain", "bottom-up chain", "bottom-up", "top-down"],
)
def test_layers_are_redrawn_from_the_top_down(make):
    pair = make()
    x = pair.sample(1, seed=0)
    x = x.expand(1500, *x.shape[1:])
    assert agrees_with_iwae(pair, x, list(pair.parameters()))


def flow_pair():
    pytest.importorskip("zuko")
    prior = FlowPrior("maf", transforms=2, hidden=(6,))
    return BernoulliVAE((1, 2, 2), 2, (4,), prior=prior, seed=1)


def test_a_maf_prior_has_less_noise_and_no_bias():
    """The variance of the prior's gradient over 3,000 equal images: 21,292 with both others."""
    pair = flow_pair()
    x = pair.sample(1, seed=0).expand(3000, 1, 2, 2)
    parameters = list(pair.prior_family.parameters())
    assert agrees_with_iwae(pair, x, parameters)
    variance = {}
    for cls in (TraceIWAE_ELBO, TraceDReG_ELBO, TraceGDReG_ELBO):
        elbo = cls(3, vectorize_particles=True, max_plate_nesting=1)
        _, gradients = replicates(elbo, pair.model, pair.guide, (x,), parameters, COUNT)
        variance[cls] = gradients.var(0).sum()
    torch.testing.assert_close(variance[TraceDReG_ELBO], variance[TraceIWAE_ELBO])
    assert 0.35 < variance[TraceGDReG_ELBO] / variance[TraceDReG_ELBO] < 0.7


@pytest.mark.parametrize("kind", ["normal", "maf"])
def test_the_priors_gradient_is_0_where_the_guide_is_the_prior(kind):
    """Not so the score's, which has the mean 0 there and noise."""
    if kind == "maf":
        pair = flow_pair()
        prior, parameters = pair.prior, list(pair.prior_family.parameters())
    else:
        a, b = (torch.tensor(v).requires_grad_() for v in (0.3, -0.2))
        parameters = [a, b]

        def prior():
            return dist.Normal(a, b.exp())

    x = torch.zeros(5)

    def model(x):
        with pyro.plate("data", len(x), dim=-1):
            pyro.sample("z", prior())
            pyro.sample("x", dist.Normal(0.0, 1.0), obs=x)

    def guide(x):
        with pyro.plate("data", len(x), dim=-1):
            pyro.sample("z", prior())

    norms = {}
    for cls in (TraceDReG_ELBO, TraceGDReG_ELBO):
        torch.manual_seed(0)
        elbo = cls(1, vectorize_particles=True, max_plate_nesting=1)
        _, gradient = value_and_gradient(elbo, model, guide, (x,), parameters)
        norms[cls] = gradient.norm()
    assert norms[TraceGDReG_ELBO] < 1e-12
    assert norms[TraceDReG_ELBO] > 0.1


def test_one_particle_of_a_normal_by_hand():
    """(d/dz)(log q - log p) dT/d(a, b), T = a + exp(b) e; draw by draw."""
    program, x = Program(*PRIORS["normal"]), torch.tensor([0.9, -0.4])
    torch.manual_seed(4)
    z = Normal(0.4 * x, 0.8).rsample()
    scale = math.exp(-0.2)
    slope = -(z - 0.4 * x) / 0.64 + (z - 0.3) / scale**2
    by_hand = torch.stack([slope.sum(), (slope * (z - 0.3)).sum()])
    torch.manual_seed(4)
    _, found = value_and_gradient(
        TraceGDReG_ELBO(1), program.model, program.guide, (x,), [program.a, program.b]
    )
    torch.testing.assert_close(found, by_hand, rtol=1e-10, atol=1e-12)


def test_without_parameters_of_the_prior_it_is_dreg():
    pair = LinearGaussian(3, 2, noise_scale=0.7, seed=1)
    x, found = pair.sample(4, seed=0), []
    for cls in (TraceDReG_ELBO, TraceGDReG_ELBO):
        torch.manual_seed(1)
        found.append(
            value_and_gradient(cls(3), pair.model, pair.guide, (x,), [*pair.parameters()])
        )
    torch.testing.assert_close(*found, rtol=1e-12, atol=1e-12)


def refused(model, guide, x, message):
    with pytest.raises(NotImplementedError, match=message):
        TraceGDReG_ELBO(2).loss(model, guide, x)


def test_priors_that_it_cannot_take_are_refused():
    pair = LinearGaussian(3, 2, prior=MixturePrior(2), seed=1)
    x = pair.sample(4, seed=0)
    refused(pair.model, pair.guide, x, "function of noise.*MixtureSameFamily.*'dreg'")
    for parameter in pair.prior_family.parameters():
        parameter.requires_grad = False
    assert math.isfinite(TraceGDReG_ELBO(2).loss(pair.model, pair.guide, x))

    x = torch.tensor([0.9, 0.1])
    narrow = Program(lambda a, b: dist.Normal(a, b.exp()), positive_guide)
    refused(narrow.model, narrow.guide, x, "support of the learned prior.*Real.*Choose 'dreg'")
    normal = Program(*PRIORS["normal"])
    refused(normal.model, AutoNormal(normal.model), x, "a Delta")
