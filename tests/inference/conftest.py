"""Small data and a small pair for training."""

import pytest

from ppl_vae import BernoulliVAE, load


@pytest.fixture
def data():
    return load("digits")[:50]


@pytest.fixture
def vae():
    return BernoulliVAE((1, 8, 8), latent_dim=2, hidden=(16,), seed=0)
