"""Bounds of several particles by hand, and flows by hand."""

import math

import pyro
import pyro.distributions as dist
import torch
import torch.nn.functional as F
from diagnostics.small_programs import Net, Program
from torch.distributions import Normal

from ppl_vae import seeded

PIXELS, PARTICLES = 9, 4


def bits():
    generator = torch.Generator().manual_seed(1)
    return (torch.rand(24, PIXELS, generator=generator) < 0.5).to(torch.get_default_dtype())


def pixels(outputs, x):
    return dist.Bernoulli(logits=outputs, validate_args=False).to_event(1)


def _bound(name, join, *says, count=PARTICLES, **weights):
    def make():
        net = Net(PIXELS, PIXELS, pixels)
        return (
            (net.model, net.guide),
            bits(),
            lambda x: -join(net.log_weights(x, count, **weights)).mean(),
        )

    return Program(name, make, says)


LOG_K = math.log(PARTICLES)
BOUNDS = [
    _bound("IWAE of one particle", lambda w: w.logsumexp(0), count=1),
    _bound("mean of logs", lambda w: w.mean(0)),
    _bound("IWAE", lambda w: w.logsumexp(0) - LOG_K, "importance-weighted", "4 particles"),
    _bound("IWAE without log K", lambda w: w.logsumexp(0), "log 4", "importance-weighted"),
    _bound("IWAE over the batch", lambda w: w.logsumexp(1) - LOG_K, "over the batch"),
    _bound(
        "IWAE over the batch, its size",
        lambda w: w.logsumexp(1) - math.log(w.shape[1]),
        "over the batch",
    ),
    _bound("IWAE, sign of log q", lambda w: w.logsumexp(0) - LOG_K, "sign of log q", guide=1.0),
    _bound("IWAE, no log q", lambda w: w.logsumexp(0) - LOG_K, "log q is left out", guide=0.0),
    _bound(
        "IWAE of one, sign of log q",
        lambda w: w.logsumexp(0),
        "entropy",
        "sign",
        count=1,
        guide=1.0,
    ),
]


class Flow(Net):
    """A guide whose Normal draw goes through one invertible step, `affine` or `planar`."""

    def __init__(self, kind):
        super().__init__(PIXELS, PIXELS, pixels)
        self.kind = kind
        with seeded(2):
            if kind == "affine":
                self.shift = torch.nn.Parameter(torch.randn(3))
                self.log_factor = torch.nn.Parameter(0.5 * torch.randn(3))
            else:
                self.step = dist.transforms.Planar(3)
                with torch.no_grad():
                    self.step.u.copy_(torch.randn(3))
                    self.step.w.copy_(torch.randn(3))
                    self.step.bias.fill_(0.3)

    def transform(self):
        if self.kind == "affine":
            return dist.transforms.AffineTransform(self.shift, self.log_factor.exp(), event_dim=1)
        return self.step

    def guide(self, x):
        pyro.module("encoder", self.encoder)
        if self.kind == "affine":
            pyro.param("flow.shift", self.shift)
            pyro.param("flow.log_factor", self.log_factor)
        else:
            pyro.module("flow", self.step)
        with pyro.plate("data", len(x)):
            first = dist.Normal(*self.encode(x)).to_event(1)
            pyro.sample("z", dist.TransformedDistribution(first, [self.transform()]))

    def drawn(self, x):
        """z, log q0(z0) and the log-determinant."""
        loc, scale = self.encode(x)
        z0 = loc + scale * torch.randn_like(scale)
        log_q0 = Normal(loc, scale).log_prob(z0).sum(-1)
        if self.kind == "affine":
            z = self.shift + self.log_factor.exp() * z0
            return z, log_q0, self.log_factor.sum().expand(len(x))
        u, w, b = self.step.u, self.step.w, self.step.bias
        inner = (u * w).sum()
        u = u + (F.softplus(inner) - 1 - inner) * w / w.square().sum()
        a = ((z0 * w).sum(-1, keepdim=True) + b).tanh()
        return z0 + u * a, log_q0, (1 + (1 - a.squeeze(-1) ** 2) * (u * w).sum()).abs().log()


def _flow(name, kind, weight, *says):
    def make():
        net = Flow(kind)

        def loss(x):
            z, log_q0, log_det = net.drawn(x)
            log_q = log_q0 - weight * log_det
            log_joint = net.likelihood(z, x).log_prob(x) + Normal(0.0, 1.0).log_prob(z).sum(-1)
            return (log_q - log_joint).mean()

        return (net.model, net.guide), bits(), loss

    return Program(f"{kind} flow{name}", make, says)


FLOWS = [
    program
    for kind in ("affine", "planar")
    for program in (
        _flow("", kind, 1.0),
        _flow(" without log-det", kind, 0.0, "log-determinant", "missing"),
        _flow(", sign of log-det", kind, -1.0, "log-determinant", "sign"),
    )
]
