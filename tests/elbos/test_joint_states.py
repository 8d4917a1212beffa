"""Several discrete numbers in one event are summed over all of their combinations."""

import itertools

import pyro
import pyro.distributions as dist
import pytest
import torch
from torch import nn

from ppl_vae import BinaryLatentVAE, fit
from ppl_vae.elbos import TraceEnumerate_ELBO
from ppl_vae.elbos.discrete.joint_states import JointStates

X = torch.tensor([0.3, -1.2, 2.0, 0.1, 0.7], dtype=torch.float64)
FAMILIES = {
    "bits": lambda logits: dist.Bernoulli(logits=logits[..., 0]),
    "labels": lambda logits: dist.Categorical(logits=logits),
    "one-hot": lambda logits: dist.OneHotCategorical(logits=logits),
    "counts": lambda logits: dist.Binomial(2, logits=logits[..., 0]),
}


class Code(nn.Module):
    """A code of numbers in one event, two by three of them, or as `shape` has it."""

    def __init__(self, family, shape=(3,)):
        super().__init__()
        generator = torch.Generator().manual_seed(0)
        self.family, self.shape = FAMILIES[family], shape
        self.prior = nn.Parameter(torch.randn(*shape, 3, generator=generator))
        self.slopes = nn.Parameter(torch.randn(*shape, 3, generator=generator))
        size = self.family(self.prior).to_event(len(shape)).event_shape.numel()
        self.weights = nn.Parameter(torch.randn(size, generator=generator))

    def p(self):
        return self.family(self.prior).to_event(len(self.shape))

    def q(self, x):
        logits = x.reshape(-1, *[1] * (len(self.shape) + 1)) * self.slopes
        return self.family(logits).to_event(len(self.shape))

    def mean(self, z, event_dim):
        flat = z.to(self.weights.dtype).flatten(z.dim() - event_dim)
        return flat @ self.weights / 3

    def likelihood(self, z):
        return dist.Normal(self.mean(z, self.p().event_dim), 0.8)

    def model(self, x, mask=None, size=None):
        pyro.module("code", self)
        with pyro.plate("data", len(x), subsample_size=size, dim=-1) as index:
            p = self.p() if mask is None else self.p().mask(mask[index])
            z = pyro.sample("z", p)
            pyro.sample("x", self.likelihood(z), obs=x[index])

    def guide(self, x, mask=None, size=None):
        with pyro.plate("data", len(x), subsample_size=size, dim=-1) as index:
            q = self.q(x[index]) if mask is None else self.q(x[index]).mask(mask[index])
            pyro.sample("z", q)

    def exact(self, x, mask=None):
        """The ELBO of each example, by a loop over the states."""
        p, q = self.p(), self.q(x)
        one = q.base_dist.enumerate_support(expand=False)
        one = one.reshape(len(one), *q.base_dist.event_shape)
        total = torch.zeros(len(x))
        for states in itertools.product(one, repeat=torch.Size(self.shape).numel()):
            z = torch.stack(list(states)).reshape(p.event_shape)
            log_p, log_q = p.log_prob(z), q.log_prob(z.expand(len(x), *z.shape))
            inner = log_p - log_q if mask is None else torch.where(mask, log_p - log_q, 0.0)
            weight = log_q.exp() if mask is None else torch.where(mask, log_q, 0.0).exp()
            total = total + weight * (self.likelihood(z).log_prob(x) + inner)
        return total


def gradients(value, module):
    return torch.autograd.grad(value, list(module.parameters()), allow_unused=True)


@pytest.mark.parametrize("shape", [(1,), (3,), (2, 2)])
@pytest.mark.parametrize("family", FAMILIES)
def test_value_and_gradient_are_the_sum_over_all_states(family, shape):
    code = Code(family, shape)
    exact = code.exact(X).sum()
    loss = TraceEnumerate_ELBO().differentiable_loss(code.model, code.guide, X)
    assert loss.item() == pytest.approx(-exact.item(), rel=1e-13)
    for found, expected in zip(gradients(-loss, code), gradients(exact, code), strict=True):
        assert torch.allclose(found, expected, rtol=1e-11, atol=1e-13)


