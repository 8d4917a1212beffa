"""`check_elbo` where a draw is not reparameterised: the right gradient has score terms."""

import pyro
import pyro.distributions as dist
import pytest
import torch
from binary_pair import BinaryBelief
from torch import nn
from torch.distributions import Bernoulli, Categorical, Normal, kl_divergence
from torch.nn.functional import one_hot

from ppl_vae import Pair, check_elbo, seeded


@pytest.fixture
def pair():
    return BinaryBelief()


@pytest.fixture
def x(pair):
    return pair.sample(20, seed=0)


def sampled(pair, x, *, score=True, beta=1.0):
    """One draw of every latent, with the score-function surrogate or without."""
    q = Bernoulli(logits=pair.encoder(x))
    z = q.sample()
    log_likelihood = Bernoulli(logits=pair.decoder(z)).log_prob(x).sum(-1)
    prior = Bernoulli(logits=pair.prior_logits.expand_as(z))  # torch's KL does not broadcast
    kl = beta * kl_divergence(q, prior).sum(-1)
    log_q = q.log_prob(z).sum(-1)
    surrogate = log_likelihood.detach() * (log_q - log_q.detach()) if score else 0.0
    return -(log_likelihood + surrogate - kl).mean()


@pytest.mark.parametrize("seed", range(2))
def test_a_sum_over_the_states_passes(seed, pair, x):
    result = check_elbo(lambda x: -pair.exact.elbo(x).mean(), pair, x, seed=seed)
    assert result.passed, str(result)


@pytest.mark.parametrize("seed", range(2))
def test_the_score_function_passes(seed, pair, x):
    result = check_elbo(lambda x: sampled(pair, x), pair, x, seed=seed)
    assert result.passed, str(result)


@pytest.mark.parametrize("seed", range(2))
def test_a_draw_without_its_score_is_found(seed, pair, x):
    result = check_elbo(lambda x: sampled(pair, x, score=False), pair, x, seed=seed)
    assert [f.kind for f in result.findings] == ["gradient"], str(result)
    assert "encoder" in str(result.findings[0])


def test_a_weight_is_found(pair, x):
    result = check_elbo(lambda x: sampled(pair, x, beta=2.0), pair, x)
    assert not result.passed
    assert any(f.term in ("log_prior", "entropy", "kl") for f in result.findings), str(result)


class Labelled(Pair):
    """A class y, a code z given the class, and data: what the M2 model does without labels."""

    num_classes = 3

    def __init__(self, *, seed=0):
        super().__init__(seed=seed)
        with seeded(seed):
            self.classifier = nn.Linear(4, self.num_classes)
            self.encoder = nn.Linear(4 + self.num_classes, 4)
            self.decoder = nn.Linear(2 + self.num_classes, 4)

    def code(self, x, y):
        loc, log_scale = self.encoder(torch.cat([x, y], -1)).chunk(2, -1)
        return loc, log_scale.exp()

    def mean(self, z, y):
        return self.decoder(torch.cat([z, y], -1))

    def model(self, x):
        self.begin(x)
        flat = torch.zeros(self.num_classes, dtype=x.dtype)
        zeros = torch.zeros(2, dtype=x.dtype)
        with pyro.plate("data", len(x)):
            y = pyro.sample("y", dist.OneHotCategorical(logits=flat))
            z = pyro.sample("z", dist.Normal(zeros, 1.0).to_event(1))
            y = y.expand(*z.shape[:-1], self.num_classes)
            pyro.sample("x", dist.Normal(self.mean(z, y), 1.0).to_event(1), obs=x)

    def guide(self, x):
        self.begin(x)
        with pyro.plate("data", len(x)):
            y = pyro.sample("y", dist.OneHotCategorical(logits=self.classifier(x)))
            x = x.expand(*y.shape[:-1], 4)
            pyro.sample("z", dist.Normal(*self.code(x, y)).to_event(1))

    def blank(self, n):
        return torch.zeros(n, 4, dtype=self.dtype)


def summed_over_classes(pair, x, *, entropy=1.0):
    q_y = Categorical(logits=pair.classifier(x))
    total = entropy * q_y.entropy() - torch.tensor(float(pair.num_classes)).log()
    for label in range(pair.num_classes):
        y = one_hot(torch.full((len(x),), label), pair.num_classes).to(x)
        q_z = Normal(*pair.code(x, y))
        z = q_z.rsample()
        likelihood = Normal(pair.mean(z, y), 1.0).log_prob(x).sum(-1)
        kl = kl_divergence(q_z, Normal(0.0, 1.0)).sum(-1)
        total = total + q_y.probs[:, label] * (likelihood - kl)
    return -total.mean()


@pytest.mark.parametrize("seed", range(2))
def test_a_sum_over_labels_passes(seed):
    pair = Labelled()
    x = pair.sample(20, seed=0)
    result = check_elbo(lambda x: summed_over_classes(pair, x), pair, x, seed=seed)
    assert result.passed, str(result)


def test_a_sum_over_labels_without_their_entropy_is_found():
    pair = Labelled()
    x = pair.sample(20, seed=0)
    result = check_elbo(lambda x: summed_over_classes(pair, x, entropy=0.0), pair, x)
    assert any(f.term == "entropy" for f in result.findings), str(result)
