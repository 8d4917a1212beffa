"""Parameters in one memory: the optimiser's updates add up, which no graph of ours does."""

import pyro
import pyro.distributions as dist
import pytest
import torch
from pyro.infer import SVI, Trace_ELBO
from pyro.infer.autoguide import AutoNormalMessenger
from pyro.nn import PyroModule, PyroParam
from pyro.optim import Adam
from torch import nn
from torch.distributions import constraints

from ppl_vae import CompiledSVI
from ppl_vae.inference.compilation.sharing import share_memory


class Model(PyroModule):
    """The guide's location starts at the prior's mean, and is the same memory."""

    def __init__(self):
        super().__init__()
        self.x_loc = nn.Parameter(torch.tensor(1.0))
        self.x_scale = PyroParam(torch.tensor(0.1), constraints.positive)

    def forward(self):
        x = pyro.sample("x", dist.Normal(self.x_loc, self.x_scale))
        pyro.sample("z", dist.Normal(1.0, 0.1), obs=x)


class Copied(Model):
    """What is read beside the parameter follows it, though it is another tensor."""

    def __init__(self):
        super().__init__()
        self.beside = self.x_loc.data

    def forward(self):
        x = pyro.sample("x", dist.Normal(self.x_loc + self.beside, self.x_scale))
        pyro.sample("z", dist.Normal(1.0, 0.1), obs=x)


def losses(cls, make, guide, **options):
    pyro.clear_param_store()
    pyro.set_rng_seed(0)
    model = make()
    svi = cls(model, guide(model), Adam({"lr": 0.01}), Trace_ELBO(), **options)
    return [svi.step() for _ in range(6)], svi


def normal(model):
    def guide():
        loc = pyro.param("loc", torch.tensor(0.5))
        pyro.sample("x", dist.Normal(loc, 0.2))

    return guide


@pytest.mark.parametrize(("make", "guide"), [(Model, AutoNormalMessenger), (Copied, normal)])
def test_parameters_that_share_memory_are_left_to_pyro(make, guide):
    expected, _ = losses(SVI, make, guide)
    found, svi = losses(CompiledSVI, make, guide, backend="eager")
    assert found == pytest.approx(expected, rel=1e-12)
    assert svi.why_eager == "a parameter shares its memory with another tensor"


def test_what_shares_memory():
    x = torch.zeros(6)
    assert share_memory([x[:4]], [x[3:]])
    assert share_memory([x[:4], x[2:]], [])
    assert share_memory([x[3:]], [x[:4]])
    assert share_memory([x[2:3]], [x])
    assert not share_memory([x[:3], x[3:]], [x[:0]])
    assert not share_memory([x[:3]], [x[3:], x[4:]])
    assert not share_memory([x, x], [x])
    assert not share_memory([], [x, x[1:]])
