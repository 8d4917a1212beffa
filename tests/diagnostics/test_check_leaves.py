"""Parameters that a distribution holds as they are, and data that require a gradient."""

import pyro
import pyro.distributions as dist
import torch
from diagnostics.small_programs import Net
from torch import nn
from torch.distributions import Normal, kl_divergence

from ppl_vae import check_elbo


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
