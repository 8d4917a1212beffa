"""Small Pyro programs, written as users write them, from which wrong objectives are made."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import pyro
import pyro.distributions as dist
import torch
from torch import nn
from torch.distributions import Normal

from ppl_vae import seeded


@dataclass(frozen=True)
class Program:
    """An objective with the program that it is written for.

    Attributes:
        name: what it does, in a few words.
        make: to the pair (or model and guide), the data and the objective.
        says: words that the findings must contain; none for a right one, which must pass.
        reduction: over the examples.
    """

    name: str
    make: Callable[[], tuple[Any, torch.Tensor, Callable]]
    says: tuple[str, ...] = ()
    reduction: str = "mean"


class Net(nn.Module):
    """Encoder and decoder of a code of three numbers; `likelihood` makes p(x | z) of outputs."""

    def __init__(self, inputs, outputs, likelihood, *, latent=3, hidden=12, seed=0):
        super().__init__()
        self.latent, self.distribution = latent, likelihood
        with seeded(seed):
            self.encoder = nn.Sequential(
                nn.Linear(inputs, hidden), nn.Tanh(), nn.Linear(hidden, 2 * latent)
            )
            self.decoder = nn.Sequential(
                nn.Linear(latent, hidden), nn.Tanh(), nn.Linear(hidden, outputs)
            )

    def encode(self, x):
        loc, log_scale = self.encoder(x).chunk(2, -1)
        return loc, log_scale.exp()

    def likelihood(self, z, x):
        return self.distribution(self.decoder(z), x)

    def model(self, x):
        pyro.module("decoder", self.decoder)
        with pyro.plate("data", len(x)):
            z = pyro.sample("z", dist.Normal(torch.zeros(self.latent), 1.0).to_event(1))
            pyro.sample("x", self.likelihood(z, x), obs=x)

    def guide(self, x):
        pyro.module("encoder", self.encoder)
        with pyro.plate("data", len(x)):
            pyro.sample("z", dist.Normal(*self.encode(x)).to_event(1))

    def sampled(self, x):
        """A draw of z, and the KL in closed form, (batch)."""
        loc, scale = self.encode(x)
        z = loc + scale * torch.randn_like(scale)
        return z, (0.5 * (loc**2 + scale**2 - 1) - scale.log()).sum(-1)

    def log_weights(self, x, count, *, guide=-1.0):
        """`count` particles of log p(x, z) - log q(z), (particles, batch)."""
        q = Normal(*self.encode(x))
        z = q.rsample((count,))
        log_joint = self.likelihood(z, x).log_prob(x) + Normal(0.0, 1.0).log_prob(z).sum(-1)
        return log_joint + guide * q.log_prob(z).sum(-1)


def with_score(log_likelihood):
    """Return the maker of an objective whose log p(x | z) is `log_likelihood(outputs, x)`."""

    def of(net):
        def loss(x):
            z, kl = net.sampled(x)
            return (kl - log_likelihood(net.decoder(z), x)).mean()

        return loss

    return of
