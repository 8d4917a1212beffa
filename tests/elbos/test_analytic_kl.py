import pyro
import pyro.distributions as dist
import pytest
import torch
from estimates import agree, mean_value, replicates, toy_by_hand, value_and_gradient
from pyro import poutine
from pyro.infer import Trace_ELBO, TraceMeanField_ELBO
from pyro.infer.autoguide import AutoDelta, AutoDiagonalNormal, AutoNormal, AutoNormalMessenger
from torch.distributions import MultivariateNormal, Normal, kl_divergence

from ppl_vae import ExponentialNormal, GaussianChain, LinearGaussian
from ppl_vae.diagnostics.comparison.replicates import bias_z_score
from ppl_vae.elbos import TraceAnalyticKL_ELBO

F64 = torch.float64
MANY = {"num_particles": 1000, "vectorize_particles": True, "max_plate_nesting": 1}


@pytest.mark.parametrize("shape", [(3,), (2, 3)])
@pytest.mark.parametrize("seed", range(4))
def test_each_sample_on_the_toy_is_the_hand_formula(seed, shape):
    pair = ExponentialNormal(2.0, 0.5, guide_rate=1.5)
    x = torch.linspace(-0.3, 1.4, torch.Size(shape).numel()).reshape(shape)
    torch.manual_seed(seed)
    e = 1.5 * pair.guide(x).detach()
    by_hand = toy_by_hand(x, e, prior=2.0, noise=0.5, rate=1.5)
    for elbo, name in ((TraceAnalyticKL_ELBO(), "analytic-kl"), (Trace_ELBO(), "trace")):
        torch.manual_seed(seed)
        found = value_and_gradient(elbo, pair.model, pair.guide, (x,), [pair.log_rate])
        torch.testing.assert_close(found[0], by_hand[name][0], rtol=1e-10, atol=0)
        torch.testing.assert_close(found[1][0], by_hand[name][1], rtol=1e-10, atol=0)


@pytest.mark.parametrize("kind", ["top-down", "bottom-up"])
def test_each_sample_on_the_chain_is_the_hand_formula(kind):
    pair = GaussianChain(2, guide=kind)
    x = torch.tensor([[1.3, -2.0], [0.4, 0.0]])
    for seed in range(3):
        p = pair.guide_parameters()
        torch.manual_seed(seed)
        trace = poutine.trace(pair.guide).get_trace(x)
        z1, z2 = trace.nodes["z1"]["value"], trace.nodes["z2"]["value"]
        by_hand = Normal(z1, 1).log_prob(x)
        if kind == "top-down":
            loc = p["d"] * z2 + p["e"] * x + p["f"]
            by_hand = by_hand - kl_divergence(Normal(loc, p["s1"]), Normal(z2, 1))
            q2 = Normal(p["c"] * x + p["c0"], p["s2"])
        else:
            by_hand = by_hand + Normal(z2, 1).log_prob(z1)
            by_hand = by_hand - Normal(p["a"] * x + p["a0"], p["s1"]).log_prob(z1)
            q2 = Normal(p["b"] * z1 + p["b0"], p["s2"])
        by_hand = (by_hand - kl_divergence(q2, Normal(0.0, 1))).sum()
        parameters = list(pair.parameters())
        slopes = torch.cat(torch.autograd.grad(by_hand, parameters))
        torch.manual_seed(seed)
        found = value_and_gradient(
            TraceAnalyticKL_ELBO(), pair.model, pair.guide, (x,), parameters
        )
        torch.testing.assert_close(found[0], by_hand.detach(), rtol=1e-10, atol=0)
        torch.testing.assert_close(found[1], slopes, rtol=1e-10, atol=1e-12)


PAIRS = {
    "top-down": lambda: (GaussianChain(), torch.full((3000, 1), 1.3)),
    "bottom-up": lambda: (GaussianChain(guide="bottom-up"), torch.full((3000, 1), 1.3)),
    "linear": lambda: (
        LinearGaussian(3, 2, noise_scale=0.7, seed=1),
        torch.tensor([[0.3, 1.2, -0.5]]).expand(3000, 3),
    ),
}


@pytest.mark.parametrize("name", PAIRS)
def test_value_and_gradient_are_exact_in_expectation(name):
    pair, x = PAIRS[name]()
    parameters, elbo = list(pair.parameters()), pair.exact.elbo(x).sum()
    exact = torch.cat([g.flatten() for g in torch.autograd.grad(elbo, parameters)])
    args = (pair.model, pair.guide, (x,), parameters)
    values, gradients = replicates(TraceAnalyticKL_ELBO(), *args, 60)
    rounding = 1e-10 * (1 + exact.abs())
    assert bias_z_score(gradients - exact, rounding) < 4.5
    assert abs((values - elbo.detach()).mean() / values.std() * 60**0.5) < 4.5
    if name == "bottom-up":  # the same measurement convicts Pyro's
        with pytest.warns(UserWarning, match="mean field"):
            values, gradients = replicates(TraceMeanField_ELBO(), *args, 60)
        assert bias_z_score(gradients - exact, rounding) > 4.5
        bias = (values - elbo.detach()) / 3000
        assert bias.mean().item() == pytest.approx(
            pair.exact.mean_field_bias(x)[0].item(), rel=0.1
        )


X = torch.tensor([0.4, 1.9, -0.8], dtype=F64)
LOC = torch.tensor([0.3, -0.2, 0.5], dtype=F64)
BOTH = (TraceAnalyticKL_ELBO, Trace_ELBO)


