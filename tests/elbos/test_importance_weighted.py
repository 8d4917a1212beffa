import itertools

import numpy as np
import pyro
import pyro.distributions as dist
import pytest
import torch
from estimates import mean_value, replicates, toy_by_hand, value_and_gradient
from pyro.infer import RenyiELBO
from scipy.special import logsumexp
from scipy.stats import norm

from ppl_vae import ExponentialNormal, GaussianChain, LinearGaussian
from ppl_vae.diagnostics.comparison.replicates import bias_z_score
from ppl_vae.elbos import TraceDReG_ELBO, TraceIWAE_ELBO, TraceSTL_ELBO
from ppl_vae.elbos.weights import Weights

BOTH = [TraceIWAE_ELBO, TraceDReG_ELBO]
X = torch.tensor([[1.3, -2.0], [0.4, 0.0], [0.1, 3.0]], dtype=torch.float64)


def chain_log_weights(pair, x, z1, z2):
    """Return log p(x, z) - log q(z | x) of the bottom-up chain, summed over columns, by scipy."""
    p = {name: value.detach().numpy() for name, value in pair.guide_parameters().items()}
    x, z1, z2 = x.numpy(), z1.detach().numpy(), z2.detach().numpy()
    log_p = norm.logpdf(z2) + norm.logpdf(z1, z2, 1) + norm.logpdf(x, z1, 1)
    log_q = norm.logpdf(z1, p["a"] * x + p["a0"], p["s1"])
    log_q = log_q + norm.logpdf(z2, p["b"] * z1 + p["b0"], p["s2"])
    return (log_p - log_q).sum(-1)


def draws(pair, x, num_particles, vectorised):
    """Return z1 and z2 as the estimator draws them from the present random state."""
    if not vectorised:
        traces = [pyro.poutine.trace(pair.guide).get_trace(x) for _ in range(num_particles)]
    else:
        plate = pyro.plate("num_particles_vectorized", num_particles, dim=-2)
        traces = [pyro.poutine.trace(plate(pair.guide)).get_trace(x)]
    z1, z2 = ([trace.nodes[name]["value"] for trace in traces] for name in ("z1", "z2"))
    return (z1[0], z2[0]) if vectorised else (torch.stack(z1), torch.stack(z2))


@pytest.mark.parametrize(
    ("num_particles", "vectorised"), [(1, False), (2, False), (7, False), (2, True), (7, True)]
)
@pytest.mark.parametrize("cls", BOTH)
def test_value_is_the_log_mean_of_the_weights_per_data_point(cls, num_particles, vectorised):
    pair = GaussianChain(2, guide="bottom-up", initial={"b": 0.7})
    elbo = cls(num_particles, vectorize_particles=vectorised)
    elbo.loss(pair.model, pair.guide, X)
    for seed in range(3):
        torch.manual_seed(seed)
        log_weights = chain_log_weights(pair, X, *draws(pair, X, num_particles, vectorised))
        assert log_weights.shape == (num_particles, 3)
        by_hand = (logsumexp(log_weights, axis=0) - np.log(num_particles)).sum()
        torch.manual_seed(seed)
        assert -elbo.loss(pair.model, pair.guide, X) == pytest.approx(by_hand, rel=1e-12)


@pytest.mark.parametrize("cls", BOTH)
@pytest.mark.parametrize("kind", ["top-down", "bottom-up"])
def test_gradients_are_the_papers_formulas_draw_by_draw(cls, kind):
    """From the gradients of each particle's log weight, by the guide's noise held fixed."""
    pair = GaussianChain(2, guide=kind, initial={"s1": 0.9})
    parameters = list(pair.parameters())
    num_particles, elbo = 3, cls(3)
    torch.manual_seed(5)
    _, found = value_and_gradient(elbo, pair.model, pair.guide, (X,), parameters)

    single = {TraceIWAE_ELBO: TraceIWAE_ELBO(1), TraceDReG_ELBO: TraceSTL_ELBO()}[cls]
    torch.manual_seed(5)
    log_weights, slopes = [], []
    for _ in range(num_particles):
        # One data point at a time, all with the noise of the whole.
        state, rows = torch.get_rng_state(), []
        for row in range(3):
            torch.set_rng_state(state)
            hidden = torch.tensor([row == n for n in range(3)])
            with pyro.poutine.mask(mask=hidden):
                rows.append(value_and_gradient(single, pair.model, pair.guide, (X,), parameters))
        log_weights.append(torch.stack([value for value, _ in rows]))
        slopes.append(torch.stack([gradient for _, gradient in rows]))
    share = torch.stack(log_weights).softmax(0)
    power = 1 if cls is TraceIWAE_ELBO else 2
    by_hand = (share.pow(power)[..., None] * torch.stack(slopes)).sum((0, 1))
    torch.testing.assert_close(found, by_hand, rtol=1e-10, atol=1e-12)


