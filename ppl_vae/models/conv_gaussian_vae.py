"""The convolutional VAE of grey or colour images: Normal pixels, of unit or learned scale."""

from __future__ import annotations

import pyro.distributions as dist
import torch
from torch import Tensor, nn

from ppl_vae import checks
from ppl_vae.conv_nets import ConvDecoder, ConvEncoder
from ppl_vae.seeding import weights_from
from ppl_vae.vae import VAE


class ConvGaussianVAE(VAE):
    """A VAE with convolutional networks and Normal pixels.

        z ~ Normal(0, I)    x | z ~ Normal(decode(z), s)    q(z | x) = Normal(encode(x))

    The log-likelihood is summed over pixels with its normalising constant. Pixels are meant to be
    scaled to [-1, 1] (``load(..., binarize="none", pixel_range=(-1, 1))``). There s = 1 asks for
    little: half the whole range costs half a nat, so few details pay for the nats of their code
    (``experiments/conv_gaussian_vae.py``: a quarter of the nats that a learned s uses on MNIST).

    Args:
        latent_dim: length of the code.
        learn_scale: whether s is a parameter, one number for all pixels that starts at 1, or 1.
        image_shape: (channels, height, width), of any size.
        seed: of the initial weights; None continues torch's global stream, as any ``nn.Module``.

    Attributes:
        log_scale: log s, (); a parameter if it is learned, else a buffer.

    Raises:
        TypeError: a size is not an int, or `learn_scale` not a bool.
        ValueError: a size is below 1.

    Example:
        >>> pair = ConvGaussianVAE(latent_dim=4, seed=0)
        >>> pair.decode(torch.zeros(3, 4)).shape
        torch.Size([3, 1, 28, 28])
    """

    data_options = {"binarize": "none", "pixel_range": (-1.0, 1.0)}  # noqa: RUF012

    def __init__(
        self,
        latent_dim: int = 32,
        learn_scale: bool = False,  # noqa: FBT001, FBT002
        *,
        image_shape: tuple[int, ...] = (1, 28, 28),
        seed: int | None = None,
    ) -> None:
        if not isinstance(learn_scale, bool):
            raise checks.type_error(
                "learn_scale as True or False",
                f"{learn_scale!r}",
                "True makes the pixels' scale a parameter.",
            )
        super().__init__(image_shape, latent_dim, learn_scale=learn_scale)
        with weights_from(seed):
            self.encoder = ConvEncoder(self.image_shape, latent_dim)
            self.decoder = ConvDecoder(latent_dim, self.image_shape)
        if learn_scale:
            self.log_scale = nn.Parameter(torch.zeros(()))
        else:
            self.register_buffer("log_scale", torch.zeros(()))

    def encode(self, x: Tensor) -> tuple[Tensor, Tensor]:
        """Return loc and scale of q(z | x), each (batch, latent_dim)."""
        return self.encoder(x)

    def decode(self, z: Tensor) -> Tensor:
        """Return the pixels' means, (*batch, *image_shape)."""
        return self.decoder(z)

    def likelihood(self, z: Tensor) -> dist.TorchDistribution:
        """Return Normal pixels: batch shape (*batch), event shape `image_shape`."""
        return dist.Normal(self.decode(z), self.log_scale.exp()).to_event(3)
