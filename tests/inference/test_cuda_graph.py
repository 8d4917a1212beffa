"""What a CUDA graph may not hold, told without a card; and its noise, with one."""

import pyro
import pyro.distributions as dist
import pytest
import torch
from cases import CASES
from pyro.infer import SVI, Trace_ELBO
from pyro.optim import Adam

from ppl_vae import CompiledSVI
from ppl_vae.inference.compilation.inductor.cuda_graph import why_not_captured
from ppl_vae.inference.compilation.tracing.graph import trace

cuda = [
    pytest.mark.cuda,
    pytest.mark.skipif(not torch.cuda.is_available(), reason="no CUDA device"),
]


def test_tensors_on_two_devices_are_not_captured():
    x = torch.ones(3)
    graph = trace(lambda x: [2 * x], [x])
    given = [x.to("meta"), torch.ones(())]
    assert why_not_captured(graph.module, given) == "it takes tensors on cpu and meta"


@pytest.mark.parametrize(
    "function",
    [
        lambda x: [x * torch.arange(3.0).sum()],
        lambda x: [x * torch.poisson(torch.ones(3))],
        lambda x: [x * (torch.tensor(0.5) + 1)],
    ],
)
def test_what_the_cpu_computes_is_not_captured(function):
    """It would keep the value that it had when the kernels were recorded."""
    x = torch.ones(3)
    graph = trace(function, [x])
    assert "it computes on the CPU" in why_not_captured(graph.module, [x])


def test_literals_may_be_captured():
    graph = trace(lambda x: [torch.tensor(2.0)], [torch.ones(3)])
    assert why_not_captured(graph.module, [torch.ones(3)]) is None


@pytest.fixture
def vae():
    pair = CASES["bernoulli-vae"]().to("cuda")
    return pair, pair.sample(6, seed=0)


def losses_of(svi, x, num_steps=6):
    torch.manual_seed(1)
    return [svi.step(x) for _ in range(num_steps)]


@pytest.mark.parametrize("cuda_graph", [True, False], ids=["graph", "no graph"])
class TestOnCUDA:
    pytestmark = cuda

    def test_losses_are_pyros_under_the_same_noise(self, cuda_graph):
        losses = []
        for cls, options in ((SVI, {}), (CompiledSVI, {"cuda_graph": cuda_graph})):
            pair = CASES["bernoulli-vae"]().to("cuda")
            x = pair.sample(6, seed=0)
            svi = cls(pair.model, pair.guide, Adam({"lr": 0.01}), Trace_ELBO(), **options)
            losses.append(losses_of(svi, x))
        assert svi.is_compiled, svi.why_eager
        assert losses[0] == pytest.approx(losses[1], rel=1e-9)

    def test_building_leaves_the_generator_and_parameters(self, vae, cuda_graph):
        pair, x = vae
        optim = Adam({"lr": 0.0})
        svi = CompiledSVI(pair.model, pair.guide, optim, Trace_ELBO(), cuda_graph=cuda_graph)
        svi.step(x)
        torch.manual_seed(9)
        first = svi.step(x)  # built here
        state = torch.cuda.get_rng_state()
        torch.manual_seed(9)
        assert svi.step(x) == first
        assert torch.equal(state, torch.cuda.get_rng_state())

    def test_a_weight_on_the_cpu_is_read_at_every_step(self, cuda_graph):
        def model(x, weight):
            with pyro.plate("data", len(x)), pyro.poutine.scale(scale=weight):
                z = pyro.sample("z", dist.Normal(torch.zeros((), device="cuda"), 1.0))
                pyro.sample("x", dist.Normal(z, 1.0), obs=x)

        def guide(x, weight):
            mean = pyro.param("mean", torch.tensor(0.3, device="cuda"))
            with pyro.plate("data", len(x)), pyro.poutine.scale(scale=weight):
                pyro.sample("z", dist.Normal(mean * x, 1.0))

        losses = []
        for cls, options in ((SVI, {}), (CompiledSVI, {"cuda_graph": cuda_graph})):
            pyro.clear_param_store()
            svi = cls(model, guide, Adam({"lr": 0.01}), Trace_ELBO(), **options)
            torch.manual_seed(1)
            x = torch.arange(5.0, device="cuda")
            losses.append([svi.step(x, torch.tensor(0.1 * i + 0.1)) for i in range(6)])
        assert losses[0] == pytest.approx(losses[1], rel=1e-9)
