"""Which latents depend on which, whatever a program does with their values."""

import functools
import warnings

import pyro
import pyro.distributions as dist
import pytest
import torch
from pyro import poutine
from torch import nn

from ppl_vae.elbos import TraceAnalyticKL_ELBO
from ppl_vae.elbos.sites.dependencies import descendants, parents

ZEROS = torch.zeros(2, dtype=torch.float64)


class Doubled(torch.autograd.Function):
    @staticmethod
    def forward(ctx, z):
        return 2 * z

    @staticmethod
    def backward(ctx, slope):
        return 2 * slope


def writes_into_a_tensor(z):
    loc = torch.zeros(2)
    loc[0] = z[0]
    return loc


def writes_where_positive(z):
    loc = torch.zeros(2)
    loc[z > 0] = 1.0
    return loc


def adds_in_place(z):
    loc = torch.zeros(2)
    loc.add_(z)
    return loc


def writes_out(z):
    loc = torch.zeros(2)
    torch.add(z.detach(), 1.0, out=loc)
    return loc


def differentiates(z):
    with torch.enable_grad():
        z = z.detach().requires_grad_()
        return torch.autograd.grad(z.square().sum(), z)[0]


@functools.cache
def jitted():
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # it is deprecated, and in use
        return torch.jit.trace(lambda z: 2 * z, (torch.ones(2),))


GRU, LSTM = nn.GRUCell(2, 2).double(), nn.LSTM(2, 2).double()
NETWORK = nn.Sequential(nn.Linear(2, 3), nn.BatchNorm1d(3), nn.ReLU(inplace=True), nn.Linear(3, 2))
NETWORK = NETWORK.double().eval()
WAYS = {
    "arithmetic": lambda z: 2 * z + 1,
    "a network": lambda z: NETWORK(z[None])[0],
    "a recurrent cell": lambda z: GRU(z[None])[0],
    "a recurrent network": lambda z: LSTM(z[None])[0][0],
    "an autograd function": Doubled.apply,
    "torch.jit": lambda z: jitted()(z),
    "torch.vmap": lambda z: torch.vmap(lambda a: 2 * a)(z),
    "unpacking": lambda z: torch.stack([*z]),
    "stacking": lambda z: torch.stack([z[1], z[0]]),
    "a detached copy": lambda z: z.detach().clone(),
    "z.data": lambda z: z.data + 1,
    "comparison": lambda z: (z > 0).double(),
    "torch.where": lambda z: torch.where(z > 0, 1.0, 0.0),
    "an index": lambda z: torch.eye(2)[(z[0] > 0).long()],
    "writing": writes_into_a_tensor,
    "writing at marked places": writes_where_positive,
    "in place": adds_in_place,
    "out=": writes_out,
    "a derivative": differentiates,
    "item": lambda z: torch.tensor([z[0].item(), 1.0]),
    "tolist": lambda z: torch.tensor(z.tolist()),
    "numpy": lambda z: torch.from_numpy(2 * z.detach().numpy()),
    "float": lambda z: torch.full((2,), float(z[0])),
    "a branch": lambda z: torch.ones(2) if z[0] > 0 else torch.zeros(2),
}


def model():
    z2 = pyro.sample("z2", dist.Normal(ZEROS, 1.0).to_event(1))
    z1 = pyro.sample("z1", dist.Normal(z2, 1.0).to_event(1))
    pyro.sample("x", dist.Normal(z1, 1.0).to_event(1), obs=ZEROS)


def bottom_up(loc):
    def guide():
        z1 = pyro.sample("z1", dist.Normal(ZEROS, 1.0).to_event(1))
        pyro.sample("z2", dist.Normal(loc(z1), 1.0).to_event(1))

    return guide


def found(model, guide):
    guide_trace = poutine.trace(guide).get_trace()
    model_trace = poutine.trace(poutine.replay(model, guide_trace)).get_trace()
    return parents(model, guide, (), {}, traces=(model_trace, guide_trace))


@pytest.mark.filterwarnings("ignore::DeprecationWarning")
@pytest.mark.parametrize("way", WAYS)
def test_a_dependence_is_found_however_it_arises(way):
    in_model, in_guide = found(model, bottom_up(WAYS[way]))
    assert in_guide == {"z1": set(), "z2": {"z1"}}
    assert in_model == {"z2": set(), "z1": {"z2"}}
    elbo = TraceAnalyticKL_ELBO(strict=True)
    with pytest.raises(
        NotImplementedError, match="at site 'z1'.*its parent in the model, z2, des"
    ):
        elbo.loss(model, bottom_up(WAYS[way]))


@pytest.mark.parametrize(
    "loc",
    [
        lambda z: ZEROS,
        lambda z: torch.zeros(z.shape),
        lambda z: torch.zeros(z.size(0)) + len(z) + z.dim() + z.numel(),
        lambda z: torch.zeros(2, dtype=z.dtype, device=z.device),
    ],
)
def test_shape_and_kind_of_a_value_are_no_dependence(loc):
    assert found(model, bottom_up(loc))[1] == {"z1": set(), "z2": set()}


def test_where_a_program_cannot_be_followed_all_earlier_sites_are_parents():
    def guide():
        a = pyro.sample("a", dist.Normal(0.0, 1.0))
        pyro.sample("b", dist.Normal(0.0, 1.0))
        pyro.sample("c", dist.Normal(1.0 if a > 0 else 0.0, 1.0))

    assert found(guide, guide)[1] == {"a": set(), "b": {"a"}, "c": {"a", "b"}}


def test_auxiliary_sites_deterministic_ones_and_masks_are_followed():
    def guide():
        a = pyro.sample("a", dist.Normal(0.0, 1.0))
        b = pyro.sample("b", dist.Delta(a.exp()))
        c = pyro.deterministic("c", b + 1)
        d = pyro.sample("d", dist.Normal(c, 1.0), infer={"is_auxiliary": True})
        with poutine.mask(mask=d > 0):
            pyro.sample("e", dist.Normal(0.0, 1.0))
        with poutine.scale(scale=d.exp()):
            pyro.sample("f", dist.Normal(0.0, 1.0))

    expected = {"a": set(), "b": {"a"}, "d": {"b"}, "e": {"d"}, "f": {"d"}}
    in_guide = found(guide, guide)[1]
    assert in_guide == expected
    assert descendants(in_guide, "b") == {"b", "d", "e", "f"}
    assert descendants(in_guide, "e") == {"e"}


def test_a_plate_that_subsamples_is_no_latent():
    def guide():
        with pyro.plate("data", 10, subsample_size=3) as row:
            z = pyro.sample("z", dist.Normal(row.double(), 1.0))
            pyro.sample("w", dist.Normal(z, 1.0))

    assert found(guide, guide)[1] == {"z": set(), "w": {"z"}}


def test_random_state_gradients_and_outer_handlers_are_left_alone():
    guide = bottom_up(lambda z: GRU(z[None])[0])
    guide_trace = poutine.trace(guide).get_trace()
    model_trace = poutine.trace(poutine.replay(model, guide_trace)).get_trace()
    with poutine.trace() as outer:
        recorded = len(outer.trace)
        state = torch.get_rng_state()
        with torch.no_grad():
            parents(model, guide, (), {}, traces=(model_trace, guide_trace))
            assert not torch.is_grad_enabled()
        assert torch.equal(state, torch.get_rng_state())
        assert len(outer.trace) == recorded
    assert all(p.grad is None for p in GRU.parameters())
    assert pyro.poutine.util.is_validation_enabled()
