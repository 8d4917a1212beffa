"""A model and a guide of one latent, to be spoiled, and the refusal that is expected."""

import re

import pyro
import pyro.distributions as dist
import pytest
import torch

P = torch.tensor(0.3, requires_grad=True)


def model(site="z", prior=None):
    def program():
        with pyro.plate("data", 2, dim=-1):
            z = pyro.sample(site, prior or dist.Normal(0.0, 1.0))
            pyro.sample("x", dist.Normal(z, 1.0), obs=torch.ones(2))

    return program


def guide(site="z", fn=None):
    def program():
        with pyro.plate("data", 2, dim=-1):
            return pyro.sample(site, fn or dist.Normal(P, 1.0))

    return program


def refused(cls, functions, error, message, *, validation=True):
    with (
        pyro.validation_enabled(validation),
        pytest.raises(error, match="^" + re.escape(message) + "$"),
    ):
        cls().loss(*functions)
