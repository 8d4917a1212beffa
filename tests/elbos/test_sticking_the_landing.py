import math

import pyro
import pyro.distributions as dist
import pytest
import torch
from estimates import agree, mean_value, replicates, toy_by_hand, value_and_gradient
from pyro import poutine
from pyro.infer import Trace_ELBO
from pyro.infer.autoguide import AutoDelta, AutoDiagonalNormal, AutoNormal

from ppl_vae import ExponentialNormal, GaussianChain, LinearGaussian
from ppl_vae.diagnostics.comparison.replicates import bias_z_score
from ppl_vae.elbos import TraceSTL_ELBO

HALF, TWO_THIRDS = 0.5**0.5, (2 / 3) ** 0.5
POSTERIOR = {
    "bottom-up": {"a": 2 / 3, "s1": TWO_THIRDS, "b": 0.5, "s2": HALF},
    "top-down": {"c": 1 / 3, "s2": TWO_THIRDS, "d": 0.5, "e": 0.5, "s1": HALF},
}

MANY = {"num_particles": 300, "vectorize_particles": True}


def differ(first, second):
    """Return the z-score of the difference of two means of gradients."""
    rounding = 1e-10 * (1 + first.abs().amax(0))
    return bias_z_score(first - second, rounding)


@pytest.mark.parametrize("shape", [(3,), (2, 3)])
@pytest.mark.parametrize("seed", range(4))
def test_each_sample_on_the_toy_is_the_hand_formula(seed, shape):
    pair = ExponentialNormal(2.0, 0.5, guide_rate=1.5)
    x = torch.linspace(-0.3, 1.4, torch.Size(shape).numel()).reshape(shape)
    torch.manual_seed(seed)
    e = 1.5 * pair.guide(x).detach()
    by_hand = toy_by_hand(x, e, prior=2.0, noise=0.5, rate=1.5)["sticking-the-landing"]
    torch.manual_seed(seed)
    found = value_and_gradient(TraceSTL_ELBO(), pair.model, pair.guide, (x,), [pair.log_rate])
    torch.testing.assert_close(found[0], by_hand[0], rtol=1e-10, atol=0)
    torch.testing.assert_close(found[1][0], by_hand[1], rtol=1e-10, atol=0)


@pytest.mark.parametrize("vectorise", [False, True])
@pytest.mark.parametrize("kind", POSTERIOR)
def test_no_gradient_variance_at_the_chains_posterior(kind, vectorise):
    pair = GaussianChain(2, guide=kind, initial=POSTERIOR[kind])
    x = torch.tensor([[1.3, -2.0], [0.4, 7.0]])
    parameters = list(pair.parameters())
    torch.testing.assert_close(pair.exact.elbo(x), pair.exact.log_evidence(x))
    elbo = TraceSTL_ELBO(3, vectorize_particles=vectorise)
    values, gradients = replicates(elbo, pair.model, pair.guide, (x,), parameters, 30)
    assert gradients.var(0).max() < 1e-20
    assert gradients.abs().max() < 1e-12
    torch.testing.assert_close(values, pair.exact.log_evidence(x).sum().expand(30))
    _, plain = replicates(Trace_ELBO(3), pair.model, pair.guide, (x,), parameters, 30)
    assert plain.var(0).max() > 0.1


def test_no_gradient_variance_at_the_linear_models_posterior():
    pair = LinearGaussian(4, 2, noise_scale=0.7, seed=0)
    with torch.no_grad():  # orthogonal columns, so that the posterior is diagonal
        weight = torch.linalg.qr(torch.randn(4, 2))[0] * torch.tensor([2.0, 0.6])
        pair.decoder.weight.copy_(weight)
        pair.decoder.loc.copy_(torch.tensor([0.3, -0.1, 0.5, 2.0]))
        precision = weight.square().sum(0) + 0.7**2
        pair.encoder.weight.copy_(weight.T / precision[:, None])
        pair.encoder.log_scale.copy_(math.log(0.7) - 0.5 * precision.log())
    x = torch.randn(5, 4)
    torch.testing.assert_close(pair.exact.elbo(x), pair.exact.log_evidence(x))
    parameters = list(pair.encoder.parameters())
    _, gradients = replicates(TraceSTL_ELBO(), pair.model, pair.guide, (x,), parameters, 30)
    assert gradients.var(0).max() < 1e-20
    _, plain = replicates(Trace_ELBO(), pair.model, pair.guide, (x,), parameters, 30)
    assert plain.var(0).max() > 0.1


