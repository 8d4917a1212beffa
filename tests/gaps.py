"""A small linear pair with data, and the quantities of an inference gap."""

from ppl_vae import LinearGaussian

NAMES = ("log_evidence", "best_elbo", "elbo", "total", "approximation", "amortisation")


def linear(latent_dim=3):
    pair = LinearGaussian(5, latent_dim, noise_scale=0.6, seed=3)
    return pair, pair.sample(4, seed=1)
