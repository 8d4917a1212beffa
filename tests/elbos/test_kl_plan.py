"""Which site's divergence is had in closed form, and why not."""

import pyro
import pyro.distributions as dist
import pytest
import torch
from estimates import agree, mean_value, replicates
from pyro.infer import Trace_ELBO, TraceMeanField_ELBO
from pyro.infer.autoguide import AutoDelta, AutoDiagonalNormal, AutoNormal

from ppl_vae import GaussianChain
from ppl_vae.diagnostics.comparison.replicates import bias_z_score
from ppl_vae.elbos import TraceAnalyticKL_ELBO
from ppl_vae.elbos.sites.kl_plan import CLOSED_FORM, SAMPLED

MANY = {"num_particles": 500, "vectorize_particles": True, "max_plate_nesting": 1}
DELTA = "a Delta has no density against another, only a value"


def plan_of(model, guide, *args):
    elbo = TraceAnalyticKL_ELBO()
    elbo.loss(model, guide, *args)
    (plan,) = elbo._plans.values()
    return plan


def hows(model, guide, *args):
    return {name: site.how for name, site in plan_of(model, guide, *args).items()}


def normal(loc=0.0, scale=1.0):
    return dist.Normal(torch.as_tensor(loc, dtype=torch.float64), scale)


def program(*sites):
    """Return a program of Normals: of each site its name, and a loc from the values before it."""

    def run():
        values = {}
        for name, loc in sites:
            values[name] = pyro.sample(name, normal(loc(values)))
        return values

    return run


def zero(_):
    return 0.0


def of(*names):
    return lambda values: sum(0.5 * values[name] for name in names)


CHAIN = program(("z3", zero), ("z2", of("z3")), ("z1", of("z2")))
SKIPPING = program(("z3", zero), ("z2", of("z3")), ("z1", of("z2", "z3")))


def test_both_guides_of_the_chain():
    x = torch.tensor([[1.3]])
    pair = GaussianChain(guide="bottom-up")
    plan = plan_of(pair.model, pair.guide, x)
    why = "its parent in the model, z2, descends from it in the guide"
    assert (plan["z1"].how, plan["z1"].is_valid, plan["z1"].why) == (SAMPLED, False, why)
    assert (plan["z2"].how, plan["z2"].why) == (CLOSED_FORM, "it has no parents")
    pair = GaussianChain(guide="top-down")
    plan = plan_of(pair.model, pair.guide, x)
    why = "its parents in the model do not descend from it in the guide"
    assert (plan["z1"].how, plan["z1"].why) == (CLOSED_FORM, why)
    assert plan["z2"].how == CLOSED_FORM


@pytest.mark.parametrize(
    ("model", "guide", "sampled"),
    [
        (CHAIN, (("z1", zero), ("z2", of("z1")), ("z3", of("z2"))), {"z1", "z2"}),
        (CHAIN, (("z3", zero), ("z2", of("z3")), ("z1", of("z2"))), set()),
        (CHAIN, (("z2", zero), ("z3", of("z2")), ("z1", of("z2"))), {"z2"}),
        (CHAIN, (("z1", zero), ("z3", of("z1")), ("z2", zero)), set()),
        (CHAIN, (("z1", zero), ("z3", of("z1")), ("z2", of("z3"))), {"z1"}),
        (SKIPPING, (("z1", zero), ("z3", of("z1")), ("z2", zero)), {"z1"}),
        (SKIPPING, (("z2", zero), ("z1", of("z2")), ("z3", zero)), set()),
        (SKIPPING, (("z1", zero), ("z2", zero), ("z3", zero)), set()),
    ],
)
def test_three_layers_in_every_order(model, guide, sampled):
    found = hows(model, program(*guide))
    assert {name for name, how in found.items() if how == SAMPLED} == sampled


def test_a_harmless_order_stays_closed_form_where_pyro_warns():
    guide = program(("z1", zero), ("z2", zero), ("z3", zero))
    assert set(hows(CHAIN, guide).values()) == {CLOSED_FORM}
    with pytest.warns(UserWarning, match="Failed to verify mean field"):
        expected = TraceMeanField_ELBO().loss(CHAIN, guide)
    assert expected > 0


def test_a_conditional_that_ignores_what_was_drawn_before_it():
    model = program(("z2", zero), ("z1", zero))
    guide = program(("z1", zero), ("z2", of("z1")))
    plan = plan_of(model, guide)
    assert {site.how for site in plan.values()} == {CLOSED_FORM}
    assert plan["z1"].why == "it has no parents"


@pytest.mark.filterwarnings("ignore:Found non-auxiliary vars")  # of pyro.deterministic
@pytest.mark.parametrize("way", ["auxiliary", "deterministic", "Delta"])
def test_a_parent_descends_through_other_sites(way):
    def guide():
        z1 = pyro.sample("z1", normal())
        if way == "auxiliary":
            between = pyro.sample("between", normal(z1), infer={"is_auxiliary": True})
        elif way == "deterministic":
            between = pyro.deterministic("between", z1 + 1)
        else:
            between = pyro.sample("between", dist.Delta(z1 + 1), infer={"is_auxiliary": True})
        pyro.sample("z2", normal(between))

    def model():
        z2 = pyro.sample("z2", normal())
        double = pyro.deterministic("double", 2 * z2)
        pyro.sample("z1", normal(double))

    assert hows(model, guide) == {"z1": SAMPLED, "z2": CLOSED_FORM}
    found = mean_value(TraceAnalyticKL_ELBO(**MANY), model, guide)
    assert agree(found, mean_value(Trace_ELBO(**MANY), model, guide, seed=1))


