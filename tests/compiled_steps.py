"""Steps of a compiled SVI, and of Pyro's to compare them with."""

import random

import numpy as np
import pyro
import pyro.distributions as dist
import torch
from parameters import parameters
from pyro.infer import SVI, Trace_ELBO
from pyro.optim import SGD, Adam

from ppl_vae import CompiledSVI


def compiled_svi(pair, optim=None, **options):
    optim = optim or Adam({"lr": 0.01})
    return CompiledSVI(
        pair.model, pair.guide, optim, Trace_ELBO(), **{"backend": "eager", **options}
    )


def normal(scale=lambda: 1.0, loc=lambda x: 0.0):
    """A model and a guide of one latent, with what differs between the tests."""

    def model(x):
        with pyro.plate("data", len(x)), pyro.poutine.scale(scale=scale()):
            z = pyro.sample("z", dist.Normal(loc(x), 1.0))
            pyro.sample("x", dist.Normal(z, 1.0), obs=x)

    def guide(x):
        mean = pyro.param("mean", torch.tensor(0.3))
        with pyro.plate("data", len(x)), pyro.poutine.scale(scale=scale()):
            pyro.sample("z", dist.Normal(mean * x, 1.0))

    return model, guide


def both(make_programs, x, num_steps=6, between=lambda step: None):
    """Losses by Pyro and by a graph, from the same seed, and the compiled one."""
    losses = []
    for cls, options in ((SVI, {}), (CompiledSVI, {"backend": "eager"})):
        pyro.clear_param_store()
        random.seed(0)
        np.random.seed(0)  # noqa: NPY002
        svi = cls(*make_programs(), SGD({"lr": 0.01}), Trace_ELBO(), **options)
        torch.manual_seed(1)
        losses.append([])
        for step in range(num_steps):
            between(step)
            losses[-1].append(svi.step(x))
    return *losses, svi


def trained(svi, module, x, num_steps=3):
    """Losses and parameters after some steps from the same seed."""
    torch.manual_seed(1)
    losses = [svi.step(x) for _ in range(num_steps)]
    return losses, parameters(module)
