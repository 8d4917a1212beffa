"""The model/guide pairs, by name."""

from ppl_vae.models.amortized_exponential_normal import AmortizedExponentialNormal
from ppl_vae.models.bernoulli_vae import BernoulliVAE
from ppl_vae.models.exponential_normal import ExponentialNormal
from ppl_vae.models.gaussian_chain import GaussianChain
from ppl_vae.models.linear_gaussian import LinearGaussian
from ppl_vae.pair import Pair
from ppl_vae.vae import VAE

MODELS: dict[str, type[Pair]] = {
    "exponential-normal": ExponentialNormal,
    "amortized-exponential-normal": AmortizedExponentialNormal,
    "linear-gaussian": LinearGaussian,
    "gaussian-chain": GaussianChain,
    "bernoulli-vae": BernoulliVAE,
}

__all__ = [
    "MODELS",
    "VAE",
    "AmortizedExponentialNormal",
    "BernoulliVAE",
    "ExponentialNormal",
    "GaussianChain",
    "LinearGaussian",
    "Pair",
]
