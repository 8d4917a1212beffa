"""Encoders and decoders: plain torch, no pyro."""

from __future__ import annotations

import math
from collections.abc import Sequence

import torch
from torch import Tensor, nn

ACTIVATIONS: dict[str, type[nn.Module]] = {"relu": nn.ReLU, "tanh": nn.Tanh}


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


class GaussianMLP(nn.Module):
    """A vector to loc and scale of a diagonal Normal, by an MLP whose last layer gives both.

    The second half of the output is the log-variance: ``scale = exp(log_variance / 2)``.

    Args:
        size_in: length of the vector; for an image, its number of pixels.
        hidden: hidden sizes.
        size_out: length of loc and of scale.
        activation: the nonlinearity's class.
    """

    def __init__(
        self,
        size_in: int,
        hidden: Sequence[int],
        size_out: int,
        activation: type[nn.Module] = nn.ReLU,
    ) -> None:
        super().__init__()
        self.net = MLP([size_in, *hidden, 2 * size_out], activation)

    def forward(self, x: Tensor) -> tuple[Tensor, Tensor]:
        """Return loc and scale, (*batch, size_out) each, from (*batch, size_in)."""
        loc, log_variance = self.net(x).chunk(2, dim=-1)
        return loc, (0.5 * log_variance).exp()


class ImageDecoder(nn.Module):
    """Code to one number per pixel, by an MLP.

    Args:
        latent_dim: length of the code.
        hidden: hidden sizes.
        image_shape: (channels, height, width).
        activation: the nonlinearity's class.
    """

    def __init__(
        self,
        latent_dim: int,
        hidden: Sequence[int],
        image_shape: tuple[int, ...],
        activation: type[nn.Module] = nn.ReLU,
    ) -> None:
        super().__init__()
        self.image_shape = image_shape
        self.net = MLP([latent_dim, *hidden, math.prod(image_shape)], activation)

    def forward(self, z: Tensor) -> Tensor:
        """Return (*batch, *image_shape) from (*batch, latent_dim)."""
        return self.net(z).unflatten(-1, self.image_shape)

    @torch.no_grad()
    def start_at(self, mean: Tensor) -> None:
        """Set the last layer's bias to the logit of a mean image, clipped to [0.001, 0.999].

        Args:
            mean: mean pixels in [0, 1], as many as an image has.

        Source:
            Burda, Grosse and Salakhutdinov 2015, their experiments' initialisation.
        """
        last = self.net[-1]
        assert isinstance(last, nn.Linear)
        last.bias.copy_(mean.reshape(-1).clamp(0.001, 0.999).logit())


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