MASKS = {
    "of the site": lambda fn, hidden: fn.to_event(1).mask(~hidden[:, 0]),
    "of the numbers": lambda fn, hidden: fn.mask(~hidden).to_event(1),
    "of all": lambda fn, hidden: fn.to_event(1).mask(mask=False),
}


@pytest.mark.parametrize("kind", MASKS)
def test_a_mask_leaves_densities_out_and_not_what_is_drawn(kind):
    """A hidden number is drawn by the guide all the same, with its own probability."""
    hidden = torch.tensor([[1, 0], [0, 0], [1, 1], [0, 1], [0, 0]]).bool()
    left = ~hidden[:, :1] if kind == "of the site" else ~hidden
    left = left & (kind != "of all")
    prior, slopes = torch.tensor([0.3, -0.4]), torch.tensor([0.5, 0.9]).requires_grad_()

    def masked(logits):
        return MASKS[kind](dist.Bernoulli(logits=logits.expand(5, 2)), hidden)

    def model(x):
        with pyro.plate("data", 5, dim=-1):
            z = pyro.sample("z", masked(prior))
            pyro.sample("x", dist.Normal(z @ torch.tensor([1.0, -2.0]), 1.0), obs=x)

    def guide(x):
        with pyro.plate("data", 5, dim=-1):
            pyro.sample("z", masked(x.unsqueeze(-1) * slopes))

    exact, evidence = torch.tensor(0.0), []
    q, p = dist.Bernoulli(logits=X.unsqueeze(-1) * slopes), dist.Bernoulli(logits=prior)
    for bits in itertools.product((0.0, 1.0), repeat=2):
        z = torch.tensor(bits)
        log_x = dist.Normal(z @ torch.tensor([1.0, -2.0]), 1.0).log_prob(X)
        log_q, log_p = q.log_prob(z.expand(5, 2)), p.log_prob(z)
        inner = torch.where(left, log_p - log_q, 0.0).sum(-1)
        exact = exact + (log_q.sum(-1).exp() * (log_x + inner)).sum()
        evidence.append(log_p.sum() + log_x)
    loss = TraceEnumerate_ELBO().differentiable_loss(model, guide, X)
    assert loss.item() == pytest.approx(-exact.item(), rel=1e-13)
    (found,), (expected,) = (torch.autograd.grad(v, slopes) for v in (-loss, exact))
    assert torch.allclose(found, expected, rtol=1e-11, atol=1e-13)
    # Of the model alone, the sum within the logarithm is by the unmasked probabilities too.
    found = -TraceEnumerate_ELBO().loss(model, lambda x: None, X)
    assert found == pytest.approx(torch.stack(evidence).logsumexp(0).sum().item(), rel=1e-13)


def test_an_event_of_no_numbers_has_one_state():
    fn = JointStates(dist.Bernoulli(torch.rand(4, 0)), 1)
    assert fn.enumerate_support().shape == (1, 4, 0)


def test_a_subsample_is_scaled_up():
    code = Code("bits")
    pyro.set_rng_seed(0)
    elbo = TraceEnumerate_ELBO()
    found = {round(-elbo.loss(code.model, code.guide, X, None, 4), 9) for _ in range(60)}
    each = code.exact(X).detach()
    expected = {round((each.sum() - out).item() * 5 / 4, 9) for out in each}
    assert found == expected


@pytest.mark.parametrize("num_bits", [1, 5])
@pytest.mark.parametrize("masked", [False, True])
def test_the_bits_of_a_pair_give_its_exact_elbo(num_bits, masked):
    pair = BinaryLatentVAE((1, 2, 3), num_bits, (4,), sees_mask=masked, seed=0)
    x = pair.sample(7, seed=0)
    args = (x, torch.rand(x.shape) > 0.3) if masked else (x,)
    exact = pair.exact.elbo(*args).sum()
    loss = TraceEnumerate_ELBO().differentiable_loss(pair.model, pair.guide, *args)
    assert loss.item() == pytest.approx(-exact.item(), rel=1e-13)
    for found, expected in zip(gradients(-loss, pair), gradients(exact, pair), strict=True):
        assert torch.allclose(found, expected, rtol=1e-11, atol=1e-13)


