"""Programs with discrete latents, each with its ELBO as a sum over all states."""

import itertools
import math
from dataclasses import dataclass, field

import numpy as np
import pyro
import pyro.distributions as dist
import torch
from torch import Tensor


def states(count: int) -> Tensor:
    """All states of some bits, (2 ** count, count)."""
    return torch.tensor(list(itertools.product((0.0, 1.0), repeat=count)))


def bits(logits: Tensor) -> dist.TorchDistribution:
    return dist.Bernoulli(logits=logits).to_event(1)


@dataclass
class Program:
    """Parameters, drawn once; data are a column of numbers, (examples,)."""

    sizes: dict[str, tuple[int, ...]]
    p: dict[str, Tensor] = field(default_factory=dict)

    def __post_init__(self):
        stream = torch.Generator().manual_seed(3)
        for name, size in self.sizes.items():
            self.p[name] = 0.7 * torch.randn(size, generator=stream)
            self.p[name].requires_grad_()

    @property
    def parameters(self) -> list[Tensor]:
        return list(self.p.values())


class Hierarchy(Program):
    """Two bits below one, guide from the bottom up: every state has 3 bits."""

    num_layers = 2

    def __init__(self):
        sizes = {"top": (1,), "down": (1, 2), "weight": (2,), "up": (2,), "bias": (2,)}
        super().__init__(sizes | {"above": (2, 1), "above_bias": (1,)})

    def prior(self, upper):
        return bits(upper @ self.p["down"] - 0.3)

    def likelihood(self, lower):
        return dist.Normal(lower @ self.p["weight"], 0.6)

    def q_lower(self, x):
        return bits(x.unsqueeze(-1) * self.p["up"] + self.p["bias"])

    def q_upper(self, lower):
        return bits(lower @ self.p["above"] + self.p["above_bias"])

    def model(self, x):
        with pyro.plate("data", len(x), dim=-1):
            upper = pyro.sample("z2", bits(self.p["top"]))
            lower = pyro.sample("z1", self.prior(upper))
            pyro.sample("x", self.likelihood(lower), obs=x)

    def guide(self, x):
        with pyro.plate("data", len(x), dim=-1):
            lower = pyro.sample("z1", self.q_lower(x))
            pyro.sample("z2", self.q_upper(lower))

    def terms(self, x):
        """Log p(x, z) and log q(z) of every state, (states, examples) each."""
        z = states(3).unsqueeze(1)
        lower, upper = z[..., :2], z[..., 2:]
        log_p = bits(self.p["top"]).log_prob(upper) + self.prior(upper).log_prob(lower)
        log_p = log_p + self.likelihood(lower).log_prob(x)
        return log_p, self.q_lower(x).log_prob(lower) + self.q_upper(lower).log_prob(upper)

    def elbo(self, x):
        log_p, log_q = self.terms(x)
        return (log_q.exp() * (log_p - log_q)).sum()


