"""The plan is made once for each structure of model and guide."""

import pyro
import pyro.distributions as dist
import torch
from pyro import poutine

from ppl_vae import BernoulliVAE, GaussianChain, LinearGaussian
from ppl_vae.elbos import TraceAnalyticKL_ELBO
from ppl_vae.elbos.continuous import analytic_kl
from ppl_vae.elbos.sites.kl_plan import CLOSED_FORM, SAMPLED


def chain(**parents):
    """Return a program of Normals, each about the value of its parent."""

    def run():
        values = {None: torch.zeros(())}
        for name, parent in parents.items():
            values[name] = pyro.sample(name, dist.Normal(values[parent], 1.0))

    return run


def count_plans(monkeypatch):
    calls = []
    plan_sites = analytic_kl.plan_sites

    def counted(*args):
        calls.append(args)
        return plan_sites(*args)

    monkeypatch.setattr(analytic_kl, "plan_sites", counted)
    return calls


def test_the_plan_is_made_once_for_each_structure(monkeypatch):
    calls = count_plans(monkeypatch)
    elbo, x = TraceAnalyticKL_ELBO(), torch.tensor([[1.3]])
    pairs = [GaussianChain(), GaussianChain(guide="bottom-up"), LinearGaussian(2, 1, seed=0)]
    for step in range(5):
        for pair in pairs:
            elbo.loss(pair.model, pair.guide, x.expand(step + 1, getattr(pair, "data_dim", 1)))
    assert len(calls) == 3
    for step in range(5):  # weighed anew at every step
        for pair in pairs[:2]:
            model = poutine.scale(pair.model, scale=0.1 + step)
            elbo.loss(poutine.mask(model, mask=torch.tensor([True])), pair.guide, x)
    assert len(calls) == 5  # the two sides now differ in weight
    vae = BernoulliVAE((1, 2, 2), hidden=(3,), seed=0)
    vectorised = TraceAnalyticKL_ELBO(4, vectorize_particles=True)
    for _ in range(3):
        vectorised.loss(vae.model, vae.guide, vae.blank(2))
        elbo.loss(vae.model, vae.guide, vae.blank(2))
    assert len(calls) == 7


def test_other_dependencies_under_the_same_names_have_a_plan_of_their_own(monkeypatch):
    calls = count_plans(monkeypatch)
    elbo = TraceAnalyticKL_ELBO()
    model = chain(z2=None, z1="z2")
    apart, below = chain(z1=None, z2=None), chain(z1=None, z2="z1")
    for _ in range(2):
        for guide in (apart, below):
            elbo.loss(model, guide)
    assert len(calls) == 2
    assert [p["z1"].how for p in elbo._plans.values()] == [CLOSED_FORM, SAMPLED]

    def either(*, bottom_up=False):
        return below() if bottom_up else apart()

    def prior(**_):
        return model()

    for _ in range(2):
        for flag in (False, True):
            elbo.loss(prior, either, bottom_up=flag)
    assert len(calls) == 4
    assert [p["z1"].how for p in list(elbo._plans.values())[2:]] == [CLOSED_FORM, SAMPLED]


def test_plans_do_not_pile_up(monkeypatch):
    monkeypatch.setattr(analytic_kl, "MAX_PLANS", 3)
    elbo = TraceAnalyticKL_ELBO()
    for _ in range(5):
        elbo.loss(chain(z=None), chain(z=None))
    assert len(elbo._plans) == 3
