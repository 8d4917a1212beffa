"""The convolutional VAE of images: Normal pixels of unit or learned scale, or others."""

from __future__ import annotations

from typing import Any

import pyro.distributions as dist
import torch
from torch import Tensor, nn

from ppl_vae import checks
from ppl_vae.conv_nets import ConvDecoder, ConvEncoder
from ppl_vae.likelihoods import Observation, Spec
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
        likelihood: ``normal`` with the one scale s; or another name in
            `ppl_vae.likelihoods.LIKELIHOODS`, or a mapping of ``name`` and options, whose scale
            and further free parameters are learned, one per pixel.
        prior: of `ppl_vae.models.priors`, its name, or a mapping of ``name`` and options.
        posterior: of `ppl_vae.models.posteriors`, likewise.
        sees_mask: whether the encoder gets the mask of missing pixels beside the images.
        seed: of the initial weights; None continues torch's global stream, as any ``nn.Module``.

    Attributes:
        log_scale: log s, (); a parameter if it is learned, else a buffer. Other likelihoods have
            theirs in `observation`.

    Raises:
        TypeError: a size is not an int, or `learn_scale` not a bool.
        ValueError: a size is below 1, the likelihood unknown, or `learn_scale` with another
            likelihood than ``normal``.

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
        likelihood: Spec = "normal",
        prior: Any = "standard-normal",  # noqa: ANN401
        posterior: Any = "diagonal-normal",  # noqa: ANN401
        sees_mask: bool = False,
        seed: int | None = None,
    ) -> None:
        if not isinstance(learn_scale, bool):
            raise checks.type_error(
                "learn_scale as True or False",
                f"{learn_scale!r}",
                "True makes the pixels' scale a parameter.",
            )
        one_scale = likelihood == "normal"
        if learn_scale and not one_scale:
            raise checks.value_error(
                "learn_scale with the likelihood 'normal' only",
                f"likelihood={likelihood!r}",
                "Leave it out: the free parameters of other likelihoods are always learned.",
            )
        config: dict[str, Any] = {"learn_scale": learn_scale, "likelihood": likelihood}
        config |= {"prior": prior, "posterior": posterior, "seed": seed}
        super().__init__(image_shape, latent_dim, sees_mask=sees_mask, **config)
        given = ("log_scale",) if one_scale else ()
        self.observation = Observation(likelihood, self.image_shape, given=given)
        with weights_from(seed):
            channels, *sides = self.image_shape
            seen = (self.encoder_channels * channels, *sides)
            self.encoder = ConvEncoder(seen, latent_dim)
            self.decoder = ConvDecoder(latent_dim, self.observation.output_shape)
        if learn_scale:
            self.log_scale = nn.Parameter(torch.zeros(()))
        elif one_scale:
            self.register_buffer("log_scale", torch.zeros(()))

    def encode(self, x: Tensor, mask: Tensor | None = None) -> tuple[Tensor, Tensor]:
        """Return loc and scale of q(z | x), each (batch, latent_dim)."""
        return self.encoder(self.encoder_input(x, mask))

    def decode(self, z: Tensor) -> Tensor:
        """Return the pixels' means, (*batch, *image_shape), or what else the likelihood takes."""
        return self.decoder(z)

    def likelihood(self, z: Tensor) -> dist.TorchDistribution:
        """Return p(x | z): batch shape (*batch), event shape `image_shape`."""
        assert self.observation is not None
        given = {"log_scale": self.log_scale} if hasattr(self, "log_scale") else {}
        return self.observation(self.decode(z), **given)