def test_one_particle_is_the_elbo_on_the_toy_by_hand():
    pair = ExponentialNormal(2.0, 0.5, guide_rate=1.5)
    x = torch.tensor([[1.2, 0.7], [0.3, 0.4]])
    for cls, name in ((TraceIWAE_ELBO, "trace"), (TraceDReG_ELBO, "sticking-the-landing")):
        torch.manual_seed(3)
        e = 1.5 * pair.guide(x).detach()
        by_hand = toy_by_hand(x, e, prior=2.0, noise=0.5, rate=1.5)[name]
        torch.manual_seed(3)
        found = value_and_gradient(cls(1), pair.model, pair.guide, (x,), [pair.log_rate])
        torch.testing.assert_close(found[0], by_hand[0], rtol=1e-10, atol=0)
        torch.testing.assert_close(found[1][0], by_hand[1], rtol=1e-10, atol=0)


PAIRS = {
    "toy": lambda: (ExponentialNormal(2.0, 0.5, guide_rate=1.5), torch.tensor([[1.2, 0.7]])),
    "linear": lambda: (
        LinearGaussian(3, 2, noise_scale=0.7, seed=1),
        torch.tensor([[0.3, 1.2, -0.5]]),
    ),
    "top-down": lambda: (GaussianChain(initial={"e": -0.2}), torch.tensor([[1.3]])),
    "bottom-up": lambda: (GaussianChain(guide="bottom-up"), torch.tensor([[1.3]])),
}


@pytest.mark.parametrize("name", PAIRS)
def test_bound_rises_from_the_elbo_and_never_exceeds_the_evidence(name):
    pair, x = PAIRS[name]()
    evidence, elbo = (f(x).sum().item() for f in (pair.exact.log_evidence, pair.exact.elbo))
    many = x.expand(2000, *x.shape[1:])
    found = []
    for num_particles in (1, 2, 8, 32):
        estimator = TraceIWAE_ELBO(num_particles, vectorize_particles=True)
        value = mean_value(estimator, pair.model, pair.guide, many, count=10)
        found.append((value.mean / 2000, value.standard_error / 2000))
    assert abs(found[0][0] - elbo) < 4.5 * found[0][1]
    for (low, low_error), (high, high_error) in itertools.pairwise(found):
        assert high - low > 4.5 * np.hypot(low_error, high_error)
    assert all(mean - evidence < 4.5 * error for mean, error in found)
    assert evidence - found[-1][0] < 0.2 * (evidence - elbo)


class Unsquared(TraceDReG_ELBO):
    """Planted and wrong: sticking the landing on the bound of several particles."""

    def bound(self, draws, program):
        weights = Weights(draws, self.plate)
        share = weights.normalised()
        model = (share * weights.log_p).sum()
        (draw,) = draws
        return model + draw.path((share * weights.log_ratios).sum())


@pytest.mark.parametrize("name", PAIRS)
def test_dreg_has_the_gradient_of_iwae_in_expectation(name):
    """Equal examples, so that each gradient is the sum of thousands of independent ones."""
    pair, x = PAIRS[name]()
    x = x.expand(3000, *x.shape[1:])
    parameters = list(pair.parameters())
    found = []
    for cls in BOTH:
        elbo = cls(3, vectorize_particles=True, max_plate_nesting=1)
        found.append(replicates(elbo, pair.model, pair.guide, (x,), parameters, 60))
    torch.testing.assert_close(found[0][0], found[1][0], rtol=1e-12, atol=0)
    first, second = found[0][1], found[1][1]
    rounding = 1e-10 * first.abs().amax(0)
    assert bias_z_score(first - second, rounding) < 4.5
    planted = Unsquared(3, vectorize_particles=True, max_plate_nesting=1)
    _, wrong = replicates(planted, pair.model, pair.guide, (x,), parameters, 60)
    assert bias_z_score(first - wrong, rounding) > 4.5


