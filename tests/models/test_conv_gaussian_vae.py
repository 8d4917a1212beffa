"""The convolutional VAE: its layers, its likelihood, and images of any size."""

import math

import pytest
import torch
from pyro import poutine
from torch import nn

from ppl_vae import ConvGaussianVAE


def shapes(net, x):
    """Return what every layer that changes the image's shape makes of it: (channels, side)."""
    found = []
    for layer in net:
        y = layer(x)
        if y.shape != x.shape and y.dim() == 4:
            found.append((type(layer).__name__, y.shape[1], y.shape[2]))
        x = y
    return found


def test_the_encoder_is_the_one_of_the_original():
    pair = ConvGaussianVAE(seed=0)
    assert shapes(pair.encoder.net, torch.zeros(2, 1, 28, 28)) == [
        ("Conv2d", 8, 26),
        ("Conv2d", 8, 24),
        ("MaxPool2d", 8, 12),
        ("Conv2d", 16, 10),
        ("Conv2d", 16, 8),
        ("MaxPool2d", 16, 4),
        ("Conv2d", 32, 3),
        ("Conv2d", 32, 2),
        ("MaxPool2d", 32, 1),
    ]
    assert sum(isinstance(layer, nn.LeakyReLU) for layer in pair.encoder.net) == 6
    assert pair.encoder.loc.weight.shape == pair.encoder.log_scale.weight.shape == (32, 32)


def test_the_decoder_is_the_one_of_the_original():
    pair = ConvGaussianVAE(seed=0)
    assert shapes(pair.decoder.net, torch.zeros(2, 32, 1, 1)) == [
        ("Upsample", 32, 2),
        ("Conv2d", 16, 4),
        ("Conv2d", 16, 6),
        ("Upsample", 16, 12),
        ("Conv2d", 8, 14),
        ("Upsample", 8, 28),
        ("Conv2d", 1, 28),
    ]
    kinds = [type(layer).__name__ for layer in pair.decoder.net]
    assert kinds.count("Conv2d") == 6
    assert kinds.count("LeakyReLU") == 5
    assert {layer.mode for layer in pair.decoder.net if isinstance(layer, nn.Upsample)} == {
        "bilinear"
    }


def test_a_convolution_is_torchs():
    pair = ConvGaussianVAE(seed=0)
    layer, x = pair.encoder.net[2], torch.randn(3, 8, 9, 9)
    expected = nn.functional.conv2d(x, layer.weight, layer.bias)
    torch.testing.assert_close(layer(x), expected, rtol=1e-12, atol=1e-12)


@pytest.mark.parametrize("learn_scale", [False, True])
def test_the_likelihood_is_summed_over_pixels_with_its_constant(learn_scale):
    pair = ConvGaussianVAE(4, learn_scale, seed=0)
    if learn_scale:
        with torch.no_grad():
            pair.log_scale.fill_(-0.7)
    x, z = pair.sample(3, seed=0), torch.randn(3, 4)
    trace = poutine.trace(poutine.condition(pair.model, {"z": z})).get_trace(x)
    trace.compute_log_prob()
    scale = math.exp(-0.7) if learn_scale else 1.0
    squares = ((x - pair.decode(z)) / scale).square().sum((1, 2, 3))
    expected = -0.5 * squares - 784 * (math.log(scale) + 0.5 * math.log(2 * math.pi))
    torch.testing.assert_close(trace.nodes["x"]["log_prob"], expected, rtol=1e-12, atol=0)
    assert ("log_scale" in dict(pair.named_parameters())) is learn_scale


@pytest.mark.parametrize("shape", [(1, 8, 8), (3, 32, 32), (1, 20, 45), (3, 64, 48), (2, 29, 28)])
def test_images_of_any_size_and_colour(shape):
    pair = ConvGaussianVAE(5, image_shape=shape, seed=0)
    x = pair.sample(2, seed=0)
    assert x.shape == (2, *shape)
    assert pair.encode(x)[0].shape == (2, 5)
    assert pair.decode(torch.zeros(3, 4, 5)).shape == (3, 4, *shape)
    assert pair.reconstruct(x).shape == x.shape


def test_colour_for_a_grey_pair_is_refused():
    with pytest.raises(ValueError, match=r"expected x of shape \(batch, 1, 28, 28\)"):
        ConvGaussianVAE(2, seed=0).model(torch.zeros(4, 3, 28, 28))


def test_bad_arguments_are_refused():
    with pytest.raises(ValueError, match="latent_dim"):
        ConvGaussianVAE(0)
    with pytest.raises(TypeError, match="learn_scale as True or False"):
        ConvGaussianVAE(2, "yes")
    with pytest.raises(ValueError, match="image_shape as"):
        ConvGaussianVAE(2, image_shape=(28, 28))
