"""The classical VAE: MLP encoder, MLP decoder, Bernoulli pixels or another likelihood."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from torch import Tensor

from ppl_vae import checks
from ppl_vae.likelihoods import Spec
from ppl_vae.nets import ACTIVATIONS, GaussianMLP, ImageDecoder
from ppl_vae.seeding import weights_from
from ppl_vae.vae import VAE


class BernoulliVAE(VAE):
    """A VAE with Bernoulli pixels (Kingma and Welling 2014, appendix C.1).

        z ~ Normal(0, I)    x | z ~ Bernoulli(logits = decode(z))    q(z | x) = Normal(encode(x))

    The encoder is an MLP pixels - hidden - (loc, log-variance), the decoder its mirror image.
    Pixels must be 0 or 1: a Bernoulli has no density at grey. Another `likelihood` makes it a VAE
    of other data, with the same networks; the decoder then gives as many numbers per pixel as that
    likelihood takes.

    Args:
        image_shape: (channels, height, width).
        latent_dim: length of the code.
        hidden: hidden sizes of the encoder; the decoder has them in reverse.
        activation: ``relu`` or ``tanh``.
        likelihood: a name in `ppl_vae.likelihoods.LIKELIHOODS`, or a mapping of ``name`` and
            options, such as ``{"name": "categorical", "num_classes": 4}``.
        prior: of `ppl_vae.models.priors`, its name, or a mapping of ``name`` and options.
        posterior: of `ppl_vae.models.posteriors`, likewise.
        sees_mask: whether the encoder gets the mask of missing pixels beside the images.
        seed: of the initial weights; None continues torch's global stream, as any ``nn.Module``.

    Raises:
        TypeError: a size is not an int.
        ValueError: a size is below 1, or the activation or the likelihood unknown.

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
        likelihood: Spec = "bernoulli",
        prior: Any = "standard-normal",  # noqa: ANN401
        posterior: Any = "diagonal-normal",  # noqa: ANN401
        sees_mask: bool = False,
        seed: int | None = None,
    ) -> None:
        checks.name("activation", activation, ACTIVATIONS)
        hidden = checks.sizes("hidden", hidden)
        config: dict[str, Any] = {"hidden": hidden, "activation": activation}
        config |= {"likelihood": likelihood, "sees_mask": sees_mask}
        families: dict[str, Any] = {"prior": prior, "posterior": posterior}
        super().__init__(image_shape, latent_dim, seed=seed, **families, **config)
        kind = ACTIVATIONS[activation]
        shape = self.output_shape
        with weights_from(seed):
            inputs = self.encoder_channels * self.num_pixels
            self.encoder = GaussianMLP(inputs, hidden, latent_dim, kind)
            self.decoder = ImageDecoder(latent_dim, hidden[::-1], shape, kind)

    def encode(self, x: Tensor, mask: Tensor | None = None) -> tuple[Tensor, Tensor]:
        """Return loc and scale of q(z | x), each (batch, latent_dim)."""
        return self.encoder(self.encoder_input(x, mask))

    def decode(self, z: Tensor) -> Tensor:
        """Return the pixels' logits, (*batch, *image_shape), or what else the likelihood takes."""
        return self.decoder(z)
