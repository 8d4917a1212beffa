"""Leave-one-out and DisARM: by hand draw by draw, in expectation, and in their noise."""

import pyro
import pyro.distributions as dist
import pytest
import torch
from discrete_programs import PROGRAMS
from estimates import replicates, value_and_gradient

from ppl_vae import BinaryLatentVAE, compare_elbos
from ppl_vae.closed_forms import one_bit
from ppl_vae.elbos import (
    TraceDisARM_ELBO,
    TraceLeaveOneOut_ELBO,
    TraceScoreFunction_ELBO,
    make,
)

X = torch.tensor([0.3, -1.2, 2.0, 0.1], dtype=torch.float64)


@pytest.fixture
def pair():
    return BinaryLatentVAE((1, 2, 2), 3, seed=1)


def log_ratio(pair, x, z):
    """Log p(x, z) - log q(z | x) at bits z, (*batch, examples)."""
    log_p = pair.prior().log_prob(z) + pair.likelihood(z).log_prob(x)
    return (log_p - pair.posterior(x).log_prob(z)).detach()


def slopes_by_bias(pair, elbo, x):
    torch.manual_seed(4)
    return value_and_gradient(elbo, pair.model, pair.guide, (x,), [pair.encoder[0].bias])


@pytest.mark.parametrize("num_particles", [2, 5])
def test_leave_one_out_is_the_hand_formula(num_particles, pair):
    x = pair.sample(4, seed=0)
    torch.manual_seed(4)
    z = torch.stack([pair.guide(x) for _ in range(num_particles)])
    f = log_ratio(pair, x, z)
    score = z - pair.posterior(x).mean.detach()
    by_hand = 0.0
    for k in range(num_particles):
        others = torch.cat([f[:k], f[k + 1 :]]).mean(0)
        by_hand = by_hand + ((f[k] - others).unsqueeze(-1) * score[k]).sum(0) / num_particles
    value, gradient = slopes_by_bias(pair, TraceLeaveOneOut_ELBO(num_particles), x)
    torch.testing.assert_close(value, f.sum(-1).mean(), rtol=1e-10, atol=0)
    torch.testing.assert_close(gradient, by_hand, rtol=1e-10, atol=1e-12)


def test_disarm_is_the_hand_formula(pair):
    x = pair.sample(4, seed=0)
    torch.manual_seed(4)
    u = torch.rand(4, 3)
    p = pair.posterior(x).mean.detach()
    b, c = (u < p).double(), (1 - u < p).double()
    f, g = log_ratio(pair, x, b), log_ratio(pair, x, c)
    largest = torch.maximum(p, 1 - p)
    by_hand = 0.5 * ((f - g).unsqueeze(-1) * (-1) ** c * (b != c) * largest).sum(0)
    value, gradient = slopes_by_bias(pair, TraceDisARM_ELBO(), x)
    torch.testing.assert_close(value, (f + g).sum() / 2, rtol=1e-10, atol=0)
    torch.testing.assert_close(gradient, by_hand, rtol=1e-10, atol=1e-12)


WAYS = {
    "leave-one-out": lambda: TraceLeaveOneOut_ELBO(),
    "leave-one-out, vectorised": lambda: TraceLeaveOneOut_ELBO(3, vectorize_particles=True),
    "disarm": lambda: TraceDisARM_ELBO(),
    "disarm, one pair, vectorised": lambda: TraceDisARM_ELBO(2, vectorize_particles=True),
    "disarm, vectorised": lambda: TraceDisARM_ELBO(4, vectorize_particles=True),
}


@pytest.mark.parametrize("name", PROGRAMS)
@pytest.mark.parametrize("way", WAYS)
def test_value_and_gradient_have_the_expectation_of_the_sum_over_states(way, name):
    if name == "branching" and "vectorised" in way:
        pytest.skip("a Python branch has one value")
    program = PROGRAMS[name]()
    # Data points are independent draws, unless they share one.
    x, count = (X, 300) if name in ("shared bit", "branching") else (X.repeat(50), 100)
    parameters = program.parameters
    exact = program.elbo(x)
    slopes = torch.autograd.grad(exact, parameters, allow_unused=True, materialize_grads=True)
    values, gradients = replicates(
        WAYS[way](), program.model, program.guide, (x,), parameters, count
    )
    errors = gradients.std(0) / count**0.5
    gaps = gradients.mean(0) - torch.cat([s.flatten() for s in slopes])
    assert bool((gaps.abs() < 4.5 * errors + 1e-10).all())
    assert abs(values.mean() - exact) < 4.5 * values.std() / count**0.5


