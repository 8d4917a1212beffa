"""From a decoder's raw numbers to distributions, and what encoders see of the data."""

from __future__ import annotations

import pyro.distributions as dist
from torch import Tensor

from ppl_vae.likelihoods.distributions.categorical import Categorical
from ppl_vae.likelihoods.distributions.continuous_bernoulli import ContinuousBernoulli
from ppl_vae.likelihoods.distributions.negative_binomial import NegativeBinomial
from ppl_vae.likelihoods.distributions.student_t import StudentT
from ppl_vae.likelihoods.distributions.zero_inflated import ZeroInflatedNegativeBinomial

# Its exponential, and that of its negative, are numbers of float32 with room for a product.
LARGEST_LOG = 40.0


def _bounded(logarithm: Tensor) -> Tensor:
    return logarithm.clamp(-LARGEST_LOG, LARGEST_LOG)


def bernoulli(*, logits: Tensor) -> dist.TorchDistribution:
    """Return a Bernoulli."""
    return dist.Bernoulli(logits=logits)


def continuous_bernoulli(*, logits: Tensor) -> dist.TorchDistribution:
    """Return a continuous Bernoulli."""
    return ContinuousBernoulli(logits)


def normal(*, loc: Tensor, log_scale: Tensor) -> dist.TorchDistribution:
    """Return a Normal of scale ``exp(log_scale)``."""
    return dist.Normal(loc, log_scale.exp())


def laplace(*, loc: Tensor, log_scale: Tensor) -> dist.TorchDistribution:
    """Return a Laplace distribution of scale ``exp(log_scale)``."""
    return dist.Laplace(loc, log_scale.exp())


def student_t(*, loc: Tensor, log_scale: Tensor, log_excess_df: Tensor) -> dist.TorchDistribution:
    """Return a Student's t with ``1 + exp(log_excess_df)`` degrees of freedom: it has a mean."""
    return StudentT(1 + _bounded(log_excess_df).exp(), loc, log_scale.exp())


def poisson(*, log_rate: Tensor) -> dist.TorchDistribution:
    """Return a Poisson of rate ``exp(log_rate)``."""
    return dist.Poisson(_bounded(log_rate).exp())


def negative_binomial(*, log_mean: Tensor, log_total_count: Tensor) -> dist.TorchDistribution:
    """Return a negative binomial of mean ``exp(log_mean)``."""
    return NegativeBinomial(_bounded(log_mean), _bounded(log_total_count))


def zero_inflated_negative_binomial(
    *, log_mean: Tensor, log_total_count: Tensor, gate_logits: Tensor
) -> dist.TorchDistribution:
    """Return a negative binomial of mean ``exp(log_mean)``, with more zeros."""
    return ZeroInflatedNegativeBinomial(gate_logits, _bounded(log_mean), _bounded(log_total_count))


def categorical(*, logits: Tensor) -> dist.TorchDistribution:
    """Return labels, from logits whose last dimension is the classes."""
    return Categorical(logits=logits)


def logarithm_of_counts(x: Tensor) -> Tensor:
    """Return log(1 + x): counts span orders of magnitude."""
    return x.log1p()


def share_of_labels(x: Tensor, *, num_classes: int) -> Tensor:
    """Return labels as numbers from 0 to 1."""
    return x / max(num_classes - 1, 1)