def test_a_continuous_latent_may_depend_on_the_numbers():
    """The mean over draws of the Normal is the sum of closed forms, by its standard error."""
    code = Code("labels", (2,))

    def model(x):
        with pyro.plate("data", len(x), dim=-1):
            z = pyro.sample("z", code.p())
            u = pyro.sample("u", dist.Normal(code.mean(z, 1), 1.0))
            pyro.sample("x", dist.Normal(u, 0.5), obs=x)

    def guide(x):
        with pyro.plate("data", len(x), dim=-1):
            z = pyro.sample("z", code.q(x))
            pyro.sample("u", dist.Normal(code.mean(z, 1) + x, 0.6))

    p, q, exact = code.p(), code.q(X), 0.0
    for states in itertools.product(range(3), repeat=2):
        z = torch.tensor(states)
        loc = code.mean(z, 1) + X
        kl = torch.distributions.kl_divergence(
            dist.Normal(loc, 0.6), dist.Normal(code.mean(z, 1), 1.0)
        )
        fit_of_x = dist.Normal(loc, 0.5).log_prob(X) - 0.36 / (2 * 0.25)
        log_q = q.log_prob(z.expand(len(X), 2))
        exact = exact + (log_q.exp() * (fit_of_x - kl + p.log_prob(z) - log_q)).sum()
    torch.manual_seed(0)
    elbo = TraceEnumerate_ELBO()
    found = -torch.tensor([elbo.loss(model, guide, X) for _ in range(400)])
    assert abs(found.mean() - exact) < 4.5 * found.std() / 20


def test_numbers_of_the_model_alone_are_summed_within_the_logarithm():
    code = Code("bits", (3,))

    def model(x):
        with pyro.plate("data", len(x), dim=-1):
            z = pyro.sample("z", code.p())
            pyro.sample("x", code.likelihood(z), obs=x)

    states = torch.tensor(list(itertools.product((0.0, 1.0), repeat=3)))
    terms = code.p().log_prob(states).unsqueeze(1) + torch.stack(
        [code.likelihood(z).log_prob(X) for z in states]
    )
    found = -TraceEnumerate_ELBO().loss(model, lambda x: None, X)
    assert found == pytest.approx(terms.logsumexp(0).sum().item(), rel=1e-13)


def test_states_of_a_batch_are_listed_in_its_shape():
    fn = JointStates(dist.Bernoulli(torch.rand(4, 1, 3)), 1)
    assert fn.enumerate_support(expand=False).shape == (8, 1, 1, 3)
    states = fn.enumerate_support()
    assert states.shape == (8, 4, 1, 3)
    assert torch.allclose(fn.log_prob(states).logsumexp(0), torch.zeros(4, 1), atol=1e-12)
    assert isinstance(fn.expand((2, 4, 5)), JointStates)


def test_too_many_states_are_refused_with_what_samples():
    pair = BinaryLatentVAE((1, 2, 2), 13, seed=0)
    with pytest.raises(
        NotImplementedError,
        match=r"4,096 joint states of the latent 'z'.*2 \*\* 13.*'leave-one-out'.*serve",
    ):
        fit(pair, pair.sample(4, seed=0), elbo="enumerate", progress=False)


def test_a_density_of_the_users_own_is_not_taken_for_that_of_single_numbers():
    class Tilted(dist.Independent):
        def log_prob(self, value):
            return super().log_prob(value) + value.sum(-1)

    def program(x):
        pyro.sample("z", Tilted(dist.Bernoulli(torch.full((2,), 0.3)), 1))

    with pytest.raises(NotImplementedError, match="site 'z'"):
        TraceEnumerate_ELBO().loss(program, program, X)