def test_signal_to_noise_of_the_guides_gradient():
    pair, x = PAIRS["linear"]()
    x = x.expand(500, 3)
    parameters = list(pair.encoder.parameters())
    ratios = {}
    for cls in BOTH:
        ratios[cls] = []
        for num_particles in (1, 4, 16, 64):
            elbo = cls(num_particles, vectorize_particles=True, max_plate_nesting=1)
            _, g = replicates(elbo, pair.model, pair.guide, (x,), parameters, 40)
            signal = g.mean(0).square().sum() - g.var(0).sum() / 40
            ratios[cls].append((signal / g.var(0).sum()).sqrt().item())
    plain, doubly = ratios[TraceIWAE_ELBO], ratios[TraceDReG_ELBO]
    assert all(low < 0.9 * high for high, low in itertools.pairwise(plain))
    assert plain[3] < 0.6 * plain[2] < 0.6 * 0.8 * plain[1]  # nears 1 / sqrt(4)
    assert all(high > 0.97 * low for low, high in itertools.pairwise(doubly))
    assert doubly[3] > 5 * plain[3]


@pytest.mark.parametrize("cls", BOTH)
def test_vectorised_and_looped_agree_in_distribution(cls):
    pair, x = PAIRS["bottom-up"]()
    parameters = list(pair.parameters())
    found = []
    for vectorised in (False, True):
        elbo = cls(4, vectorize_particles=vectorised, max_plate_nesting=1)
        args = (x.expand(200, 1),)
        found.append(replicates(elbo, pair.model, pair.guide, args, parameters, 80, vectorised))
    for looped, vectorised in zip(*found, strict=True):
        gap, spread = looped.mean(0) - vectorised.mean(0), looped.var(0) + vectorised.var(0)
        assert bool((gap.abs() < 4.5 * (spread / 80).sqrt()).all())
        # The variance of a sample variance of 80 Normals is 2 / 79 of its square.
        log_ratio = (looped.var(0) / vectorised.var(0)).log()
        assert log_ratio.abs().max() < 4.5 * (4 / 79) ** 0.5


def test_a_program_without_the_plate_has_one_weight():
    """All data jointly, as RenyiELBO; the mean's log cannot be split over data points."""
    x = torch.tensor([1.3, -0.2])

    def model():
        z = pyro.sample("z", dist.Normal(torch.zeros(2), 1.0).to_event(1))
        pyro.sample("x", dist.Normal(z, 1.0).to_event(1), obs=x)

    def guide():
        pyro.sample("z", dist.Normal(x / 3, 0.9).to_event(1))

    for cls in BOTH:
        torch.manual_seed(2)
        ours = cls(5).loss(model, guide)
        torch.manual_seed(2)
        assert ours == pytest.approx(RenyiELBO(num_particles=5).loss(model, guide), rel=1e-12)
    evidence = dist.Normal(0.0, 2**0.5).log_prob(x).sum().item()
    many = TraceIWAE_ELBO(500, vectorize_particles=True)
    found = mean_value(many, model, guide)
    assert found.mean < evidence + 4.5 * found.standard_error
    assert evidence - found.mean < 0.02


@pytest.mark.parametrize("cls", BOTH)
def test_a_draw_that_the_model_rules_out_has_weight_zero(cls):
    """log p is -inf there: fatal for an ELBO, one particle less here."""
    width = torch.tensor(2.0, requires_grad=True)

    def model():
        z = pyro.sample("z", dist.Uniform(0.0, 1.0))
        pyro.sample("x", dist.Normal(z, 1.0), obs=torch.tensor(0.5))

    def guide():
        pyro.sample("z", dist.Uniform(0.0, width))

    with pyro.validation_enabled(False):  # noqa: FBT003
        torch.manual_seed(0)
        z = torch.rand(6) * 2
        weights = torch.where(z < 1, dist.Normal(z, 1.0).log_prob(torch.tensor(0.5)).exp() * 2, 0)
        torch.manual_seed(0)
        value, gradient = value_and_gradient(cls(6), model, guide, (), [width])
    assert 0 < (weights == 0).sum() < 6
    assert value.item() == pytest.approx(weights.mean().log().item(), rel=1e-10)
    assert bool(gradient.isfinite().all())