class Subsampled(Hierarchy):
    """The same, half of the data points at a time."""

    def model(self, x):
        with pyro.plate("data", len(x), subsample_size=len(x) // 2, dim=-1) as chosen:
            upper = pyro.sample("z2", bits(self.p["top"]))
            lower = pyro.sample("z1", self.prior(upper))
            pyro.sample("x", self.likelihood(lower), obs=x[chosen])

    def guide(self, x):
        with pyro.plate("data", len(x), subsample_size=len(x) // 2, dim=-1) as chosen:
            lower = pyro.sample("z1", self.q_lower(x[chosen]))
            pyro.sample("z2", self.q_upper(lower))


class Masked(Hierarchy):
    """The same, but of every other data point nothing is scored."""

    def model(self, x):
        with pyro.poutine.mask(mask=self.shown(x)):
            super().model(x)

    def guide(self, x):
        with pyro.poutine.mask(mask=self.shown(x)):
            super().guide(x)

    def shown(self, x):
        return torch.arange(len(x)) % 2 == 0

    def elbo(self, x):
        return super().elbo(x[self.shown(x)])


class HalfMasked(Hierarchy):
    """The same, but the bits themselves are not scored, only what they explain."""

    def model(self, x):
        with pyro.plate("data", len(x), dim=-1):
            with pyro.poutine.mask(mask=torch.tensor(False)):  # noqa: FBT003
                upper = pyro.sample("z2", bits(self.p["top"]))
                lower = pyro.sample("z1", self.prior(upper))
            pyro.sample("x", self.likelihood(lower), obs=x)

    def guide(self, x):
        with pyro.poutine.mask(mask=torch.tensor(False)):  # noqa: FBT003
            super().guide(x)

    def elbo(self, x):
        z = states(3).unsqueeze(1)
        _, log_q = self.terms(x)
        return (log_q.exp() * self.likelihood(z[..., :2]).log_prob(x)).sum()


class Mixed(Program):
    """A Normal, a bit given it, and a Normal given the bit; pathwise, score and pathwise."""

    def __init__(self):
        sizes = {"slope": (), "bias": (), "loc": (2,), "prior": (), "shift": (2,), "w": ()}
        super().__init__(sizes)

    def q_u(self, x):
        return dist.Normal(self.p["slope"] * x, 0.8)

    def q_b(self, u):
        return dist.Bernoulli(logits=1.5 * u + self.p["bias"])

    def q_v(self, x, b):
        return dist.Normal(x / 2 + self.p["loc"][b.long()], 0.5)

    def p_b(self, u):
        return dist.Bernoulli(logits=self.p["w"] * u + self.p["prior"])

    def p_v(self, b):
        return dist.Normal(self.p["shift"][b.long()], 1.0)

    def model(self, x):
        with pyro.plate("data", len(x), dim=-1):
            u = pyro.sample("u", dist.Normal(0.0, 1.0))
            b = pyro.sample("b", self.p_b(u))
            v = pyro.sample("v", self.p_v(b))
            pyro.sample("x", dist.Normal(u + v, 0.7), obs=x)

    def guide(self, x):
        with pyro.plate("data", len(x), dim=-1):
            u = pyro.sample("u", self.q_u(x))
            b = pyro.sample("b", self.q_b(u))
            pyro.sample("v", self.q_v(x, b))

    def elbo(self, x):
        """By Gauss and Hermite's rule for both Normals; v is in squares only, so 4 nodes do."""
        total = 0.0
        for node, weight in _rule(40):
            u = self.q_u(x).mean + 0.8 * node
            ratio_u = dist.Normal(0.0, 1.0).log_prob(u) - self.q_u(x).log_prob(u)
            for state in (0.0, 1.0):
                b = torch.full_like(x, state)
                log_q = self.q_b(u).log_prob(b)
                ratio_b = ratio_u + self.p_b(u).log_prob(b) - log_q
                for inner, share in _rule(4):
                    v = self.q_v(x, b).mean + 0.5 * inner
                    ratio = ratio_b + self.p_v(b).log_prob(v) - self.q_v(x, b).log_prob(v)
                    ratio = ratio + dist.Normal(u + v, 0.7).log_prob(x)
                    total = total + (weight * share * log_q.exp() * ratio).sum()
        return total


class Global(Program):
    """A bit that all data points share, outside of the plate, and one of each data point."""

    def __init__(self):
        super().__init__({"shared": (), "own": (), "q": (), "slope": (2,), "effect": (2,)})

    def model(self, x):
        s = pyro.sample("s", dist.Bernoulli(logits=self.p["shared"]))
        with pyro.plate("data", len(x), dim=-1):
            z = pyro.sample("z", dist.Bernoulli(logits=self.p["own"]))
            pyro.sample("x", self.likelihood(s, z), obs=x)

    def guide(self, x):
        s = pyro.sample("s", dist.Bernoulli(logits=self.p["q"]))
        with pyro.plate("data", len(x), dim=-1):
            pyro.sample("z", self.q_z(x, s))

    def likelihood(self, s, z):
        return dist.Normal(self.p["effect"][0] * s + self.p["effect"][1] * z, 0.9)

    def q_z(self, x, s):
        return dist.Bernoulli(logits=x * self.p["slope"][0] + s * self.p["slope"][1])

    def elbo(self, x):
        total = 0.0
        for shared in torch.tensor([0.0, 1.0]):
            log_q = dist.Bernoulli(logits=self.p["q"]).log_prob(shared)
            inner = dist.Bernoulli(logits=self.p["shared"]).log_prob(shared) - log_q
            for state in (0.0, 1.0):
                z = torch.full_like(x, state)
                log_qz = self.q_z(x, shared).log_prob(z)
                ratio = dist.Bernoulli(logits=self.p["own"]).log_prob(z) - log_qz
                ratio = ratio + self.likelihood(shared, z).log_prob(x)
                inner = inner + (log_qz.exp() * ratio).sum()
            total = total + log_q.exp() * inner
        return total


class InnerPlate(Program):
    """Two bits of each data point in a plate of their own, which explain it together."""

    def __init__(self):
        super().__init__({"prior": (2,), "slope": (2,), "weight": (2,)})

    def model(self, x):
        with pyro.plate("data", len(x), dim=-2):
            with pyro.plate("bits", 2, dim=-1):
                z = pyro.sample("z", dist.Bernoulli(logits=self.p["prior"]))
            mean = (z * self.p["weight"]).sum(-1, keepdim=True)
            pyro.sample("x", dist.Normal(mean, 0.5), obs=x.unsqueeze(-1))

    def guide(self, x):
        with pyro.plate("data", len(x), dim=-2), pyro.plate("bits", 2, dim=-1):
            pyro.sample("z", dist.Bernoulli(logits=x.unsqueeze(-1) * self.p["slope"]))

    def elbo(self, x):
        z = states(2).unsqueeze(1)
        log_q = bits(x.unsqueeze(-1) * self.p["slope"]).log_prob(z)
        log_p = bits(self.p["prior"]).log_prob(z)
        log_p = log_p + dist.Normal(z @ self.p["weight"], 0.5).log_prob(x)
        return (log_q.exp() * (log_p - log_q)).sum()


class Branching(Program):
    """A second bit is drawn only if the first is 1."""

    def __init__(self):
        super().__init__({"first": (), "second": (), "q": (), "q_second": (), "w": (2,)})

    def model(self, x):
        a = pyro.sample("a", dist.Bernoulli(logits=self.p["first"]))
        b = pyro.sample("b", dist.Bernoulli(logits=self.p["second"])) if a > 0 else 0.0
        mean = self.p["w"][0] * a + self.p["w"][1] * b
        with pyro.plate("data", len(x)):
            pyro.sample("x", dist.Normal(mean, 1.0), obs=x)

    def guide(self, x):
        a = pyro.sample("a", dist.Bernoulli(logits=self.p["q"]))
        if a > 0:
            pyro.sample("b", dist.Bernoulli(logits=self.p["q_second"]))

    def elbo(self, x):
        first, second = (dist.Bernoulli(logits=self.p[n]) for n in ("first", "second"))
        q, q_second = (dist.Bernoulli(logits=self.p[n]) for n in ("q", "q_second"))
        total = 0.0
        for a, b in ((0.0, 0.0), (1.0, 0.0), (1.0, 1.0)):
            at, other = torch.tensor(a), torch.tensor(b)
            log_q = q.log_prob(at) + a * q_second.log_prob(other)
            log_p = first.log_prob(at) + a * second.log_prob(other)
            mean = self.p["w"][0] * at + self.p["w"][1] * other
            log_p = log_p + dist.Normal(mean, 1.0).log_prob(x).sum()
            total = total + log_q.exp() * (log_p - log_q)
        return total


def _rule(count):
    nodes, weights = np.polynomial.hermite_e.hermegauss(count)
    return list(zip(nodes.tolist(), (weights / weights.sum()).tolist(), strict=True))


PROGRAMS = {
    "hierarchy": Hierarchy,
    "subsampled": Subsampled,
    "masked": Masked,
    "bits not scored": HalfMasked,
    "mixed": Mixed,
    "shared bit": Global,
    "inner plate": InnerPlate,
    "branching": Branching,
}


def bound_by_enumeration(log_p: Tensor, log_q: Tensor, num_particles: int) -> Tensor:
    """The importance-weighted bound, a sum over the states of all particles, (examples,).

    `log_p` and `log_q` are of every state, (states, examples).
    """
    total = torch.zeros_like(log_p[0])
    for chosen in itertools.product(range(len(log_p)), repeat=num_particles):
        rows = list(chosen)
        log_mean = (log_p[rows] - log_q[rows]).logsumexp(0) - math.log(num_particles)
        total = total + log_q[rows].sum(0).exp() * log_mean
    return total
