"""Small data and small pairs for training."""

import pytest
import torch
from cases import CASES

from ppl_vae import BernoulliVAE, load


@pytest.fixture
def data():
    return load("digits")[:50]


@pytest.fixture
def digits():
    """Sixty binary images, in float64."""
    return load("digits", binarize="static").batch(slice(0, 60), dtype=torch.float64)


@pytest.fixture
def vae():
    return BernoulliVAE((1, 8, 8), latent_dim=2, hidden=(16,), seed=0)


@pytest.fixture
def pair():
    return CASES["bernoulli-vae"]()


@pytest.fixture
def x(pair):
    return pair.sample(5, seed=0)
