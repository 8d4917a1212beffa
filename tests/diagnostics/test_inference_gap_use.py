"""What inference_gap depends on, leaves alone, and says of a search cut short."""

import copy

import pyro
import torch
from gaps import NAMES, linear
from rich.console import Console
from torch import nn

from ppl_vae import BernoulliVAE, ImageData, inference_gap


def numbers(gap):
    return torch.stack([getattr(gap, n).mean for n in NAMES])


def test_the_seed_decides(network):
    options = {"num_evidence_samples": 50, "num_samples": 40, "num_starts": 2, "num_steps": 5}
    pair = BernoulliVAE((1, 3, 3), latent_dim=3, hidden=(6,), seed=1)
    x = pair.sample(4, seed=0)
    first, again, other = (inference_gap(pair, x, seed=s, **options) for s in (1, 1, 2))
    assert torch.equal(numbers(first), numbers(again))
    assert not torch.equal(numbers(first), numbers(other))
    generator = torch.Generator().manual_seed(3)
    drawn = inference_gap(pair, x, seed=generator, **options)
    assert not torch.equal(numbers(first), numbers(drawn))


def test_everything_is_left_as_found():
    pair, x = linear()
    pair.train()
    for parameter in pair.parameters():
        parameter.grad = torch.ones_like(parameter)
    before, state = copy.deepcopy(pair.state_dict()), torch.get_rng_state()
    data = x.clone()
    gap = inference_gap(pair, x, device="cpu")
    assert torch.equal(state, torch.get_rng_state())
    assert len(pyro.get_param_store()) == 0
    assert pair.training
    assert torch.equal(x, data)
    assert all(torch.equal(before[n], v) for n, v in pair.state_dict().items())
    assert all(torch.equal(p.grad, torch.ones_like(p)) for p in pair.parameters())
    assert not any(getattr(gap, n).mean.requires_grad for n in NAMES)


def test_float32():
    pair, x = linear(2)
    exact = inference_gap(pair, x, device="cpu")
    found = inference_gap(pair.float(), x.float(), device="cpu")
    for name in NAMES:
        assert getattr(found, name).mean.dtype == torch.float32
        assert getattr(found, name).standard_error.dtype == torch.float32
        error = (getattr(found, name).mean - getattr(exact, name).mean.float()).abs()
        assert float(error.max()) < 1e-4
    assert found.best.loc.dtype == found.gradient_norm.dtype == torch.float32


def test_examples_do_not_depend_on_each_other_but_by_noise():
    pair, x = linear(2)  # by a Gauss rule: without noise
    whole = inference_gap(pair, x, tolerance=1e-6, device="cpu")
    for number in range(len(x)):
        alone = inference_gap(pair, x[number : number + 1], tolerance=1e-6, device="cpu")
        assert len(alone) == 1
        torch.testing.assert_close(
            numbers(alone)[:, 0], numbers(whole)[:, number], rtol=0, atol=1e-9
        )


def test_a_small_memory_budget_changes_nothing():
    pair, x = linear(2)
    options = {"num_starts": 1, "num_steps": 4, "device": "cpu"}
    whole = inference_gap(pair, x, **options)
    little = inference_gap(pair, x, max_bytes=1e5, **options)
    torch.testing.assert_close(numbers(little), numbers(whole), rtol=0, atol=1e-9)


def test_dropout_is_off():
    pair, x = linear(2)
    expected = inference_gap(pair, x, device="cpu")
    pair.encoder = nn.Sequential(pair.encoder, nn.Dropout(0.5))
    pair.encoder.log_scale = pair.encoder[0].log_scale
    found = inference_gap(pair, x, device="cpu")
    torch.testing.assert_close(numbers(found), numbers(expected), rtol=0, atol=1e-9)


def test_image_data():
    pair = BernoulliVAE((1, 3, 3), latent_dim=2, hidden=(6,), seed=1)
    grey = ImageData(torch.randint(0, 256, (6, 1, 3, 3), dtype=torch.uint8))
    gap = inference_gap(pair, grey, method="iwae", num_evidence_samples=50, device="cpu")
    assert gap.total.mean.shape == (6,)


def test_a_search_that_was_cut_short_says_so():
    pair, x = linear(2)
    gap = inference_gap(pair, x, num_steps=1, device="cpu")
    assert not bool(gap.converged.any())
    assert bool((gap.gradient_norm > 0.03).all())
    console = Console(record=True, width=300)
    gap.print(console)
    assert "did not converge for 4 of 4 examples" in console.export_text()
    done = inference_gap(pair, x, device="cpu")
    assert bool(done.converged.all())
    assert bool((done.best_elbo.mean >= gap.best_elbo.mean).all())
