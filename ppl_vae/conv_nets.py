"""The convolutional encoder and decoder: plain torch, no pyro."""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn.functional import interpolate

CHANNELS = 32
SMALLEST = 28


class Conv2d(nn.Conv2d):
    """A convolution that runs in channels-last order, whatever the order of its weight.

    With few channels that is several times faster on a CPU. The weight itself stays as it is:
    Pyro's param store keeps a copy of a tensor in any other order, so that its optimiser would
    train the copy.
    """

    def forward(self, input: Tensor) -> Tensor:  # noqa: A002
        """Return the convolution of (batch, channels, height, width)."""
        # A copy: with one channel any order counts as channels-last, and is not used as such.
        weight = self.weight.clone(memory_format=torch.channels_last)
        return self._conv_forward(input, weight, self.bias)


class ConvEncoder(nn.Module):
    """Image to loc and scale of a diagonal Normal, by three blocks of two convolutions.

    Kernels 3, 3 | 3, 3 | 2, 2 without padding, LeakyReLU after each, a max-pool of 2 after each
    block, channels 8, 16, 32; then one linear layer for loc and one for log-scale. A 28 x 28 image
    is one pixel of 32 channels at the end. A smaller one is enlarged to 28 first.

    Args:
        image_shape: (channels, height, width).
        latent_dim: length of loc and of scale.
    """

    def __init__(self, image_shape: tuple[int, ...], latent_dim: int) -> None:
        super().__init__()
        channels, *sides = image_shape
        self.image_shape = image_shape
        self.sides = tuple(max(side, SMALLEST) for side in sides)
        self.net = nn.Sequential(
            *_block(channels, 8, 3), *_block(8, 16, 3), *_block(16, CHANNELS, 2), nn.Flatten()
        )
        size = CHANNELS
        for side in self.sides:
            size *= (((side - 4) // 2 - 4) // 2 - 2) // 2
        self.loc = nn.Linear(size, latent_dim)
        self.log_scale = nn.Linear(size, latent_dim)

    def forward(self, x: Tensor) -> tuple[Tensor, Tensor]:
        """Return loc and scale, (batch, latent_dim), from (batch, pixels) or (batch, *shape)."""
        x = x.reshape(-1, *self.image_shape)
        if self.sides != self.image_shape[1:]:
            x = interpolate(x, self.sides, mode="bilinear", align_corners=False)
        features = self.net(x)
        return self.loc(features), self.log_scale(features).exp()


class ConvDecoder(nn.Module):
    """Code to one number per pixel, by six convolutions and three bilinear enlargements.

    The code is an image of one pixel (of more for images above 28) with `latent_dim` channels:
    convolution to 32 (kernel 1), twice as large, to 16 (3, padding 2), 16 (3, padding 2), twice as
    large, 8 (3, padding 2), 8 (3, padding 1), to the image's size (twice as large at 28), and to
    the image's channels (3, padding 1); LeakyReLU between.

    Args:
        latent_dim: length of the code.
        image_shape: (channels, height, width).
    """

    def __init__(self, latent_dim: int, image_shape: tuple[int, ...]) -> None:
        super().__init__()
        channels, *sides = image_shape
        self.image_shape = image_shape
        # From a side s the layers up to the last enlargement make 8 s + 20.
        self.start = tuple(max(1, -((20 - side) // 8)) for side in sides)
        size = latent_dim * self.start[0] * self.start[1]
        self.spread = nn.Identity() if size == latent_dim else nn.Linear(latent_dim, size)
        self.net = nn.Sequential(
            *_conv(latent_dim, CHANNELS, 1),
            _twice(),
            *_conv(CHANNELS, 16, 3, padding=2),
            *_conv(16, 16, 3, padding=2),
            _twice(),
            *_conv(16, 8, 3, padding=2),
            *_conv(8, 8, 3, padding=1),
            nn.Upsample(tuple(sides), mode="bilinear", align_corners=False),
            Conv2d(8, channels, 3, padding=1),
        )

    def forward(self, z: Tensor) -> Tensor:
        """Return (*batch, *image_shape) from (*batch, latent_dim)."""
        code = self.spread(z.reshape(-1, z.shape[-1])).unflatten(-1, (-1, *self.start))
        return self.net(code).reshape(*z.shape[:-1], *self.image_shape)


def _block(channels_in: int, channels: int, kernel: int) -> list[nn.Module]:
    first, second = _conv(channels_in, channels, kernel), _conv(channels, channels, kernel)
    return [*first, *second, nn.MaxPool2d(2)]


def _conv(channels_in: int, channels: int, kernel: int, padding: int = 0) -> list[nn.Module]:
    return [Conv2d(channels_in, channels, kernel, padding=padding), nn.LeakyReLU()]


def _twice() -> nn.Module:
    return nn.Upsample(scale_factor=2, mode="bilinear", align_corners=False)
