"""The model/guide pairs, by name."""

from ppl_vae.models.amortized_exponential_normal import AmortizedExponentialNormal
from ppl_vae.models.bernoulli_vae import BernoulliVAE
from ppl_vae.models.binary_latent_vae import BinaryLatentVAE
from ppl_vae.models.conditional_vae import ConditionalVAE
from ppl_vae.models.conv_gaussian_vae import ConvGaussianVAE
from ppl_vae.models.count_vae import CountVAE
from ppl_vae.models.exponential_normal import ExponentialNormal
from ppl_vae.models.from_modules import pair_from_modules
from ppl_vae.models.gamma_poisson import GammaPoisson
from ppl_vae.models.gaussian_chain import GaussianChain
from ppl_vae.models.hierarchical_vae import HierarchicalVAE
from ppl_vae.models.linear_gaussian import LinearGaussian
from ppl_vae.models.modules_vae import ModulesVAE
from ppl_vae.models.semi_supervised_vae import SemiSupervisedVAE
from ppl_vae.pair import Pair
from ppl_vae.vae import VAE

MODELS: dict[str, type[Pair]] = {
    "exponential-normal": ExponentialNormal,
    "amortized-exponential-normal": AmortizedExponentialNormal,
    "gamma-poisson": GammaPoisson,
    "linear-gaussian": LinearGaussian,
    "gaussian-chain": GaussianChain,
    "bernoulli-vae": BernoulliVAE,
    "binary-latent-vae": BinaryLatentVAE,
    "conv-gaussian-vae": ConvGaussianVAE,
    "hierarchical-vae": HierarchicalVAE,
    "conditional-vae": ConditionalVAE,
    "semi-supervised-vae": SemiSupervisedVAE,
    "count-vae": CountVAE,
}

__all__ = [
    "MODELS",
    "VAE",
    "AmortizedExponentialNormal",
    "BernoulliVAE",
    "BinaryLatentVAE",
    "ConditionalVAE",
    "ConvGaussianVAE",
    "CountVAE",
    "ExponentialNormal",
    "GammaPoisson",
    "GaussianChain",
    "HierarchicalVAE",
    "LinearGaussian",
    "ModulesVAE",
    "Pair",
    "SemiSupervisedVAE",
    "pair_from_modules",
]