PAIRS = {
    "top-down": lambda: (GaussianChain(), torch.full((3000, 1), 1.3)),
    "bottom-up": lambda: (GaussianChain(guide="bottom-up"), torch.full((3000, 1), 1.3)),
    "linear": lambda: (
        LinearGaussian(3, 2, noise_scale=0.7, seed=1),
        torch.tensor([[0.3, 1.2, -0.5]]).repeat(3000, 1),
    ),
    "toy": lambda: (
        ExponentialNormal(2.0, 0.5, guide_rate=1.5),
        torch.tensor([[1.2, 0.7]]).repeat(30000, 1),
    ),
}


@pytest.mark.parametrize("name", PAIRS)
def test_gradient_is_the_exact_one_in_expectation(name):
    """Equal examples, so that each gradient is the sum of thousands of independent ones."""
    pair, x = PAIRS[name]()
    parameters = list(pair.parameters())
    exact = torch.cat(
        [g.flatten() for g in torch.autograd.grad(pair.exact.elbo(x).sum(), parameters)]
    )
    _, gradients = replicates(TraceSTL_ELBO(), pair.model, pair.guide, (x,), parameters, 60)
    assert differ(gradients, exact.expand_as(gradients)) < 4.5
    assert differ(gradients, 1.03 * exact.expand_as(gradients)) > 4.5


DATA = torch.tensor([0.4, 1.9, -0.8], dtype=torch.float64)
LOC = torch.tensor([0.3, -0.2, 0.5], dtype=torch.float64, requires_grad=True)
SLOPE = torch.tensor(0.4, dtype=torch.float64, requires_grad=True)
LOG_SCALE = torch.tensor(-0.5, dtype=torch.float64, requires_grad=True)
THETA = torch.tensor(0.7, dtype=torch.float64, requires_grad=True)
PARAMETERS = [LOC, SLOPE, LOG_SCALE, THETA]
MASK = torch.tensor([True, False, True])


def model(model_scale=1.0, model_mask=None):
    shared = pyro.sample("shared", dist.Normal(0.0, 1.0))
    model_mask = torch.ones(3, 1, dtype=torch.bool) if model_mask is None else model_mask
    with pyro.plate("outer", 3, dim=-2), poutine.mask(mask=model_mask):
        with poutine.scale(scale=model_scale):
            top = pyro.sample("top", dist.Normal(shared, THETA.exp()))
        with pyro.plate("inner", 2, dim=-1):
            low = pyro.sample("low", dist.LogNormal(top, 0.8))
            pyro.sample("x", dist.Normal(low * THETA, 1.0), obs=DATA[:, None])


def guide(guide_scale=1.0, guide_mask=None):
    """Low first, the top given it, through an auxiliary site; what they share given all."""
    guide_mask = torch.ones(3, 1, dtype=torch.bool) if guide_mask is None else guide_mask
    with pyro.plate("outer", 3, dim=-2), poutine.mask(mask=guide_mask):
        with poutine.scale(scale=guide_scale):
            with pyro.plate("inner", 2, dim=-1):
                low = pyro.sample("low", dist.LogNormal(LOC[:, None], LOG_SCALE.exp()))
            noise = pyro.sample("noise", dist.Normal(SLOPE, 0.3), infer={"is_auxiliary": True})
            top = pyro.sample("top", dist.Normal(SLOPE * low.mean(-1, keepdim=True) + noise, 0.6))
    pyro.sample("shared", dist.Normal(SLOPE * top.mean((-1, -2), keepdim=True), LOG_SCALE.exp()))


