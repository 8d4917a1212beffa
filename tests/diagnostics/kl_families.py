"""A distribution of every family of torch and Pyro, with a batch of four where it can have one."""

import pyro.distributions as pd
import torch
import torch.distributions as td
from torch.distributions import constraints

N = 4
SOURCE = torch.Generator()


def above(*shape):
    return 1 + torch.rand(N, *shape, generator=SOURCE)


def real(*shape):
    return torch.randn(N, *shape, generator=SOURCE)


def inner(*shape):
    return 0.3 + 0.4 * torch.rand(N, *shape, generator=SOURCE)


def tril(dim):
    return 0.3 * real(dim, dim).tril(-1) + torch.diag_embed(above(dim))


def covariance(dim):
    factor = tril(dim)
    return factor @ factor.mT


def transformed():
    affine = td.AffineTransform(real(2), above(2))
    return td.TransformedDistribution(
        td.Normal(real(2), above(2)), [affine, td.SigmoidTransform()]
    )


def shared_transform():
    affine = td.AffineTransform(torch.zeros(2), torch.ones(2))
    return td.Independent(td.TransformedDistribution(td.Laplace(real(2), above(2)), [affine]), 1)


def expanded():
    one = pd.Normal(real()[:1], above()[:1])
    return pd.torch_distribution.ExpandedDistribution(one, torch.Size((N,)))


def mask():
    return torch.tensor([True, False, True, True])


def mixture():
    return td.MixtureSameFamily(td.Categorical(logits=real(2)), td.Normal(real(2), above(2)))


def skewed():
    return pd.SineSkewed(pd.VonMises(real(2), above(2)).to_event(1), 0.2 * inner(2))


def hmm():
    emissions = pd.Normal(real(1, 2), above(1, 2))
    return pd.DiscreteHMM(real(2), real(1, 2, 2), emissions, duration=3)


def standard(dim):
    return pd.MultivariateNormal(torch.zeros(dim), torch.eye(dim))


def gaussian(cls, *first):
    eye = torch.eye(2)
    return cls(*first, standard(2), eye, standard(2), eye, standard(2), duration=3)


