"""Bytes to floats: exact probabilities, ranges, and a function that can be traced."""

import pytest
import torch
from torch.fx.experimental.proxy_tensor import make_fx

from ppl_vae import ImageData, seeded
from ppl_vae.data import binarize
from ppl_vae.data.pixels import BINARIZE, draw, is_one, pixels

EVERY = torch.arange(256, dtype=torch.uint8)
COUNT = 50_000


def test_a_byte_is_one_with_probability_byte_over_255_exactly():
    counts = draw(EVERY.expand(COUNT, 256)).sum(0).double()
    p = EVERY.double() / 255
    error = (COUNT * p * (1 - p)).sqrt()
    assert counts[0] == 0
    assert counts[255] == COUNT
    assert bool(((counts - COUNT * p).abs() <= 4.5 * error).all())
    # Together they tell byte / 255 from byte / 256, for which the sum is half a draw less.
    excess = (counts - COUNT * p).sum() / error.square().sum().sqrt()
    assert abs(excess) <= 4.5
    assert 0.5 * COUNT / error.square().sum().sqrt() > 9


def test_of_all_bytes_that_can_be_drawn_the_right_share_makes_a_one():
    x = EVERY[:, None]
    a, b = (EVERY.repeat_interleave(256), EVERY.repeat(256))
    c = torch.tensor(0, dtype=torch.uint8)
    last = (a == 255) & (b == 255)
    ones = is_one(x, a, b, c)[:, ~last].sum(1)
    ones_last = is_one(x, EVERY[-1:], EVERY[-1:], EVERY[:255]).sum(1)
    # Each of 65,536 pairs (a, b) goes with 255 values of c, which matters for the last pair only.
    assert torch.equal(255 * ones + ones_last, 65_536 * torch.arange(256))


def test_pixels_of_one_image_are_drawn_independently():
    x = pixels(torch.full((COUNT, 2), 128, dtype=torch.uint8), "dynamic").double()
    p = 128 / 255
    both = x.prod(-1).mean()
    assert abs(both - p**2) <= 4.5 * (p**2 * (1 - p**2) / COUNT) ** 0.5


@pytest.mark.parametrize("how", BINARIZE)
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_every_way_is_mapped_to_the_range(how, dtype):
    torch.manual_seed(1)
    plain = pixels(EVERY, how, dtype=dtype)
    torch.manual_seed(1)
    mapped = pixels(EVERY, how, dtype=dtype, pixel_range=(-1.0, 1.0))
    assert mapped.dtype is dtype
    assert torch.equal(mapped, 2 * plain - 1)
    assert (mapped[0], mapped[255]) == (-1, 1)


def test_the_traced_function_draws_afresh_and_reads_nothing():
    data = ImageData(EVERY.reshape(1, 1, 16, 16).expand(50, -1, -1, -1), binarize="dynamic")
    graph = make_fx(lambda index: data.batch(index, dtype=torch.float64))(torch.arange(20))
    assert not [n for n in graph.graph.nodes if "local_scalar" in str(n.target)]
    index = torch.arange(20, 40)
    first, second = graph(index), graph(index)
    assert not torch.equal(first, second)
    with seeded(4):
        traced = graph(index)
    with seeded(4):
        assert torch.equal(traced, data.batch(index, dtype=torch.float64))


def test_binarize_draws_thresholds_or_scales():
    drawn = binarize(EVERY, "dynamic", seed=2)
    assert torch.equal(drawn, binarize(EVERY, "static", seed=2))
    assert torch.equal(drawn, binarize(EVERY, seed=2))
    assert binarize(EVERY, "threshold").tolist() == [0.0] * 128 + [1.0] * 128
    assert torch.equal(binarize(EVERY, "none"), EVERY / 255)
    state = torch.get_rng_state()
    binarize(EVERY, seed=None)
    assert torch.equal(state, torch.get_rng_state())


def test_binarize_refuses_what_it_cannot_use():
    with pytest.raises(TypeError, match=r"tensor of bytes \(torch.uint8\); got dtype torch.float"):
        binarize(EVERY.double())
    with pytest.raises(TypeError, match="seed as an int"):
        binarize(EVERY, seed="1")
    with pytest.raises(ValueError, match="Did you mean 'dynamic'"):
        binarize(EVERY, "dynamics")