def hierarchy():
    rate = pyro.sample("rate", dist.Gamma(2.0, 1.0))
    with pyro.plate("data", 3, dim=-1):
        z = pyro.sample("z", dist.Normal(0.0, 1.0))
        w = pyro.sample("w", dist.Normal(z, rate))
        pyro.sample("x", dist.Normal(w, 1.0), obs=X)


@pytest.mark.parametrize("auto", [AutoNormal, AutoDelta, AutoDiagonalNormal, AutoNormalMessenger])
def test_autoguides_as_trace_elbo(auto):
    guide = auto(hierarchy)
    guide()
    ours, pyros = (mean_value(c(**MANY), hierarchy, guide, count=30) for c in BOTH)
    assert agree(ours, pyros)
    parameters = list(guide.parameters())
    _, ours = replicates(TraceAnalyticKL_ELBO(**MANY), hierarchy, guide, (), parameters, 40)
    _, pyros = replicates(Trace_ELBO(**MANY), hierarchy, guide, (), parameters, 40, seed=1)
    assert bias_z_score(ours - pyros, 1e-10 * (1 + pyros.abs().amax(0))) < 4.5


def test_autonormal_of_a_real_latent_by_hand():
    def model():
        with pyro.plate("data", 3, dim=-1):
            top = pyro.sample("top", dist.Normal(1.0, 2.0))
            pyro.sample("low", dist.Normal(top, 1.0))

    guide = AutoNormal(model, init_scale=0.6)
    guide()
    guide.locs.top_unconstrained.data.copy_(LOC)
    guide.locs.low_unconstrained.data.copy_(X)
    # Of "low" the KL is taken at the drawn top; of "top" nothing is left to chance.
    torch.manual_seed(0)
    top = guide()["top"]
    kl = kl_divergence(Normal(LOC, 0.6), Normal(1.0, 2.0))
    kl = kl + kl_divergence(Normal(X, 0.6), Normal(top, 1.0))
    torch.manual_seed(0)
    found = TraceAnalyticKL_ELBO(strict=True).loss(model, guide)
    assert found == pytest.approx(kl.sum().item(), rel=1e-10)


@pytest.mark.parametrize("vectorise", [False, True])
@pytest.mark.parametrize("kind", ["top-down", "bottom-up"])
def test_particles_are_averaged(kind, vectorise):
    pair, x = GaussianChain(guide=kind), torch.tensor([[1.3], [0.2]])
    elbo = TraceAnalyticKL_ELBO(4, vectorize_particles=vectorise, max_plate_nesting=1)
    assert agree(
        mean_value(elbo, pair.model, pair.guide, x, count=60), pair.exact.elbo(x).sum().item()
    )
    if not vectorise:
        torch.manual_seed(0)
        four = elbo.loss(pair.model, pair.guide, x)
        torch.manual_seed(0)
        one = [TraceAnalyticKL_ELBO().loss(pair.model, pair.guide, x) for _ in range(4)]
        assert four == pytest.approx(sum(one) / 4, rel=1e-12)


def test_subsampling_is_unbiased():
    def model(size):
        with pyro.plate("data", 3, subsample_size=size, dim=-1) as row:
            z = pyro.sample("z", dist.Normal(0.0, 1.0))
            pyro.sample("x", dist.Normal(z, 1.0), obs=X[row])

    def guide(size):
        with pyro.plate("data", 3, subsample_size=size, dim=-1) as row:
            pyro.sample("z", dist.Normal(LOC[row], 0.5))

    exact = (
        Normal(LOC, 1.0).log_prob(X) - 0.125 - kl_divergence(Normal(LOC, 0.5), Normal(0.0, 1.0))
    )
    for size in (1, 2, 3):
        found = mean_value(TraceAnalyticKL_ELBO(), model, guide, size, count=150)
        assert agree(found, exact.sum().item())


def test_a_factor_of_the_guide_counts():
    """A density written as a draw and the Jacobian of what is done with it."""

    def model():
        pyro.sample("z", dist.LogNormal(0.0, 1.0))

    def guide():
        u = pyro.sample("u", dist.Normal(0.4, 0.7), infer={"is_auxiliary": True})
        pyro.factor("jacobian", -u, has_rsample=True)
        pyro.sample("z", dist.Delta(u.exp()))

    found = mean_value(TraceAnalyticKL_ELBO(**{**MANY, "max_plate_nesting": 0}), model, guide)
    assert agree(found, -kl_divergence(Normal(0.4, 0.7), Normal(0.0, 1.0)).item())


def test_a_multivariate_prior_of_a_diagonal_guide():
    factor = torch.tensor([[1.0, 0.0], [0.6, 0.8]])
    loc, scale = torch.randn(3, 2), torch.rand(3, 2) + 0.5

    def model():
        with pyro.plate("data", 3, dim=-1):
            pyro.sample("z", dist.MultivariateNormal(torch.zeros(2), scale_tril=factor))

    def guide():
        with pyro.plate("data", 3, dim=-1):
            pyro.sample("z", dist.Normal(loc, scale).to_event(1))

    by_hand = kl_divergence(
        MultivariateNormal(loc, scale_tril=scale.diag_embed()),
        MultivariateNormal(torch.zeros(2), scale_tril=factor),
    )
    found = TraceAnalyticKL_ELBO(strict=True).loss(model, guide)
    assert found == pytest.approx(by_hand.sum().item(), rel=1e-12)