# Family, or family and the way its parameters are given, to a function that makes one.
SERVED = {
    "Bernoulli": lambda: td.Bernoulli(logits=real()),
    "Bernoulli probs": lambda: td.Bernoulli(probs=inner()),
    "Beta": lambda: td.Beta(2 * above(), 2 * above()),
    "Binomial": lambda: td.Binomial(5, logits=real()),
    "Categorical": lambda: td.Categorical(logits=real(3)),
    "Cauchy": lambda: td.Cauchy(real(), above()),
    "Chi2": lambda: td.Chi2(3 * above()),
    "ContinuousBernoulli": lambda: td.ContinuousBernoulli(logits=above()),
    "Dirichlet": lambda: td.Dirichlet(2 * above(3)),
    "Exponential": lambda: td.Exponential(above()),
    "FisherSnedecor": lambda: td.FisherSnedecor(3 * above(), 6 * above()),
    "Gamma": lambda: td.Gamma(2 * above(), above()),
    "GeneralizedPareto": lambda: td.GeneralizedPareto(torch.zeros(N), above(), 0.2 * above()),
    "Geometric": lambda: td.Geometric(logits=real()),
    "Gumbel": lambda: td.Gumbel(real(), 2 * above()),
    "HalfCauchy": lambda: td.HalfCauchy(above()),
    "HalfNormal": lambda: td.HalfNormal(above()),
    "InverseGamma": lambda: td.InverseGamma(2 * above(), above()),
    "Kumaraswamy": lambda: td.Kumaraswamy(2 * above(), 2 * above()),
    "LKJCholesky": lambda: td.LKJCholesky(3, above()),
    "Laplace": lambda: td.Laplace(real(), above()),
    "LogNormal": lambda: td.LogNormal(real(), above()),
    "LogisticNormal": lambda: td.LogisticNormal(real(2), above(2)),
    "LowRankMultivariateNormal": lambda: td.LowRankMultivariateNormal(
        real(3), real(3, 1), above(3)
    ),
    "MixtureSameFamily": mixture,
    "Multinomial": lambda: td.Multinomial(3, logits=real(3)),
    "MultivariateNormal": lambda: td.MultivariateNormal(real(2), scale_tril=tril(2)),
    "MultivariateNormal covariance": lambda: td.MultivariateNormal(real(2), covariance(2)),
    "MultivariateNormal precision": lambda: td.MultivariateNormal(
        real(2), precision_matrix=covariance(2)
    ),
    "NegativeBinomial": lambda: td.NegativeBinomial(5.0, logits=real()),
    "Normal": lambda: td.Normal(real(), above()),
    "OneHotCategorical": lambda: td.OneHotCategorical(logits=real(3)),
    "OneHotCategoricalStraightThrough": lambda: td.OneHotCategoricalStraightThrough(
        logits=real(3)
    ),
    "Pareto": lambda: td.Pareto(torch.ones(N), 2 * above()),
    "Poisson": lambda: td.Poisson(2 * above()),
    "RelaxedBernoulli": lambda: td.RelaxedBernoulli(torch.tensor(0.8), logits=real()),
    "RelaxedOneHotCategorical": lambda: td.RelaxedOneHotCategorical(
        torch.tensor(0.8), logits=real(3)
    ),
    "StudentT": lambda: td.StudentT(4 * above(), real(), above()),
    "TransformedDistribution": transformed,
    "Independent": shared_transform,
    "VonMises": lambda: td.VonMises(real(), above()),
    "Weibull": lambda: td.Weibull(above(), 2 * above()),
    "AVFMultivariateNormal": lambda: pd.AVFMultivariateNormal(
        real(2)[0], tril(2)[0], 0.1 * real(1, 2)[:2]
    ),
    "AffineBeta": lambda: pd.AffineBeta(2 * above(), 2 * above(), torch.zeros(N), torch.ones(N)),
    "AsymmetricLaplace": lambda: pd.AsymmetricLaplace(real(), above(), above()),
    "BetaBinomial": lambda: pd.BetaBinomial(2 * above(), 2 * above(), 6),
    "CoalescentTimes": lambda: pd.CoalescentTimes(torch.zeros(N, 2), above()),
    "DirichletMultinomial": lambda: pd.DirichletMultinomial(above(3), 4),
    "DiscreteHMM": hmm,
    "ExpandedDistribution": expanded,
    "ExtendedBetaBinomial": lambda: pd.ExtendedBetaBinomial(2 * above(), 2 * above(), 6),
    "ExtendedBinomial": lambda: pd.ExtendedBinomial(6, logits=real()),
    "GammaPoisson": lambda: pd.GammaPoisson(2 * above(), above()),
    "LKJCorrCholesky": lambda: pd.LKJCorrCholesky(3, above()),
    "Logistic": lambda: pd.Logistic(real(), above()),
    "MaskedDistribution": lambda: pd.Normal(real(), above()).mask(mask()),
    "MaskedMixture": lambda: pd.MaskedMixture(
        mask(), pd.Normal(real(), above()), pd.Laplace(real(), above())
    ),
    "MixtureOfDiagNormalsSharedCovariance": lambda: pd.MixtureOfDiagNormalsSharedCovariance(
        real(3)[:2], above()[:3], real()[:2]
    ),
    "MultivariateStudentT": lambda: pd.MultivariateStudentT(4 * above(), real(2), tril(2)),
    "NanMaskedMultivariateNormal": lambda: pd.NanMaskedMultivariateNormal(
        real(2), scale_tril=tril(2)
    ),
    "NanMaskedNormal": lambda: pd.NanMaskedNormal(real(), above()),
    "OMTMultivariateNormal": lambda: pd.OMTMultivariateNormal(real(2)[0], tril(2)[0]),
    "OneOneMatching": lambda: pd.OneOneMatching(real(4)),
    "OneTwoMatching": lambda: pd.OneTwoMatching(real(2)),
    "OrderedLogistic": lambda: pd.OrderedLogistic(real(), real(3).sort(-1).values),
    "ProjectedNormal": lambda: pd.ProjectedNormal(real(3)),
    "Rejector": lambda: pd.Rejector(
        pd.Normal(real(), above()), lambda z: torch.zeros_like(z), torch.zeros(N)
    ),
    "RelaxedBernoulliStraightThrough": lambda: pd.RelaxedBernoulliStraightThrough(
        torch.tensor(0.8), logits=real()
    ),
    "RelaxedOneHotCategoricalStraightThrough": lambda: pd.RelaxedOneHotCategoricalStraightThrough(
        torch.tensor(0.8), logits=real(3)
    ),
    "SineSkewed": skewed,
    "SkewLogistic": lambda: pd.SkewLogistic(real(), above(), above()),
    "SoftLaplace": lambda: pd.SoftLaplace(real(), above()),
    "ZeroInflatedDistribution": lambda: pd.ZeroInflatedDistribution(
        pd.Poisson(2 * above()), gate_logits=real()
    ),
    "ZeroInflatedNegativeBinomial": lambda: pd.ZeroInflatedNegativeBinomial(
        torch.tensor(4.0), logits=real(), gate_logits=real()
    ),
    "ZeroInflatedPoisson": lambda: pd.ZeroInflatedPoisson(2 * above(), gate=inner()),
}

