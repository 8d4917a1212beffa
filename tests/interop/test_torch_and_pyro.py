"""What takes a module, or a model and a guide: torch.export and Pyro's Predictive."""

import inspect

import pytest
import torch
from cases import BATCHES, CASES
from pyro.infer import Predictive
from pyro.poutine import uncondition
from torch import nn
from torch.export import Dim, export, load, save

from ppl_vae import LinearGaussian

PAIRS = {
    name: CASES[name]
    for name in (
        "linear-gaussian",
        "bernoulli-vae",
        "conv-gaussian-vae",
        "hierarchical-vae, top-down",
        "binary-latent-vae",
        "bernoulli-vae, categorical",
        "bernoulli-vae, iaf posterior",
    )
}
PAIRS |= {name: BATCHES[name][0] for name in ("conditional-vae", "count-vae")}


class Call(nn.Module):
    def __init__(self, pair, name):
        super().__init__()
        self.pair, self.name = pair, name

    def forward(self, *args):
        return getattr(self.pair, self.name)(*args)


def arguments(pair, name, n):
    """Some, of the arguments that a method cannot do without, and of labels and batches."""
    y = torch.arange(n) % 2
    given = {"library": torch.linspace(20.0, 40.0, n)} if hasattr(pair, "shares") else {}
    given |= {"y": y} if "y" in inspect.signature(pair.model).parameters else {}
    given |= {"batch": y} if "batch" in inspect.signature(pair.model).parameters else {}
    x, z = pair.sample(n, seed=n, **given), torch.randn(n, pair.latent_dim)
    known = {"x": x, "z": z, **given}
    return tuple(known[a] for a in inspect.signature(getattr(pair, name)).parameters if a in known)


# Of a scalar parameter, by torch's own tracing.
@pytest.mark.filterwarnings("ignore:Converting a tensor with requires_grad=True to a scalar")
@pytest.mark.parametrize("name", PAIRS)
def test_what_is_exported_gives_the_pairs_numbers_at_every_batch_size(name, tmp_path):
    pair = PAIRS[name]().eval()
    for method in ("encode", "decode"):
        if not hasattr(pair, method):
            continue
        given = arguments(pair, method, 5)
        shapes = (tuple({0: Dim.DYNAMIC} for _ in given),)
        save(export(Call(pair, method), given, dynamic_shapes=shapes), tmp_path / "call.pt2")
        exported = load(tmp_path / "call.pt2").module()
        for n in (1, 2, 9):
            given = arguments(pair, method, n)
            found, expected = exported(*given), getattr(pair, method)(*given)
            torch.testing.assert_close(found, expected, rtol=1e-14, atol=1e-14)


@pytest.mark.parametrize("parallel", [False, True])
def test_predictive_draws_the_replicates(parallel):
    """They are Normal: the mean of x given z, over z of the guide, is affine in z."""
    pair = LinearGaussian(4, 2, noise_scale=0.7, seed=1)
    x = pair.sample(3, seed=0)
    count = 4000 if parallel else 1000
    options = {"num_samples": count, "parallel": parallel}
    found = Predictive(uncondition(pair.model), guide=pair.guide, **options)(x)
    loc, scale = pair.encode(x)
    weight, noise = pair.decoder.weight, pair.decoder.log_scale.exp()
    variance = (scale.unsqueeze(-2) ** 2 * weight**2).sum(-1) + noise**2
    for draws, mean, spread in (
        (found["z"], loc, scale**2),
        (found["x"], pair.decode(loc), variance),
    ):
        assert draws.shape == (count, *mean.shape)
        assert bool(((draws.mean(0) - mean).abs() < 4.5 * (spread / count).sqrt()).all())
        error = spread * (2 / count) ** 0.5
        assert bool(((draws.var(0) - spread).abs() < 4.5 * error).all())


def test_predictive_draws_of_the_prior_and_leaves_data_that_are_observed():
    pair = LinearGaussian(4, 2, noise_scale=0.7, seed=1)
    x = pair.sample(3, seed=0)
    options = {"num_samples": 4000, "parallel": True}
    new = Predictive(uncondition(pair.model), **options)(pair.blank(3))["x"]
    weight, noise = pair.decoder.weight, pair.decoder.log_scale.exp()
    variance = weight.square().sum(-1) + noise**2
    assert bool(((new.mean(0) - pair.decoder.loc).abs() < 4.5 * (variance / 4000).sqrt()).all())
    assert bool(((new.var(0) - variance).abs() < 4.5 * variance * (2 / 4000) ** 0.5).all())
    seen = Predictive(pair.model, guide=pair.guide, return_sites=("x",), **options)(x)["x"]
    assert torch.equal(seen, x.expand_as(seen))
