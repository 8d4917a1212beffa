"""Likelihoods, and priors with posteriors, by family."""

from __future__ import annotations

import pyro.distributions as dist
import torch
from torch import Tensor
from torch.nn.functional import softplus

from program_parts.small import Numbers, Spec

X = torch.tensor([0.4, -1.1, 0.9, 2.0, -0.3, 1.4])
POSITIVE = torch.tensor([0.4, 1.1, 0.9, 2.0, 0.3, 1.4])
SHARES = torch.tensor([0.4, 0.11, 0.9, 0.2, 0.3, 0.54])
COUNTS = torch.tensor([0.0, 3.0, 1.0, 5.0, 2.0, 1.0])
BITS = torch.tensor([0.0, 1.0, 1.0, 0.0, 1.0, 1.0])


def code(p: Numbers) -> dist.Distribution:
    """A learned Normal prior."""
    return dist.Normal(p["a"], p["b"].exp())


def read(p: Numbers, x: Tensor) -> dist.Distribution:
    """A Normal posterior, linear in what is observed."""
    return dist.Normal(p["a"] * x + p["b"], p["c"].exp())


def seen(p: Numbers, z: Tensor) -> dist.Distribution:
    """A Normal likelihood of learned scale."""
    return dist.Normal(p["a"] * z, p["b"].exp())


def line(p: Numbers, z: Tensor) -> Tensor:
    """What a decoder gives."""
    return p["a"] * z + p["b"]


def positive(p: Numbers, z: Tensor) -> Tensor:
    """The same, above 0."""
    return softplus(line(p, z)) + 0.1


def levels(p: Numbers, z: Tensor) -> Tensor:
    """Logits of three categories."""
    return torch.stack([line(p, z), -p["a"] * z, p["b"] + 0 * z], -1)


LIKELIHOODS = {
    "Normal": (seen, X),
    "Normal, scale 0.01": (lambda p, z: dist.Normal(line(p, z), 0.01), X),
    "Normal, scale 100": (lambda p, z: dist.Normal(line(p, z), 100.0), X),
    "Laplace": (lambda p, z: dist.Laplace(line(p, z), 0.7), X),
    "StudentT": (lambda p, z: dist.StudentT(4.0, line(p, z), p["b"].exp()), X),
    "Cauchy": (lambda p, z: dist.Cauchy(line(p, z), 0.8), X),
    "Gumbel": (lambda p, z: dist.Gumbel(line(p, z), 0.8), X),
    "VonMises": (lambda p, z: dist.VonMises(line(p, z), 2.0), X),
    "Bernoulli": (lambda p, z: dist.Bernoulli(logits=line(p, z)), BITS),
    "ContinuousBernoulli": (lambda p, z: dist.ContinuousBernoulli(logits=line(p, z)), SHARES),
    "Beta": (lambda p, z: dist.Beta(positive(p, z), 2.0), SHARES),
    "Gamma": (lambda p, z: dist.Gamma(2.0, positive(p, z)), POSITIVE),
    "Exponential": (lambda p, z: dist.Exponential(positive(p, z)), POSITIVE),
    "LogNormal": (lambda p, z: dist.LogNormal(line(p, z), 0.5), POSITIVE),
    "Weibull": (lambda p, z: dist.Weibull(positive(p, z), 1.5), POSITIVE),
    "Poisson": (lambda p, z: dist.Poisson(positive(p, z)), COUNTS),
    "NegativeBinomial": (lambda p, z: dist.NegativeBinomial(3.0, logits=line(p, z)), COUNTS),
    "GammaPoisson": (lambda p, z: dist.GammaPoisson(2.0, positive(p, z)), COUNTS),
    "Geometric": (lambda p, z: dist.Geometric(logits=line(p, z)), COUNTS),
    "Binomial": (lambda p, z: dist.Binomial(7, logits=line(p, z)), COUNTS),
    "ZeroInflatedPoisson": (
        lambda p, z: dist.ZeroInflatedPoisson(positive(p, z), gate=p["b"].sigmoid()),
        COUNTS,
    ),
    "Categorical": (lambda p, z: dist.Categorical(logits=levels(p, z)), BITS),
}

