"""Encoders and decoders: plain torch, no pyro."""

from __future__ import annotations

import math
from collections.abc import Sequence

import torch
from torch import Tensor, nn


class MLP(nn.Sequential):
    """Linear layers with a nonlinearity between them.

    Args:
        sizes: input size, hidden sizes, output size.
        activation: the nonlinearity's class; none follows the last layer.

    Example:
        >>> MLP([784, 256, 10])(torch.zeros(5, 784)).shape
        torch.Size([5, 10])
    """

    def __init__(self, sizes: Sequence[int], activation: type[nn.Module] = nn.ReLU) -> None:
        layers: list[nn.Module] = []
        for size_in, size_out in zip(sizes[:-1], sizes[1:], strict=True):
            layers += [nn.Linear(size_in, size_out), activation()]
        super().__init__(*layers[:-1])


class GaussianEncoder(nn.Module):
    """Image to loc and scale of a diagonal Normal, by an MLP whose last layer gives both.

    The second half of the output is the log-variance: ``scale = exp(log_variance / 2)``.

    Args:
        num_pixels: size of a flat image.
        hidden: hidden sizes.
        latent_dim: length of loc and of scale.
    """

    def __init__(self, num_pixels: int, hidden: Sequence[int], latent_dim: int) -> None:
        super().__init__()
        self.num_pixels = num_pixels
        self.net = MLP([num_pixels, *hidden, 2 * latent_dim])

    def forward(self, x: Tensor) -> tuple[Tensor, Tensor]:
        """Return loc and scale, (batch, latent_dim), from (batch, pixels) or (batch, *shape)."""
        loc, log_variance = self.net(x.reshape(len(x), self.num_pixels)).chunk(2, dim=-1)
        return loc, (0.5 * log_variance).exp()


class ImageDecoder(nn.Module):
    """Code to one number per pixel, by an MLP.

    Args:
        latent_dim: length of the code.
        hidden: hidden sizes.
        image_shape: (channels, height, width).
    """

    def __init__(
        self, latent_dim: int, hidden: Sequence[int], image_shape: tuple[int, ...]
    ) -> None:
        super().__init__()
        self.image_shape = image_shape
        self.net = MLP([latent_dim, *hidden, math.prod(image_shape)])

    def forward(self, z: Tensor) -> Tensor:
        """Return (*batch, *image_shape) from (*batch, latent_dim)."""
        return self.net(z).unflatten(-1, self.image_shape)


class DeepSet(nn.Module):
    """A set of numbers to one number, whatever their order and count.

    Each number passes through the same network; the features' mean and the logarithm of the
    count pass through a second one (Zaheer and others, Deep Sets, 2017, theorem 2).

    Args:
        hidden: width of both networks.

    Example:
        >>> net = DeepSet()
        >>> x = torch.randn(3, 5)
        >>> bool(torch.allclose(net(x), net(x.flip(-1))))
        True
    """

    def __init__(self, hidden: int = 32) -> None:
        super().__init__()
        self.each = MLP([1, hidden, hidden], nn.Softplus)
        self.pooled = MLP([hidden + 1, hidden, 1], nn.Softplus)

    def forward(self, x: Tensor) -> Tensor:
        """Return (*batch) from (*batch, n)."""
        mean = self.each(x.unsqueeze(-1)).mean(-2)
        log_count = torch.full_like(mean[..., :1], math.log(x.shape[-1]))
        return self.pooled(torch.cat([mean, log_count], dim=-1)).squeeze(-1)
