"""The classical VAE of binary images: MLP encoder, MLP decoder, Bernoulli pixels."""

from __future__ import annotations

from collections.abc import Sequence

import pyro.distributions as dist
from torch import Tensor

from ppl_vae import checks
from ppl_vae.nets import ACTIVATIONS, GaussianMLP, ImageDecoder
from ppl_vae.seeding import weights_from
from ppl_vae.vae import VAE


class BernoulliVAE(VAE):
    """A VAE with Bernoulli pixels (Kingma and Welling 2014, appendix C.1).

        z ~ Normal(0, I)    x | z ~ Bernoulli(logits = decode(z))    q(z | x) = Normal(encode(x))

    The encoder is an MLP pixels - hidden - (loc, log-variance), the decoder its mirror image.
    Pixels must be 0 or 1: a Bernoulli has no density at grey.

    Args:
        image_shape: (channels, height, width).
        latent_dim: length of the code.
        hidden: hidden sizes of the encoder; the decoder has them in reverse.
        activation: ``relu`` or ``tanh``.
        seed: of the initial weights; None continues torch's global stream, as any ``nn.Module``.

    Raises:
        TypeError: a size is not an int.
        ValueError: a size is below 1, or the activation unknown.

    Example:
        >>> import torch
        >>> pair = BernoulliVAE(image_shape=(1, 8, 8), latent_dim=2, hidden=(32,), seed=0)
        >>> pair.sample(3, seed=0).shape
        torch.Size([3, 1, 8, 8])
    """

    def __init__(
        self,
        image_shape: tuple[int, ...] = (1, 28, 28),
        latent_dim: int = 2,
        hidden: Sequence[int] = (256, 128),
        *,
        activation: str = "relu",
        seed: int | None = None,
    ) -> None:
        checks.name("activation", activation, ACTIVATIONS)
        hidden = [checks.count("every entry of hidden", size) for size in hidden]
        super().__init__(image_shape, latent_dim, hidden=hidden, activation=activation)
        shape, kind = self.image_shape, ACTIVATIONS[activation]
        with weights_from(seed):
            self.encoder = GaussianMLP(self.num_pixels, hidden, latent_dim, kind)
            self.decoder = ImageDecoder(latent_dim, hidden[::-1], shape, kind)

    def encode(self, x: Tensor) -> tuple[Tensor, Tensor]:
        """Return loc and scale of q(z | x), each (batch, latent_dim)."""
        return self.encoder(x.reshape(len(x), self.num_pixels))

    def decode(self, z: Tensor) -> Tensor:
        """Return the pixels' logits, (*batch, *image_shape)."""
        return self.decoder(z)

    def likelihood(self, z: Tensor) -> dist.TorchDistribution:
        """Return Bernoulli pixels: batch shape (*batch), event shape `image_shape`."""
        return dist.Bernoulli(logits=self.decode(z)).to_event(3)

    def check(self, x: Tensor) -> None:
        """Raise unless `x` holds images of this pair's size whose pixels are 0 or 1."""
        super().check(x)
        checks.binary("x", x)
