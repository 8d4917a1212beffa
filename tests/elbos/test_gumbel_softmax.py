"""The straight-through estimator: exact draws, and the gradient of their relaxations."""

import pyro
import pyro.distributions as dist
import pytest
import torch
from estimates import replicates, value_and_gradient

from ppl_vae import BinaryLatentVAE, compare_elbos
from ppl_vae.elbos import TraceStraightThrough_ELBO, make

X = torch.tensor([0.3, -1.2, 2.0, 0.1], dtype=torch.float64)
LOCS = torch.tensor([-1.0, 0.5, 2.0], dtype=torch.float64)


@pytest.mark.parametrize("temperature", [0.3, 1.0])
def test_each_draw_of_bits_is_the_hand_formula(temperature):
    pair = BinaryLatentVAE((1, 2, 2), 3, seed=1)
    x = pair.sample(4, seed=0)
    bias = pair.encoder[0].bias
    torch.manual_seed(4)
    u = torch.rand(4, 3)
    t = pair.posterior(x).base_dist.logits
    shifted = t.detach() + u.logit()
    z = (shifted > 0).double().requires_grad_()
    f = pair.prior().log_prob(z) + pair.likelihood(z).log_prob(x)
    f = (f - pair.posterior(x).log_prob(z)).sum()
    by_z, by_q = torch.autograd.grad(f, [z, bias])
    soft = (shifted / temperature).sigmoid()
    by_hand = (by_z * soft * (1 - soft) / temperature).sum(0) + by_q
    torch.manual_seed(4)
    elbo = TraceStraightThrough_ELBO(temperature=temperature)
    value, gradient = value_and_gradient(elbo, pair.model, pair.guide, (x,), [bias])
    torch.testing.assert_close(value, f.detach(), rtol=1e-12, atol=0)
    torch.testing.assert_close(gradient, by_hand, rtol=1e-10, atol=1e-12)


def one_hot_program(x):
    prior, slope = torch.tensor([0.1, 0.4, -0.2]), torch.tensor([-0.5, 0.2, 0.7])
    prior.requires_grad_()
    slope.requires_grad_()

    def model():
        with pyro.plate("data", len(x)):
            z = pyro.sample("z", dist.OneHotCategorical(logits=prior))
            pyro.sample("x", dist.Normal(z @ LOCS, 1.0), obs=x)

    def guide():
        with pyro.plate("data", len(x)):
            pyro.sample("z", dist.OneHotCategorical(logits=x.unsqueeze(-1) * slope))

    def exact():
        log_q = (x.unsqueeze(-1) * slope).log_softmax(-1)
        log_p = prior.log_softmax(-1) + dist.Normal(LOCS, 1.0).log_prob(x.unsqueeze(-1))
        return (log_q.exp() * (log_p - log_q)).sum()

    return model, guide, [prior, slope], exact


def test_each_one_hot_draw_is_the_hand_formula():
    model, guide, parameters, _ = one_hot_program(X)
    prior, slope = parameters
    temperature = 0.7
    torch.manual_seed(4)
    u = torch.rand(4, 3)
    t = X.unsqueeze(-1) * slope
    shifted = t - (-u.log()).log()
    z = torch.nn.functional.one_hot(shifted.argmax(-1), 3).double()
    soft = (shifted / temperature).softmax(-1)
    z = z + soft - soft.detach()
    f = (z * (prior.log_softmax(-1) - t.log_softmax(-1))).sum()
    f = f + dist.Normal(z @ LOCS, 1.0).log_prob(X).sum()
    by_hand = torch.cat(torch.autograd.grad(f, parameters))
    torch.manual_seed(4)
    elbo = TraceStraightThrough_ELBO(temperature=temperature)
    value, gradient = value_and_gradient(elbo, model, guide, (), parameters)
    torch.testing.assert_close(value, f.detach(), rtol=1e-12, atol=0)
    torch.testing.assert_close(gradient, by_hand, rtol=1e-10, atol=1e-12)


def test_the_value_is_unbiased_and_the_gradient_of_the_guide_is_not():
    model, guide, parameters, exact = one_hot_program(X.repeat(50))
    slopes = torch.cat(torch.autograd.grad(exact(), parameters))
    elbo = TraceStraightThrough_ELBO(2, temperature=0.5, vectorize_particles=True)
    values, gradients = replicates(elbo, model, guide, (), parameters, 100)
    assert abs(values.mean() - exact()) < 4.5 * values.std() / 10
    z_scores = ((gradients.mean(0) - slopes) / gradients.std(0) * 10).abs()
    assert z_scores[:3].max() < 4.5
    assert z_scores[3:].max() > 4.5