@pytest.mark.parametrize(
    ("model_weights", "guide_weights"),
    [
        ((1.0, None), (1.0, None)),
        ((0.3, None), (1.0, None)),
        ((1.0, None), (0.3, None)),
        ((1.0, MASK[:, None]), (1.0, MASK[:, None])),
        ((0.5, MASK[:, None]), (2.0, None)),
    ],
    ids=["plain", "model scaled", "guide scaled", "masked", "mixed"],
)
def test_plates_auxiliary_sites_scales_and_masks_as_trace_elbo(model_weights, guide_weights):
    def weighed(function, weights):
        return lambda: function(*weights)

    functions = weighed(model, model_weights), weighed(guide, guide_weights)
    _, ours = replicates(TraceSTL_ELBO(**MANY), *functions, (), PARAMETERS, 40)
    _, pyros = replicates(Trace_ELBO(**MANY), *functions, (), PARAMETERS, 40)
    assert differ(ours, pyros) < 4.5
    torch.testing.assert_close(  # the model's parameter has the same gradient, draw by draw
        ours[:, -1], pyros[:, -1], rtol=1e-10, atol=1e-12
    )
    assert (ours[:, :-1] - pyros[:, :-1]).abs().max() > 1e-3
    assert differ(1.05 * ours, pyros) > 4.5


@pytest.mark.parametrize("auto", [AutoNormal, AutoDelta, AutoDiagonalNormal])
def test_autoguides_as_trace_elbo(auto):
    def hierarchy():
        rate = pyro.sample("rate", dist.Gamma(2.0, 1.0))
        with pyro.plate("data", 3):
            z = pyro.sample("z", dist.Normal(0.0, rate))
            pyro.sample("x", dist.Normal(z, 1.0), obs=DATA)

    autoguide = auto(hierarchy)
    autoguide()
    parameters = list(autoguide.parameters())
    _, ours = replicates(TraceSTL_ELBO(**MANY), hierarchy, autoguide, (), parameters, 40)
    _, pyros = replicates(Trace_ELBO(**MANY), hierarchy, autoguide, (), parameters, 40)
    assert differ(ours, pyros) < 4.5
    if auto is AutoDelta:
        torch.testing.assert_close(ours, pyros)


def test_implicitly_reparameterised_draws():
    concentration = torch.tensor([1.4, 0.8, 2.2], requires_grad=True)

    def gammas():
        with pyro.plate("data", 3000, dim=-1):
            w = pyro.sample("w", dist.Dirichlet(torch.ones(3)))
            pyro.sample("x", dist.Normal(w[..., 0], 0.5), obs=torch.tensor(0.9))

    def posterior():
        with pyro.plate("data", 3000, dim=-1):
            pyro.sample("w", dist.Dirichlet(concentration))

    _, ours = replicates(TraceSTL_ELBO(), gammas, posterior, (), [concentration], 40)
    _, pyros = replicates(Trace_ELBO(), gammas, posterior, (), [concentration], 40)
    assert differ(ours, pyros) < 4.5
    assert differ(1.05 * ours, pyros) > 4.5


def test_values_are_those_of_trace_elbo_and_leave_no_gradient_at_the_draws():
    pair = GaussianChain(guide="bottom-up")
    x = torch.tensor([[1.3], [0.2]])
    for vectorise in (False, True):
        ours = TraceSTL_ELBO(4, vectorize_particles=vectorise)
        pyros = Trace_ELBO(4, vectorize_particles=vectorise)
        for elbo in (ours, pyros):  # the first call of a vectorised one draws more
            elbo.loss(pair.model, pair.guide, x)
        for seed in range(3):
            torch.manual_seed(seed)
            first = ours.loss(pair.model, pair.guide, x)
            torch.manual_seed(seed)
            assert first == pytest.approx(pyros.loss(pair.model, pair.guide, x), rel=1e-12)
    assert agree(mean_value(ours, pair.model, pair.guide, x), pair.exact.elbo(x).sum().item())


def test_a_parameter_of_both_sides_has_both_gradients():
    """The linear model's loc is in the decoder and, through the encoder's input, in the guide."""
    pair, x = PAIRS["linear"]()
    loc = pair.decoder.loc
    exact = torch.autograd.grad(pair.exact.elbo(x).sum(), loc)[0]
    _, gradients = replicates(TraceSTL_ELBO(), pair.model, pair.guide, (x,), [loc], 30)
    assert differ(gradients, exact.expand_as(gradients)) < 4.5
