"""One tiny instance of every pair, which the contract tests run through."""

from collections.abc import Callable

from binary_pair import BinaryBelief

from ppl_vae import (
    AmortizedExponentialNormal,
    BernoulliVAE,
    ConvGaussianVAE,
    ExponentialNormal,
    GammaPoisson,
    GaussianChain,
    HierarchicalVAE,
    LinearGaussian,
    Pair,
)
from ppl_vae.likelihoods import LIKELIHOODS

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
    "binary-belief": BinaryBelief,
}


def _observed(likelihood: str | dict) -> Callable[[], Pair]:
    return lambda: BernoulliVAE((1, 2, 2), 2, (4,), likelihood=likelihood, seed=1)


CASES |= {f"bernoulli-vae, {name}": _observed(name) for name in LIKELIHOODS}
CASES["bernoulli-vae, categorical"] = _observed({"name": "categorical", "num_classes": 3})
del CASES["bernoulli-vae, bernoulli"]  # the first of them

# What has a draw without rsample, and the estimators that serve it.
DISCRETE = {"binary-belief"}
SERVE_DISCRETE = {"trace", "trace-graph", "score-function", "exact"}


def is_served(case: str, estimator: str) -> bool:
    """Whether an estimator may be right for a case's pair; `exact` also needs a closed form."""
    return case not in DISCRETE or estimator in SERVE_DISCRETE