# Family to a function that makes one, the error and what it says.
REFUSED = {
    "CoalescentTimesWithRate": (
        lambda: pd.CoalescentTimesWithRate(torch.zeros(3), above()),
        "CoalescentTimesWithRate, which does not define it",
    ),
    "Delta": (lambda: pd.Delta(real()), "a Delta"),
    "Empirical": (lambda: pd.Empirical(real(5), real(5)), "Empirical, whose"),
    "GammaGaussianHMM": (
        lambda: gaussian(pd.GammaGaussianHMM, pd.Gamma(torch.tensor(2.0), torch.tensor(2.0))),
        "GammaGaussianHMM, which has none for scale_dist",
    ),
    "GaussianHMM": (lambda: gaussian(pd.GaussianHMM), "GaussianHMM, which has none for initial"),
    "GaussianMRF": (
        lambda: pd.GaussianMRF(standard(2), standard(4), standard(3)),
        "GaussianMRF, which has none for initial_dist",
    ),
    "GroupedNormalNormal": (
        lambda: pd.GroupedNormalNormal(
            real()[:2], above()[:2], above()[:1], torch.tensor([0, 0, 1])
        ),
        "GroupedNormalNormal, which does not define it",
    ),
    "ImproperUniform": (
        lambda: pd.ImproperUniform(constraints.real, torch.Size((N,)), torch.Size()),
        "ImproperUniform, which does not define it",
    ),
    "LinearHMM": (lambda: gaussian(pd.LinearHMM), "LinearHMM, which does not define it"),
    "LogNormalNegativeBinomial": (
        lambda: pd.LogNormalNegativeBinomial(torch.tensor(5.0), real(), above()),
        "LogNormalNegativeBinomial, which does not define it",
    ),
    "TruncatedPolyaGamma": (
        lambda: pd.TruncatedPolyaGamma(torch.zeros(N)),
        "TruncatedPolyaGamma, whose",
    ),
    "Uniform": (lambda: td.Uniform(torch.zeros(N), 1.0), "Uniform, whose"),
    "Unit": (lambda: pd.Unit(real()), "event shape"),
    "VonMises3D": (lambda: pd.VonMises3D(above(3)[0]), "VonMises3D, which does not define it"),
}
