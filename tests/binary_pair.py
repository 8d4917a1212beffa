"""A pair with discrete latents, whose answers are exact by enumeration of their states."""

import itertools

import pyro
import pyro.distributions as dist
import torch
from torch import nn
from torch.distributions import Bernoulli

from ppl_vae import Pair, checks, seeded


class BinaryBelief(Pair):
    """Three bits, and pixels that depend on them linearly: a sigmoid belief network.

    p(z) = Bernoulli(prior), p(x | z) = Bernoulli(W z + b), q(z | x) = Bernoulli(V x + c), logits.
    """

    def __init__(self, data_dim=4, latent_dim=3, *, seed=0):
        super().__init__(data_dim=data_dim, latent_dim=latent_dim, seed=seed)
        with seeded(seed):
            self.prior_logits = nn.Parameter(0.3 * torch.randn(latent_dim))
            self.decoder = nn.Linear(latent_dim, data_dim)
            self.encoder = nn.Linear(data_dim, latent_dim)

    @property
    def exact(self):
        return _Enumerated(self)

    def model(self, x):
        self.begin(x)
        with pyro.plate("data", len(x)):
            z = pyro.sample("z", dist.Bernoulli(logits=self.prior_logits).to_event(1))
            pixels = dist.Bernoulli(logits=self.decoder(z), validate_args=False)
            pyro.sample("x", pixels.to_event(1), obs=x)

    def guide(self, x):
        self.begin(x)
        with pyro.plate("data", len(x)):
            pyro.sample("z", dist.Bernoulli(logits=self.encoder(x)).to_event(1))

    def check(self, x):
        super().check(x)
        if x.dim() != 2 or x.shape[1] != self.decoder.out_features:
            raise ValueError(
                checks.message(
                    f"x of shape (examples, {self.decoder.out_features})",
                    f"{tuple(x.shape)}",
                    "Flatten it.",
                )
            )

    def blank(self, n):
        return torch.zeros(n, self.decoder.out_features, dtype=self.dtype, device=self.device)


class _Enumerated:
    """Sums over all states; one value an example."""

    def __init__(self, pair):
        self._pair = pair

    def elbo(self, x):
        log_joint, log_q = self.terms(x)
        return (log_q.exp() * (log_joint - log_q)).sum(0)

    def log_evidence(self, x):
        return self.terms(x)[0].logsumexp(0)

    def terms(self, x):
        pair = self._pair
        states = torch.tensor(
            list(itertools.product((0.0, 1.0), repeat=len(pair.prior_logits))),
            dtype=x.dtype,
            device=x.device,
        )[:, None]
        prior = Bernoulli(logits=pair.prior_logits).log_prob(states).sum(-1)
        likelihood = Bernoulli(logits=pair.decoder(states)).log_prob(x).sum(-1)
        log_q = Bernoulli(logits=pair.encoder(x)).log_prob(states).sum(-1)
        return prior + likelihood, log_q
