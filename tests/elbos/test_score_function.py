import pyro
import pyro.distributions as dist
import pytest
import torch
from estimates import agree, mean_value, replicates, toy_by_hand, value_and_gradient
from pyro.infer import SVI, Trace_ELBO
from pyro.infer.autoguide import AutoDelta, AutoNormal
from pyro.optim import Adam

from ppl_vae import ExponentialNormal, GaussianChain
from ppl_vae.diagnostics.comparison.replicates import bias_z_score
from ppl_vae.elbos import TraceScoreFunction_ELBO

Z = torch.zeros((), dtype=torch.float64)


@pytest.mark.parametrize("shape", [(3,), (2, 3)])
@pytest.mark.parametrize("seed", range(4))
def test_each_sample_on_the_toy_is_the_hand_formula(seed, shape):
    pair = ExponentialNormal(2.0, 0.5, guide_rate=1.5)
    x = torch.linspace(-0.3, 1.4, torch.Size(shape).numel()).reshape(shape)
    torch.manual_seed(seed)
    e = 1.5 * pair.guide(x).detach()
    by_hand = toy_by_hand(x, e, prior=2.0, noise=0.5, rate=1.5)["score-function"]
    if len(shape) == 2:
        # Each data set is weighed by its own terms only.
        each = [toy_by_hand(*d, prior=2.0, noise=0.5, rate=1.5) for d in zip(x, e, strict=True)]
        torch.testing.assert_close(by_hand[1], sum(d["score-function"][1] for d in each))
    torch.manual_seed(seed)
    found = value_and_gradient(
        TraceScoreFunction_ELBO(), pair.model, pair.guide, (x,), [pair.log_rate]
    )
    torch.testing.assert_close(found[0], by_hand[0], rtol=1e-10, atol=0)
    torch.testing.assert_close(found[1][0], by_hand[1], rtol=1e-10, atol=0)


TWO = torch.tensor([0.3, 1.4], dtype=torch.float64)
DISTRIBUTIONS = {
    "normal": lambda p: dist.Normal(p, 0.7),
    "log-normal": lambda p: dist.LogNormal(p, 0.7),
    "half-normal": lambda p: dist.HalfNormal(p.exp()),
    "gumbel": lambda p: dist.Gumbel(p, 0.7),
    "weibull": lambda p: dist.Weibull(p.exp(), 1.3),
    "inverse-gamma": lambda p: dist.InverseGamma(p.exp(), torch.tensor(1.3)),
    "gamma": lambda p: dist.Gamma(p.exp(), 1.3),
    "expanded": lambda p: dist.Normal(p, 0.7).expand([2]).to_event(1),
    "events": lambda p: dist.LogNormal(p + torch.zeros(2), 0.7).to_event(1),
    "masked": lambda p: dist.Normal(p + torch.zeros(2), 0.7).mask(TWO > 1).to_event(1),
    "multivariate": lambda p: dist.MultivariateNormal(p + torch.zeros(2), torch.eye(2)),
    "relaxed": lambda p: dist.RelaxedBernoulliStraightThrough(torch.tensor(0.5), logits=p),
    "by transforms": lambda p: dist.TransformedDistribution(
        dist.Normal(p, 0.7), [dist.transforms.SigmoidTransform()]
    ),
    "by learned transforms": lambda p: dist.TransformedDistribution(
        dist.Normal(0.0, 0.7), [dist.transforms.AffineTransform(p, 1.3)]
    ),
}


@pytest.mark.parametrize("name", DISTRIBUTIONS)
def test_no_draw_of_any_distribution_is_reparameterised(name):
    p = torch.tensor(0.3, requires_grad=True)
    distribution = DISTRIBUTIONS[name](p)

    def guide():
        return pyro.sample("z", distribution)

    def model():
        z = pyro.sample("z", DISTRIBUTIONS[name](Z))
        pyro.sample("x", dist.Normal(z.sum(), 1.0), obs=Z)

    torch.manual_seed(1)
    trace = TraceScoreFunction_ELBO()._get_trace(model, guide, (), {})[1]
    assert not trace.nodes["z"]["value"].requires_grad
    assert distribution.has_rsample  # the guide's own distribution stays what it was
    torch.manual_seed(1)
    value, gradient = value_and_gradient(TraceScoreFunction_ELBO(), model, guide, (), [p])
    # The hand formula: f(z) times the slope of log q at the draw held fixed.
    z = trace.nodes["z"]["value"]
    fresh = DISTRIBUTIONS[name](p)
    log_q = fresh.log_prob(z)
    log_p = DISTRIBUTIONS[name](Z).log_prob(z) + dist.Normal(z.sum(), 1.0).log_prob(Z)
    torch.testing.assert_close(value, (log_p - log_q).detach(), rtol=1e-10, atol=1e-12)
    slope = torch.autograd.grad(log_q, p)[0]
    torch.testing.assert_close(gradient[0], value * slope, rtol=1e-10, atol=1e-12)


