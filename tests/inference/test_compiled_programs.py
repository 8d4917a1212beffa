"""The compiled step does what Pyro's does: plates, masks, constraints and buffers."""

import copy

import pyro
import pyro.distributions as dist
import pytest
import torch
from pyro.infer import SVI, RenyiELBO, Trace_ELBO, TraceMeanField_ELBO
from pyro.optim import SGD as PyroSGD
from pyro.optim import Adam

from ppl_vae import CompiledSVI


def plates_and_params(x):
    """Constrained parameters, a subsampling plate, a mask, a scale, two latents, a loop."""

    def model(x):
        spread = pyro.param("spread", torch.tensor(0.7), constraint=dist.constraints.positive)
        top = pyro.sample("top", dist.Normal(0.0, 1.0))
        with pyro.plate("data", len(x), subsample_size=4) as index, pyro.poutine.scale(scale=0.5):
            z = pyro.sample("z", dist.Normal(top, 1.0).mask(x[index] > 0))
            pyro.sample("x", dist.Normal(z, spread), obs=x[index])
        for i in pyro.plate("loop", 3):
            pyro.sample(f"y{i}", dist.Normal(top, 1.0 + i), obs=x[i])

    def guide(x):
        loc = pyro.param("loc", torch.zeros(len(x)), event_dim=0)
        scale = pyro.param("scale", torch.ones(len(x)), constraint=dist.constraints.positive)
        simplex = pyro.param("w", torch.ones(2) / 2, constraint=dist.constraints.simplex)
        pyro.sample("top", dist.Normal(simplex[0], 1.0))
        with pyro.plate("data", len(x), subsample_size=4) as index, pyro.poutine.scale(scale=0.5):
            pyro.sample("z", dist.Normal(loc[index], scale[index]).mask(x[index] > 0))

    return model, guide


LOSSES = {
    "trace": lambda: Trace_ELBO(),
    "particles": lambda: Trace_ELBO(num_particles=3),
    "vectorized": lambda: Trace_ELBO(
        num_particles=3, vectorize_particles=True, max_plate_nesting=1
    ),
    "mean field": lambda: TraceMeanField_ELBO(),
    "renyi": lambda: RenyiELBO(alpha=0.5, num_particles=3),
}


@pytest.mark.parametrize("loss", ["trace", "particles", "mean field", "renyi"])
def test_plates_masks_scales_and_constrained_parameters(loss):
    x = torch.randn(9)
    results = []
    for cls, options in ((SVI, {}), (CompiledSVI, {"backend": "eager"})):
        pyro.clear_param_store()
        model, guide = plates_and_params(x)
        svi = cls(model, guide, Adam({"lr": 0.01}), LOSSES[loss](), **options)
        torch.manual_seed(1)
        losses = [svi.step(x) for _ in range(4)]
        store = pyro.get_param_store()
        results.append((losses, [store[n].detach().clone() for n in sorted(store.keys())]))
    assert svi.is_compiled, svi.why_eager
    assert results[0][0] == pytest.approx(results[1][0], rel=1e-13)
    for first, second in zip(*(r[1] for r in results), strict=True):
        torch.testing.assert_close(first, second, rtol=1e-12, atol=1e-15)


class Normed(torch.nn.Module):
    def __init__(self):
        super().__init__()
        self.net = torch.nn.Sequential(
            torch.nn.Linear(3, 4), torch.nn.BatchNorm1d(4), torch.nn.Dropout(0.3)
        )

    def forward(self, x):
        return self.net(x)


def test_buffers_are_updated_and_train_and_eval_are_told_apart():
    x = torch.randn(6, 3)
    torch.manual_seed(3)
    first = Normed()
    nets = (first, copy.deepcopy(first))
    outcomes = []
    for net, (cls, options) in zip(
        nets, ((SVI, {}), (CompiledSVI, {"backend": "eager"})), strict=True
    ):
        pyro.clear_param_store()

        def model(x):
            with pyro.plate("data", len(x)):
                z = pyro.sample("z", dist.Normal(torch.zeros(4), 1.0).to_event(1))
                pyro.sample("x", dist.Normal(z.sum(-1), 1.0), obs=x.sum(-1))

        def guide(x, net=net):
            pyro.module("net", net)
            with pyro.plate("data", len(x)):
                pyro.sample("z", dist.Normal(net(x), 1.0).to_event(1))

        svi = cls(model, guide, PyroSGD({"lr": 1e-3}), Trace_ELBO(), **options)
        torch.manual_seed(1)
        losses = [svi.step(x) for _ in range(4)]
        net.eval()
        losses += [svi.step(x) for _ in range(2)]
        outcomes.append((losses, [t.clone() for t in net.state_dict().values()]))
    assert svi.is_compiled, svi.why_eager
    assert outcomes[0][0] == pytest.approx(outcomes[1][0], rel=1e-13)
    for one, other in zip(*(o[1] for o in outcomes), strict=True):
        torch.testing.assert_close(one, other, rtol=1e-12, atol=1e-14)
