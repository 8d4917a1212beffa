"""One tiny instance of every pair, which the contract tests run through."""

import importlib.util
from collections.abc import Callable
from typing import Any

import torch
from binary_pair import BinaryBelief
from torch import Tensor

from ppl_vae import (
    AmortizedExponentialNormal,
    BernoulliVAE,
    BinaryLatentVAE,
    ConditionalVAE,
    ConvGaussianVAE,
    CountVAE,
    ExponentialNormal,
    GammaPoisson,
    GaussianChain,
    HierarchicalVAE,
    LinearGaussian,
    Pair,
    SemiSupervisedVAE,
)
from ppl_vae.likelihoods import LIKELIHOODS
from ppl_vae.models.posteriors import FlowPosterior, IAFPosterior
from ppl_vae.models.priors import FlowPrior, MixturePrior, VampPrior

CASES: dict[str, Callable[[], Pair]] = {
    "exponential-normal": lambda: ExponentialNormal(2.0, 0.5, guide_rate=1.5),
    "amortized-exponential-normal": lambda: AmortizedExponentialNormal(hidden=4, seed=1),
    "gamma-poisson": lambda: GammaPoisson(2.0, 0.5, guide_concentration=3.0, guide_rate=1.5),
    "linear-gaussian": lambda: LinearGaussian(4, 2, noise_scale=0.7, seed=1),
    "gaussian-chain": lambda: GaussianChain(2),
    "gaussian-chain, bottom-up": lambda: GaussianChain(2, guide="bottom-up"),
    "bernoulli-vae": lambda: BernoulliVAE((1, 3, 3), latent_dim=2, hidden=(6, 5), seed=1),
    "conv-gaussian-vae": lambda: ConvGaussianVAE(2, seed=1),
    "conv-gaussian-vae, learned scale": lambda: ConvGaussianVAE(2, learn_scale=True, seed=1),
    "hierarchical-vae": lambda: HierarchicalVAE((1, 3, 3), (3, 2), seed=1),
    "hierarchical-vae, top-down": lambda: HierarchicalVAE(
        (1, 3, 3), (3, 2), guide="top-down", hidden=(5, 4), seed=1
    ),
    "semi-supervised-vae": lambda: SemiSupervisedVAE((1, 2, 2), 3, 2, (4,), seed=1),
    "binary-latent-vae": lambda: BinaryLatentVAE((1, 2, 2), 4, seed=1),
    "binary-latent-vae, nonlinear": lambda: BinaryLatentVAE((1, 2, 2), 3, (5,), seed=1),
    "binary-belief": BinaryBelief,
    "linear-gaussian, mixture prior": lambda: LinearGaussian(
        4, 2, noise_scale=0.7, prior=MixturePrior(3), seed=1
    ),
    "bernoulli-vae, vamp prior": lambda: _with(prior=VampPrior(3)),
    "bernoulli-vae, iaf posterior": lambda: _with(posterior=IAFPosterior(2, hidden=(4,))),
}
if importlib.util.find_spec("zuko"):
    CASES["bernoulli-vae, flows"] = lambda: _with(
        prior=FlowPrior(transforms=2, hidden=(4,)),
        posterior=FlowPosterior("nsf", transforms=1, hidden=(4,)),
    )


def _with(**families: object) -> Pair:
    return BernoulliVAE((1, 2, 2), 2, (4,), seed=1, **families)


def _observed(likelihood: str | dict) -> Callable[[], Pair]:
    return lambda: BernoulliVAE((1, 2, 2), 2, (4,), likelihood=likelihood, seed=1)


CASES |= {f"bernoulli-vae, {name}": _observed(name) for name in LIKELIHOODS}
CASES["bernoulli-vae, categorical"] = _observed({"name": "categorical", "num_classes": 3})
del CASES["bernoulli-vae, bernoulli"]  # the first of them

# What has a draw without rsample, and the estimators that serve it.
BITS = {"binary-belief", "binary-latent-vae", "binary-latent-vae, nonlinear"}
DISCRETE = BITS | {"semi-supervised-vae"}
SERVE_DISCRETE = {"trace", "trace-graph", "score-function", "exact"}
SERVE_DISCRETE |= {"enumerate", "leave-one-out", "vimco", "reweighted-wake-sleep"}
SERVE_BITS = SERVE_DISCRETE | {"disarm", "straight-through"}


# Learned priors whose draws are no function of noise.
MIXTURES = {"linear-gaussian, mixture prior", "bernoulli-vae, vamp prior"}


def is_served(case: str, estimator: str) -> bool:
    """Whether an estimator may be right for a case's pair; `exact` also needs a closed form."""
    if case in MIXTURES and estimator == "generalised-dreg":
        return False
    if case in BITS:
        return estimator in SERVE_BITS
    return case not in DISCRETE or estimator in SERVE_DISCRETE


def _labelled(pair: Pair, n: int) -> dict[str, Tensor]:
    y = torch.arange(n) % 3
    return {"x": pair.sample(n, seed=0), "y": y}


def _masked(pair: Pair, n: int) -> tuple[Tensor, Tensor]:
    x = pair.sample(n, seed=0)
    mask = torch.rand(x.shape, generator=torch.Generator().manual_seed(2)) < 0.6
    mask[0] = False  # nothing was observed
    return torch.where(mask, x, torch.nan), mask


def _counted(pair: Pair, n: int) -> dict[str, Tensor]:
    given = {"library": torch.linspace(20.0, 40.0, n), "batch": torch.arange(n) % 2}
    return {"x": pair.sample(n, seed=0, **given), **given}


def _partly_labelled(pair: Pair, n: int) -> tuple[Tensor, Tensor, Tensor]:
    y = torch.arange(n) % 3
    return pair.sample(n, seed=0), y, torch.arange(n) % 2 == 0


# Pairs whose programs take several arguments, with some examples of them.
BATCHES: dict[str, tuple[Callable[[], Pair], Callable[[Pair, int], Any]]] = {
    "conditional-vae": (lambda: ConditionalVAE((1, 2, 2), 3, 2, (4,), seed=1), _labelled),
    "semi-supervised-vae, all labels": (CASES["semi-supervised-vae"], _labelled),
    "semi-supervised-vae, some labels": (CASES["semi-supervised-vae"], _partly_labelled),
    "count-vae": (
        lambda: CountVAE(4, 2, (4,), num_batches=2, dispersion="feature-batch", seed=1),
        _counted,
    ),
    "count-vae, poisson": (
        lambda: CountVAE(4, 2, (4,), "poisson", num_batches=2, seed=1),
        _counted,
    ),
    "count-vae, excess zeros": (
        lambda: CountVAE(4, 2, (4,), "zero-inflated-negative-binomial", num_batches=2, seed=1),
        _counted,
    ),
    "linear-gaussian, mask": (CASES["linear-gaussian"], _masked),
    "bernoulli-vae, mask": (
        lambda: BernoulliVAE((1, 2, 2), 2, (4,), sees_mask=True, seed=1),
        _masked,
    ),
    "hierarchical-vae, mask": (
        lambda: HierarchicalVAE((1, 2, 2), (3, 2), "top-down", hidden=(4, 3), seed=1),
        _masked,
    ),
}


def batch_case(name: str, n: int = 6) -> tuple[Pair, Any]:
    """Return a pair of `BATCHES`, and `n` examples."""
    make, data = BATCHES[name]
    pair = make()
    return pair, data(pair, n)
