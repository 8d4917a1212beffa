"""A small VAE of the digits in float64, of which a test may want several alike."""

import torch

from ppl_vae import BernoulliVAE


def vae():
    return BernoulliVAE((1, 8, 8), latent_dim=3, hidden=(16,), seed=0).double()


def values(pair):
    """All of its parameters in one vector."""
    return torch.cat([p.detach().flatten() for p in pair.parameters()])
