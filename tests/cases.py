"""One tiny instance of every pair, which the contract tests run through."""

from collections.abc import Callable

from ppl_vae import AmortizedExponentialNormal, BernoulliVAE, ExponentialNormal, Pair

CASES: dict[str, Callable[[], Pair]] = {
    "exponential-normal": lambda: ExponentialNormal(2.0, 0.5, guide_rate=1.5),
    "amortized-exponential-normal": lambda: AmortizedExponentialNormal(hidden=4, seed=1),
    "bernoulli-vae": lambda: BernoulliVAE((1, 3, 3), latent_dim=2, hidden=(6, 5), seed=1),
}