@pytest.mark.parametrize("logit", [-2.0, -0.6, 0.0, 1.3])
@pytest.mark.parametrize("name", ["score-function", "leave-one-out", "disarm"])
def test_the_noise_on_one_bit_is_the_closed_form(name, logit):
    """Every data point has a logit of its own, whose slopes are independent draws."""
    count = 100_000
    logits = torch.full((count,), logit, requires_grad=True)
    energy, prior = torch.tensor([-1.0, 1.5]), torch.tensor(0.4)

    def model():
        with pyro.plate("data", count):
            b = pyro.sample("b", dist.Bernoulli(logits=prior))
            pyro.factor("f", energy[b.long()])

    def guide():
        with pyro.plate("data", count):
            pyro.sample("b", dist.Bernoulli(logits=logits))

    states = torch.tensor([0.0, 1.0])
    t = torch.tensor(logit)
    f = energy + dist.Bernoulli(logits=prior).log_prob(states)
    f = f - dist.Bernoulli(logits=t).log_prob(states)
    torch.manual_seed(2)
    _, slopes = value_and_gradient(make(name), model, guide, (), [logits])
    mean = one_bit.gradient(t, f[0], f[1])
    variance = one_bit.gradient_variance(t, f[0], f[1], estimator=name)
    assert abs(slopes.mean() - mean) <= 4.5 * slopes.std() / count**0.5 + 1e-12
    squares = (slopes - slopes.mean()).square()
    assert abs(squares.mean() - variance) <= 4.5 * squares.std() / count**0.5 + 1e-12


def test_a_constant_in_the_objective_adds_no_noise(pair):
    x = pair.sample(4, seed=0)

    def shifted(images):
        pair.model(images)
        with pyro.plate("again", len(images)):
            pyro.factor("constant", torch.tensor(1000.0).expand(len(images)))

    for cls in (TraceLeaveOneOut_ELBO, TraceDisARM_ELBO):
        results = []
        for model in (pair.model, shifted):
            torch.manual_seed(4)
            results.append(
                value_and_gradient(cls(), model, pair.guide, (x,), [*pair.parameters()])
            )
        torch.testing.assert_close(results[1][1], results[0][1], rtol=1e-9, atol=1e-9)
        torch.testing.assert_close(results[1][0] - results[0][0], torch.tensor(4000.0))


def test_without_discrete_latents_they_are_the_pathwise_estimator():
    def model(x):
        with pyro.plate("data", len(x)):
            z = pyro.sample("z", dist.Normal(0.0, 1.0))
            pyro.sample("x", dist.Normal(z, 1.0), obs=x)

    loc = torch.tensor(0.3, requires_grad=True)

    def guide(x):
        with pyro.plate("data", len(x)):
            pyro.sample("z", dist.Normal(loc * x, 0.8))

    for ours, theirs in (
        (TraceLeaveOneOut_ELBO(2), make("trace", num_particles=2)),
        (TraceDisARM_ELBO(2), make("trace")),
    ):
        found = []
        for elbo in (ours, theirs):
            torch.manual_seed(1)
            found.append(value_and_gradient(elbo, model, guide, (X,), [loc]))
        torch.testing.assert_close(found[0][1], found[1][1], rtol=1e-12, atol=0)


def test_both_have_less_noise_than_scores_without_a_baseline(pair):
    x = pair.sample(10, seed=0)
    result = compare_elbos(
        pair, x, ["score-function", "leave-one-out", "disarm"], num_replicates=300, device="cpu"
    )
    plain, two, pairs = (row.gradient_variance["encoder"].mean for row in result.rows)
    assert pairs < two < plain / 2
    assert [row.num_particles for row in result.rows] == [1, 2, 2]
    assert "2 particles (1 of score-function)" in result.notes[0]


@pytest.mark.parametrize(
    ("make_elbo", "error", "message"),
    [
        (lambda: TraceLeaveOneOut_ELBO(1), ValueError, "choose 2, or 'score-function' for one"),
        (lambda: TraceLeaveOneOut_ELBO(0), ValueError, "num_particles of at least"),
        (lambda: TraceDisARM_ELBO(3), ValueError, "an even num_particles .*; got 3. .* choose 4"),
        (lambda: TraceDisARM_ELBO(1), ValueError, "num_particles of at least 2"),
        (lambda: TraceDisARM_ELBO(2.0), TypeError, "num_particles as an int; got float"),
        (lambda: make("leave-one-out", num_particles=1), ValueError, "choose 2"),
    ],
)
def test_bad_counts(make_elbo, error, message):
    with pytest.raises(error, match=message):
        make_elbo()


def test_what_has_no_antithetic_pair_is_refused():
    def model():
        pyro.sample("y", dist.Categorical(torch.ones(3) / 3))

    with pytest.raises(NotImplementedError) as caught:
        TraceDisARM_ELBO().loss(model, model)
    assert str(caught.value) == (
        "expected Bernoulli or reparameterised draws at the guide's site 'y'; got Categorical, "
        "which has no antithetic pair. Choose 'leave-one-out', which takes any discrete latent."
    )
    assert TraceLeaveOneOut_ELBO().loss(model, model) == 0


def test_a_gradient_that_passes_straight_through_is_refused():
    def model():
        pyro.sample("y", dist.OneHotCategorical(torch.ones(3) / 3))

    def guide():
        pyro.sample("y", dist.OneHotCategoricalStraightThrough(torch.ones(3) / 3))

    with pytest.raises(NotImplementedError, match="whose gradient is biased"):
        TraceLeaveOneOut_ELBO().loss(model, guide)
    assert TraceScoreFunction_ELBO().loss(model, guide) == 0