def test_autoguides_get_what_they_can():
    def model():
        rate = pyro.sample("rate", dist.Gamma(2.0, 1.0))
        z = pyro.sample("z", normal())
        pyro.sample("x", normal(z, rate), obs=torch.tensor(0.3))

    auto = AutoNormal(model)
    auto()
    plan = plan_of(model, auto)
    assert (plan["z"].how, plan["z"].source) == (CLOSED_FORM, "z_unconstrained")
    assert (plan["rate"].how, plan["rate"].why) == (SAMPLED, DELTA)
    for other in (AutoDelta(model), AutoDiagonalNormal(model)):
        other()
        assert set(hows(model, other).values()) == {SAMPLED}


def test_one_draw_that_two_sites_take_has_its_entropy_counted_once():
    model = program(("z1", zero), ("z2", zero))

    def guide():
        drawn = pyro.sample("drawn", normal(1.0, 0.5), infer={"is_auxiliary": True})
        pyro.sample("z1", dist.Delta(drawn))
        pyro.sample("z2", dist.Delta(drawn))

    plan = plan_of(model, guide)
    why = "other sites too take the value of drawn, whose entropy counts once"
    assert {(site.how, site.why) for site in plan.values()} == {(SAMPLED, why)}
    value = mean_value(TraceAnalyticKL_ELBO(**MANY), model, guide)
    log_p = -torch.tensor(2 * torch.pi).log() - 1.25
    assert agree(value, (log_p + normal(1.0, 0.5).entropy()).item())


def test_a_delta_of_a_transposed_view_is_not_the_draw_itself():
    def model():
        with pyro.plate("a", 2, dim=-1), pyro.plate("b", 2, dim=-2):
            pyro.sample("z", normal(torch.tensor([[0.0, 1.0], [2.0, 3.0]])))

    def guide():
        with pyro.plate("a", 2, dim=-1), pyro.plate("b", 2, dim=-2):
            loc = torch.tensor([[0.0, 1.0], [2.0, 3.0]])
            drawn = pyro.sample("drawn", normal(loc, 0.1), infer={"is_auxiliary": True})
            pyro.sample("z", dist.Delta(drawn.mT))

    assert plan_of(model, guide)["z"].source == "z"


W = torch.tensor(1.0, dtype=torch.float64, requires_grad=True)
TRANSFORMED = {
    "weibull": (
        lambda: dist.Weibull(W, W + 1),
        lambda: dist.Weibull(torch.tensor(1.0), torch.tensor(2.0)),
    ),
    "affine": (
        lambda: dist.TransformedDistribution(
            normal(0.4), [dist.transforms.AffineTransform(W, 1.0)]
        ),
        lambda: dist.TransformedDistribution(
            normal(), [dist.transforms.AffineTransform(torch.tensor(1.0), 1.0)]
        ),
    ),
}


@pytest.mark.parametrize("name", TRANSFORMED)
def test_transforms_that_agree_only_at_present_are_sampled(name):
    """Torch takes such a KL from the bases alone: right in value here, without its gradient."""
    guide_fn, prior = TRANSFORMED[name]

    def model():
        with pyro.plate("data", 500):
            pyro.sample("z", prior())

    def guide():
        with pyro.plate("data", 500):
            pyro.sample("z", guide_fn())

    torch.distributions.kl_divergence(guide_fn(), prior())  # has a formula, at this value
    plan = plan_of(model, guide)
    assert plan["z"].why == "its transforms have parameters, which may differ"
    _, ours = replicates(TraceAnalyticKL_ELBO(), model, guide, (), [W], 40)
    _, pyros = replicates(Trace_ELBO(), model, guide, (), [W], 40, seed=1)
    assert bias_z_score(ours - pyros, torch.full((1,), 1e-9)) < 4.5
    if name == "affine":
        assert ours.mean().item() == pytest.approx(-0.4 * 500, rel=0.1)


SHARED = dist.transforms.AffineTransform(torch.tensor(0.3), torch.tensor(2.0))


@pytest.mark.parametrize(
    ("guide_fn", "prior", "how"),
    [
        (dist.LogNormal(0.2, 0.5), dist.LogNormal(0.0, 1.0), CLOSED_FORM),
        (dist.Gumbel(0.2, 0.5), dist.Gumbel(0.0, 1.0), CLOSED_FORM),
        (
            dist.TransformedDistribution(dist.Normal(0.4, 1.0), [SHARED]),
            dist.TransformedDistribution(dist.Normal(0.0, 1.0), [SHARED]),
            CLOSED_FORM,
        ),
        (dist.Laplace(0.0, 1.0), dist.StudentT(3.0), SAMPLED),
        (dist.Normal(0.2, 0.5).mask(False), dist.Normal(0.0, 1.0).mask(False), SAMPLED),  # noqa: FBT003
    ],
    ids=["log-normal", "gumbel", "one transform", "no formula", "masked"],
)
def test_kinds_of_distributions(guide_fn, prior, how):
    def model():
        pyro.sample("z", prior)

    def guide():
        pyro.sample("z", guide_fn)

    plan = plan_of(model, guide)
    assert plan["z"].how == how
    if isinstance(prior, dist.StudentT):
        assert plan["z"].why == "no closed form is known for Laplace against StudentT"
    many = {**MANY, "max_plate_nesting": 0}
    ours = mean_value(TraceAnalyticKL_ELBO(**many), model, guide)
    assert agree(ours, mean_value(Trace_ELBO(**many), model, guide, seed=1))