# Prior and posterior; the likelihood is Normal.
LATENTS = {
    "Laplace || Laplace": (
        lambda p: dist.Laplace(p["a"], p["b"].exp()),
        lambda p, x: dist.Laplace(p["a"] * x, p["c"].exp()),
    ),
    "Normal || Laplace": (lambda p: dist.Laplace(p["a"], p["b"].exp()), read),
    "Normal || StudentT": (lambda p: dist.StudentT(4.0, p["a"], p["b"].exp()), read),
    "StudentT || Normal": (code, lambda p, x: dist.StudentT(9.0, p["a"] * x, p["c"].exp())),
    "Normal || Cauchy": (lambda p: dist.Cauchy(p["a"], p["b"].exp()), read),
    "Gumbel || Gumbel": (
        lambda p: dist.Gumbel(p["a"], p["b"].exp()),
        lambda p, x: dist.Gumbel(p["a"] * x, p["c"].exp()),
    ),
    "Logistic || Logistic": (
        lambda p: dist.Logistic(p["a"], p["b"].exp()),
        lambda p, x: dist.Logistic(p["a"] * x, p["c"].exp()),
    ),
    "Normal || mixture": (
        lambda p: dist.MixtureSameFamily(
            dist.Categorical(logits=torch.stack([p["a"], p["b"]])),
            dist.Normal(torch.tensor([-1.0, 1.0]), 0.7),
        ),
        read,
    ),
    "mixture || Normal": (
        code,
        lambda p, x: dist.MixtureSameFamily(
            dist.Categorical(logits=torch.stack([p["a"] * x, p["b"] + 0 * x], -1)),
            dist.Normal(torch.stack([x - 1, x + 1], -1) / 2, p["c"].exp()),
        ),
    ),
    "Gamma || Gamma": (
        lambda p: dist.Gamma(p["a"].exp(), p["b"].exp()),
        lambda p, x: dist.Gamma(2.0 + (p["a"] * x).exp(), p["c"].exp() + 1),
    ),
    "LogNormal || LogNormal": (
        lambda p: dist.LogNormal(p["a"], p["b"].exp()),
        lambda p, x: dist.LogNormal(p["a"] * x, 0.5 * p["c"].exp()),
    ),
    "LogNormal || Gamma": (
        lambda p: dist.Gamma(p["a"].exp() + 1, p["b"].exp()),
        lambda p, x: dist.LogNormal(p["a"] * x, 0.5 * p["c"].exp()),
    ),
    "LogNormal || Exponential": (
        lambda p: dist.Exponential(p["a"].exp()),
        lambda p, x: dist.LogNormal(p["a"] * x, 0.5 * p["c"].exp()),
    ),
    "LogNormal || HalfNormal": (
        lambda p: dist.HalfNormal(p["a"].exp()),
        lambda p, x: dist.LogNormal(p["a"] * x, 0.5 * p["c"].exp()),
    ),
    "Gamma || Weibull": (
        lambda p: dist.Weibull(p["a"].exp(), p["b"].exp()),
        lambda p, x: dist.Gamma(2.0 + (p["a"] * x).exp(), p["c"].exp() + 1),
    ),
    "Beta || Beta": (
        lambda p: dist.Beta(p["a"].exp() + 1, p["b"].exp() + 1),
        lambda p, x: dist.Beta(2.0 + (p["a"] * x).exp(), p["c"].exp() + 1),
    ),
    "Beta || Uniform": (
        lambda p: dist.Uniform(torch.tensor(0.0), 1.0),
        lambda p, x: dist.Beta(2.0 + (p["a"] * x).exp(), p["c"].exp() + 1),
    ),
    "Kumaraswamy || Beta": (
        lambda p: dist.Beta(p["a"].exp() + 1, p["b"].exp() + 1),
        lambda p, x: dist.Kumaraswamy(2.0 + (p["a"] * x).exp(), p["c"].exp() + 1),
    ),
    "ContinuousBernoulli || ContinuousBernoulli": (
        lambda p: dist.ContinuousBernoulli(logits=p["a"]),
        lambda p, x: dist.ContinuousBernoulli(logits=p["a"] * x),
    ),
    "affine flow || Normal": (
        code,
        lambda p, x: dist.TransformedDistribution(
            dist.Normal(torch.zeros_like(x), 1.0),
            [dist.transforms.AffineTransform(p["a"] * x, p["c"].exp())],
        ),
    ),
    "Bernoulli || Bernoulli": (
        lambda p: dist.Bernoulli(logits=p["a"]),
        lambda p, x: dist.Bernoulli(logits=p["a"] * x + p["b"]),
    ),
    "Binomial || Binomial": (
        lambda p: dist.Binomial(4, logits=p["a"]),
        lambda p, x: dist.Binomial(4, logits=p["a"] * x + p["b"]),
    ),
    "Categorical || Categorical": (
        lambda p: dist.Categorical(logits=torch.stack([p["a"], p["b"], 0 * p["a"]])),
        lambda p, x: dist.Categorical(logits=torch.stack([p["a"] * x, p["b"] + x, 0 * x], -1)),
    ),
    "OneHotCategorical || OneHotCategorical": (
        lambda p: dist.OneHotCategorical(logits=torch.stack([p["a"], p["b"], 0 * p["a"]])),
        lambda p, x: dist.OneHotCategorical(
            logits=torch.stack([p["a"] * x, p["b"] + x, 0 * x], -1)
        ),
    ),
    "Poisson || Poisson": (
        lambda p: dist.Poisson(0.2 + 3 * p["a"].sigmoid()),
        lambda p, x: dist.Poisson(0.2 + 3 * (p["a"] * x).sigmoid()),
    ),
    "Geometric || Geometric": (
        lambda p: dist.Geometric(logits=p["a"]),
        lambda p, x: dist.Geometric(logits=p["a"] * x + p["b"]),
    ),
}

BASE = Spec(code, seen, read, X)
