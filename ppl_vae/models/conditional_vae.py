"""The VAE of images given their class: the label is an input of both networks."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import pyro
import pyro.distributions as dist
import torch
from torch import Tensor

from ppl_vae import checks
from ppl_vae.batch import BatchLike
from ppl_vae.image_pair import ImagePair
from ppl_vae.likelihoods import Spec
from ppl_vae.missing import observed
from ppl_vae.models.code import prior_and_posterior
from ppl_vae.models.labels import beside, check_labels, one_hot
from ppl_vae.nets import GaussianMLP, ImageDecoder
from ppl_vae.seeding import weights_from


class ConditionalVAE(ImagePair):
    """A VAE of images given their class (Kingma and others 2014; Sohn, Lee and Yan 2015).

        z ~ Normal(0, I)    x | y, z ~ likelihood(z, y)    q(z | x, y) = Normal(encode(x, y))

    Its ELBO is a bound of log p(x | y). Both networks are MLPs that take the label as a one-hot
    row beside their input.

    Args:
        image_shape: (channels, height, width).
        num_classes: labels are whole numbers from 0 to ``num_classes - 1``.
        latent_dim: length of the code.
        hidden: hidden sizes of the encoder; the decoder has them in reverse.
        likelihood: a name in `ppl_vae.likelihoods.LIKELIHOODS`, or a mapping of ``name`` and
            options.
        prior: of `ppl_vae.models.priors`, its name, or a mapping of ``name`` and options; but
            for `VampPrior`, as the encoder takes labels.
        posterior: of `ppl_vae.models.posteriors`, likewise.
        sees_mask: whether the encoder gets the mask of missing pixels beside the images.
        seed: of the initial weights; None continues torch's global stream, as any ``nn.Module``.

    Raises:
        TypeError: a size is not an int.
        ValueError: a size is below 1, or the likelihood unknown.

    Example:
        >>> pair = ConditionalVAE((1, 8, 8), num_classes=3, latent_dim=2, hidden=(16,), seed=0)
        >>> pair.sample(4, y=torch.tensor([0, 1, 2, 0]), seed=0).shape
        torch.Size([4, 1, 8, 8])
    """

    data_options = {"labels": True}  # noqa: RUF012

    def __init__(
        self,
        image_shape: tuple[int, ...] = (1, 28, 28),
        num_classes: int = 10,
        latent_dim: int = 2,
        hidden: Sequence[int] = (256, 128),
        *,
        likelihood: Spec = "bernoulli",
        prior: Any = "standard-normal",  # noqa: ANN401
        posterior: Any = "diagonal-normal",  # noqa: ANN401
        sees_mask: bool = False,
        seed: int | None = None,
    ) -> None:
        checks.count("num_classes", num_classes)
        checks.count("latent_dim", latent_dim)
        hidden = checks.sizes("hidden", hidden)
        super().__init__(
            image_shape,
            num_classes=num_classes,
            latent_dim=latent_dim,
            hidden=hidden,
            likelihood=likelihood,
            sees_mask=sees_mask,
        )
        self.num_classes, self.latent_dim = num_classes, latent_dim
        families = prior_and_posterior(self, prior, posterior, data_shape=None, seed=seed)
        self.prior_family, self.posterior_family = families
        inputs = self.encoder_channels * self.num_pixels + num_classes
        shape = self.output_shape
        with weights_from(seed):
            self.encoder = GaussianMLP(inputs, hidden, latent_dim)
            self.decoder = ImageDecoder(latent_dim + num_classes, hidden[::-1], shape)

    def encode(self, x: Tensor, y: Tensor, mask: Tensor | None = None) -> tuple[Tensor, Tensor]:
        """Return loc and scale of q(z | x, y), each (batch, latent_dim)."""
        seen = self.encoder_input(x, mask)
        return self.encoder(beside(seen, one_hot(y, self.num_classes, seen)))

    def decode(self, z: Tensor, y: Tensor) -> Tensor:
        """Return the likelihood's raw parameters from codes and labels, (*batch, ...)."""
        return self.decoder(beside(z, one_hot(y, self.num_classes, z)))

    def likelihood(self, z: Tensor, y: Tensor) -> dist.TorchDistribution:
        """Return p(x | z, y): batch shape (*batch), event shape `image_shape`."""
        assert self.observation is not None
        return self.observation(self.decode(z, y))

    def model(self, x: Tensor, y: Tensor, mask: Tensor | None = None) -> Tensor:
        """Draw codes from the prior and score the images given their labels: p(x, z | y).

        Args:
            x: images, (batch, *image_shape) or (batch, pixels).
            y: labels, (batch,), whole numbers.
            mask: of the shape of `x`, True where a pixel was observed; None if all were.
        """
        self.begin(x, y, mask)
        with pyro.plate("data", len(x), dim=-1):
            z = pyro.sample("z", self.prior_family(self))
            return self.score(self.likelihood(z, y), x, mask)

    def guide(self, x: Tensor, y: Tensor, mask: Tensor | None = None) -> Tensor:
        """Draw codes given the images and their labels: q(z | x, y)."""
        self.begin(x, y, mask)
        with pyro.plate("data", len(x), dim=-1):
            encoded = self.encode(observed(x, mask), y, mask)
            return pyro.sample("z", self.posterior_family(*encoded))

    @torch.no_grad()
    def reconstruct(self, x: Tensor, y: Tensor, mask: Tensor | None = None) -> Tensor:
        """Return the mean of p(x | z, y) at the middle of the guide, (batch, *image_shape)."""
        self.check((x, y) if mask is None else (x, y, mask))
        code = self.posterior_family.centre(*self.encode(observed(x, mask), y, mask))
        return self.likelihood(code, y).mean

    def check(self, x: BatchLike) -> None:
        """Raise unless `x` holds images and labels that this pair takes."""
        super().check(x)
        check_labels("y", self.arguments(x)["y"], self.num_classes)

    def blank(self, n: int) -> tuple[Tensor, Tensor]:
        """Return `n` images of zeros, and the classes in turn."""
        images = torch.zeros(n, *self.image_shape, dtype=self.dtype, device=self.device)
        return images, torch.arange(n, device=self.device) % self.num_classes