def test_a_delta_still_learns_its_value():
    """It has no density by whose score it could: the gradient of the posterior density is left."""

    def model():
        z = pyro.sample("z", dist.Normal(1.0, 1.0))
        pyro.sample("x", dist.Normal(z, 0.5), obs=torch.tensor(2.0))

    guide = AutoDelta(model)
    guide()
    elbo = TraceScoreFunction_ELBO()
    _, gradient = value_and_gradient(elbo, model, guide, (), [guide.z])
    at = guide.z.item()
    assert gradient.item() == pytest.approx(-(at - 1.0) - (at - 2.0) / 0.25, rel=1e-10)
    svi = SVI(model, guide, Adam({"lr": 0.1}), elbo)
    for _ in range(200):
        svi.step()
    assert guide.z.item() == pytest.approx((1 + 2 * 4) / 5, abs=1e-3)


@pytest.mark.parametrize("kind", ["top-down", "bottom-up"])
def test_gradient_is_the_exact_one_in_expectation(kind):
    pair = GaussianChain(guide=kind)
    x = torch.full((300, 1), 1.3)
    parameters = list(pair.parameters())
    exact = torch.autograd.grad(pair.exact.elbo(x).sum(), parameters)
    values, gradients = replicates(
        TraceScoreFunction_ELBO(), pair.model, pair.guide, (x,), parameters, 200
    )
    differences = gradients - torch.cat(exact)
    assert bias_z_score(differences, torch.full((len(exact),), 1e-9)) < 4.5
    error = (values - pair.exact.elbo(x).sum()).detach()
    assert abs(error.mean() / error.std() * 200**0.5) < 4.5


def test_discrete_and_autonormal_and_factors_as_trace_elbo():
    def discrete():
        z = pyro.sample("z", dist.Bernoulli(0.4))
        pyro.sample("x", dist.Normal(z, 1.0), obs=torch.tensor(0.7))

    def positive():
        z = pyro.sample("z", dist.Gamma(2.0, 1.0))
        pyro.sample("x", dist.Normal(z, 1.0), obs=torch.tensor(0.7))

    logits = torch.tensor(0.2, requires_grad=True)
    loc = torch.tensor(0.2, requires_grad=True)

    def with_factor():
        # Log q of z = exp(u), written as a draw and a factor.
        u = pyro.sample("u", dist.Normal(loc, 0.7), infer={"is_auxiliary": True})
        pyro.factor("jacobian", -u, has_rsample=True)
        pyro.sample("z", dist.Delta(u.exp()))

    auto = AutoNormal(positive)
    auto()
    for model, guide, parameter in (
        (discrete, lambda: pyro.sample("z", dist.Bernoulli(logits=logits)), logits),
        (positive, auto, auto.scales.z_unconstrained),
        (positive, with_factor, loc),
    ):
        many = {"num_particles": 2000, "vectorize_particles": True, "max_plate_nesting": 0}
        ours = replicates(TraceScoreFunction_ELBO(**many), model, guide, (), [parameter], 40)
        pyros = replicates(Trace_ELBO(**many), model, guide, (), [parameter], 40, seed=1)
        for mine, theirs in zip(ours, pyros, strict=True):
            gap = (mine.mean(0) - theirs.mean(0)).abs()
            error = ((mine.var(0) + theirs.var(0)) / 40).sqrt()
            assert bool((gap < 4.5 * error).all())


def test_svi_trains_a_guide_that_pyro_would_reparameterise():
    pair = ExponentialNormal(2.0, 0.5, guide_rate=4.0)
    x = torch.tensor([1.2, 0.7, 1.1])
    elbo = TraceScoreFunction_ELBO(num_particles=200, vectorize_particles=True)
    svi = SVI(pair.model, pair.guide, Adam({"lr": 0.03}), elbo)
    before = pair.exact.elbo(x).item()
    for _ in range(150):
        svi.step(x)
    after = pair.exact.elbo(x).item()
    pair.log_rate.data.copy_(pair.exact.optimal_guide_rate(x).log())
    best = pair.exact.elbo(x).item()
    assert best - after < 0.02 * (best - before)


def test_bad_input():
    with pytest.raises(ValueError, match="num_particles of at least 1; got 0"):
        TraceScoreFunction_ELBO(0)
    with pytest.raises(TypeError, match="num_particles as an int; got float"):
        TraceScoreFunction_ELBO(2.0)

    def guide():
        pyro.sample("w", dist.Normal(0.0, 1.0))

    def model():
        pyro.sample("z", dist.Normal(0.0, 1.0))

    with pyro.validation_enabled(False):  # noqa: FBT003
        with pytest.raises(
            ValueError, match="expected a site 'z' in the guide, .*; got sites 'w'"
        ):
            TraceScoreFunction_ELBO().loss(model, guide)
        with pytest.raises(
            ValueError, match="expected a site 'w' in the model, .*; got sites none"
        ):
            TraceScoreFunction_ELBO().loss(lambda: None, guide)


def test_particles_are_averaged_and_vectorised_alike():
    pair = GaussianChain(guide="bottom-up")
    x = torch.tensor([[1.3], [-0.4]])
    exact = pair.exact.elbo(x).sum().item()
    for vectorise in (False, True):
        elbo = TraceScoreFunction_ELBO(5, vectorize_particles=vectorise)
        assert agree(mean_value(elbo, pair.model, pair.guide, x), exact)
