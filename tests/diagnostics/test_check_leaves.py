"""Parameters that a distribution holds as they are, and data that require a gradient."""

import pyro
import pyro.distributions as dist
import torch
from diagnostics.small_programs import Net
from torch import nn
from torch.distributions import Normal, kl_divergence

from ppl_vae import BernoulliVAE, check_elbo


class LearnedPrior(Net):
    """A prior whose location is a parameter itself, not a function of one."""

    def __init__(self):
        super().__init__(
            6, 6, lambda o, x: dist.Bernoulli(logits=o, validate_args=False).to_event(1)
        )
        self.prior_loc = nn.Parameter(torch.tensor([0.3, -0.2, 0.1]))

    def model(self, x):
        pyro.module("decoder", self.decoder)
        pyro.param("prior.loc", self.prior_loc)
        with pyro.plate("data", len(x)):
            z = pyro.sample("z", dist.Normal(self.prior_loc, 1.0).to_event(1))
            pyro.sample("x", self.likelihood(z, x), obs=x)


def test_a_search_for_numbers_runs_beside_parameters_that_are_distributions_own():
    net = LearnedPrior()
    x = (torch.rand(24, 6) < 0.5).double().requires_grad_()

    def loss(x):
        loc, scale = net.encode(x)
        kl = (
            kl_divergence(Normal(loc, scale), Normal(net.prior_loc, torch.ones(3)))
            .clamp_min(0.37)
            .sum(-1)
        )
        z = loc + scale * torch.randn_like(scale)
        return (kl - net.likelihood(z, x).log_prob(x)).mean()

    result = check_elbo(loss, (net.model, net.guide), x)
    assert not result.passed
    assert result.findings[0].term == "kl", str(result)


def test_logits_far_out_at_every_setting_are_explained_without_other_draws():
    """At other draws the decoder's probabilities round to 0, so nothing is said of them."""
    pair = BernoulliVAE((1, 4, 4), latent_dim=2, hidden=(8,), seed=0)
    bias = [p for n, p in pair.decoder.named_parameters() if n.endswith("bias")][-1]
    with torch.no_grad():
        bias[:4] = -20.0
    x = pair.sample(16, seed=0)

    def loss(x):
        loc, scale = pair.encode(x)
        z = loc + scale * torch.randn_like(scale)
        kl = -scale.log() + (scale**2 + loc**2 - 1) / 2 + loc**4
        return (kl.sum(-1) - pair.likelihood(z).log_prob(x)).mean()

    result = check_elbo(loss, pair, x)
    assert [finding.kind for finding in result.findings] == ["leftover"]


class Scalar(Net):
    """One number a latent, without an event dimension."""

    def __init__(self):
        super().__init__(5, 5, None, latent=1)

    def model(self, x):
        pyro.module("decoder", self.decoder)
        with pyro.plate("data", len(x)):
            z = pyro.sample("z", dist.Normal(torch.zeros(()), 1.0))
            pyro.sample("x", dist.Normal(self.decoder(z[..., None]), 1.0).to_event(1), obs=x)

    def guide(self, x):
        pyro.module("encoder", self.encoder)
        loc, scale = self.encode(x)
        with pyro.plate("data", len(x)):
            pyro.sample("z", dist.Normal(loc[..., 0], scale[..., 0]))


def test_a_missing_kl_of_a_latent_without_dimensions_is_missing():
    net = Scalar()
    x = torch.randn(24, 5)

    def loss(x):
        loc, scale = net.encode(x)
        z = loc + scale * torch.randn_like(scale)
        return -dist.Normal(net.decoder(z), 1.0).log_prob(x).sum(-1).mean()

    result = check_elbo(loss, (net.model, net.guide), x)
    assert result.findings
    assert {finding.kind for finding in result.findings} == {"missing"}
