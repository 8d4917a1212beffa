"""A small network with a plane of codes, and data that it drew."""

import pytest
import torch

from ppl_vae import BernoulliVAE


@pytest.fixture(scope="module")
def network():
    torch.set_default_dtype(torch.float64)
    pair = BernoulliVAE((1, 3, 3), latent_dim=2, hidden=(6,), seed=1)
    return pair, pair.sample(5, seed=0)