def test_on_an_objective_that_is_linear_in_the_bits_a_high_temperature_is_far_off():
    """d/dt E[b] = p (1 - p), and the relaxation's slope is E[s (1 - s)] / temperature."""
    logits = torch.zeros(20_000, requires_grad=True)

    def program(fn):
        def run():
            with pyro.plate("data", len(logits)):
                b = pyro.sample("b", fn)
                return pyro.factor("f", 3.0 * b) if fn is prior else b

        return run

    prior, posterior = dist.Bernoulli(0.5), dist.Bernoulli(logits=logits)
    found = {}
    for temperature in (0.1, 10.0):
        torch.manual_seed(0)
        elbo = TraceStraightThrough_ELBO(temperature=temperature)
        _, slopes = value_and_gradient(elbo, program(prior), program(posterior), (), [logits])
        found[temperature] = slopes
        u = torch.rand(400_000).logit()
        soft = (u / temperature).sigmoid()
        expected = 3 * soft * (1 - soft) / temperature
        error = (slopes.var() / len(slopes) + expected.var() / len(expected)) ** 0.5
        assert abs(slopes.mean() - expected.mean()) < 4.5 * error
    assert abs(found[0.1].mean() - 0.75) < 0.1
    assert found[10.0].mean() < 0.1
    assert found[10.0].std() < found[0.1].std()


def test_continuous_latents_beside_it_follow_the_path():
    """A Normal given the bit: its own parameters have gradients without bias."""
    x = X.repeat(50)
    q, loc, effect = (torch.tensor(v, requires_grad=True) for v in (0.4, 0.3, 1.2))

    def model():
        with pyro.plate("data", len(x)):
            b = pyro.sample("b", dist.Bernoulli(0.6))
            v = pyro.sample("v", dist.Normal(effect * b, 1.0))
            pyro.sample("x", dist.Normal(v, 0.7), obs=x)

    def guide():
        with pyro.plate("data", len(x)):
            b = pyro.sample("b", dist.Bernoulli(logits=q))
            pyro.sample("v", dist.Normal(loc * x + b, 0.5))

    exact = 0.0
    for state in (0.0, 1.0):
        b = torch.tensor(state)
        log_q = dist.Bernoulli(logits=q).log_prob(b)
        v = dist.Normal(loc * x + b, 0.5)
        kl = torch.distributions.kl_divergence(v, dist.Normal(effect * b, 1.0))
        energy = dist.Normal(v.mean, 0.7).log_prob(x) - 0.25 / (2 * 0.49)
        inner = energy - kl + dist.Bernoulli(0.6).log_prob(b) - log_q
        exact = exact + (log_q.exp() * inner).sum()
    slopes = torch.stack(torch.autograd.grad(exact, [loc, effect]))
    elbo = TraceStraightThrough_ELBO(temperature=0.5)
    values, gradients = replicates(elbo, model, guide, (), [loc, effect], 100)
    assert abs(values.mean() - exact) < 4.5 * values.std() / 10
    assert bool(((gradients.mean(0) - slopes).abs() < 4.5 * gradients.std(0) / 10).all())


def test_its_bias_is_measured_on_the_belief_network():
    pair = BinaryLatentVAE((1, 2, 2), 4, seed=1)
    pair.decoder.net[0].weight.data.mul_(8)
    x = pair.sample(200, seed=0)
    row = compare_elbos(pair, x, ["straight-through"], num_replicates=500, device="cpu")[
        "straight-through"
    ]
    assert abs(row.bias_z_score) < 4.5
    assert row.gradient_bias_z_score > 4.5
    assert row.verdict == (
        "straight-through is biased here in its gradient, against closed form. "
        "It claims to be unbiased, with a gradient that is biased."
    )


@pytest.mark.parametrize(
    ("options", "error", "message"),
    [
        ({}, ValueError, "temperature= of TraceStraightThrough_ELBO; got none. .* pass 0.5, say"),
        ({"temperature": 0.0}, ValueError, "temperature finite and above 0"),
        ({"temperature": "1"}, TypeError, "temperature as a number"),
        ({"temperature": 1.0, "num_particles": 0}, ValueError, "num_particles of at least 1"),
    ],
)
def test_bad_input(options, error, message):
    with pytest.raises(error, match=message):
        TraceStraightThrough_ELBO(**options)


def test_indices_cannot_carry_a_gradient():
    def model():
        pyro.sample("y", dist.Categorical(torch.ones(3) / 3))

    with pytest.raises(NotImplementedError) as caught:
        make("straight-through").loss(model, model)
    assert str(caught.value) == (
        "expected Bernoulli, OneHotCategorical or reparameterised draws at the guide's site 'y'; "
        "got Categorical, whose draws cannot carry a gradient. Draw OneHotCategorical instead, or "
        "choose 'leave-one-out'."
    )
    assert make("straight-through").temperature == 0.5
