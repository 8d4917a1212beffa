"""What every pair of images with one code per image has in common."""

from __future__ import annotations

from typing import Any

import pyro
import pyro.distributions as dist
import torch
from torch import Tensor

from ppl_vae import checks
from ppl_vae.image_pair import ImagePair
from ppl_vae.missing import observed

__all__ = ["VAE", "CodePair", "ImagePair"]


class CodePair(ImagePair):
    """A pair with one code per image: p(z) p(x | z) against q(z | x).

    A subclass writes ``prior``, ``posterior`` and ``code``, and ``decode`` or ``likelihood``.

    Args:
        image_shape: (channels, height, width); data are (batch, *image_shape), or flat
            (batch, pixels), and may have missing pixels: ``model(x, mask)``.
        latent_dim: length of the code, at least 1.
        **config: the subclass's further arguments.

    Raises:
        TypeError: `latent_dim`, or an entry of `image_shape`, is not an int.
        ValueError: one of them is below 1, or `image_shape` is not three numbers.
    """

    def __init__(
        self,
        image_shape: tuple[int, ...],
        latent_dim: int,
        **config: Any,  # noqa: ANN401
    ) -> None:
        checks.count("latent_dim", latent_dim)
        super().__init__(image_shape, latent_dim=latent_dim, **config)
        self.latent_dim = latent_dim

    def prior(self) -> dist.TorchDistribution:
        """Return p(z): event shape (latent_dim,)."""
        raise NotImplementedError(f"{type(self).__name__} does not define prior()")

    def posterior(self, x: Tensor, mask: Tensor | None = None) -> dist.TorchDistribution:
        """Return q(z | x): batch shape (batch,), event shape (latent_dim,)."""
        raise NotImplementedError(f"{type(self).__name__} does not define posterior(x)")

    def code(self, x: Tensor, mask: Tensor | None = None) -> Tensor:
        """Return the one code that stands for q(z | x), (batch, latent_dim)."""
        raise NotImplementedError(f"{type(self).__name__} does not define code(x)")

    def decode(self, z: Tensor) -> Tensor:
        """Return the likelihood's raw parameters from codes, (*batch, latent_dim).

        They are (*batch, *image_shape), with as many times the channels as the likelihood takes
        numbers per pixel.
        """
        raise NotImplementedError(f"{type(self).__name__} does not define decode(z)")

    def likelihood(self, z: Tensor) -> dist.TorchDistribution:
        """Return p(x | z): batch shape (*batch), event shape `image_shape`."""
        if self.observation is None:
            raise NotImplementedError(f"{type(self).__name__} does not define likelihood(z)")
        return self.observation(self.decode(z))

    def model(self, x: Tensor, mask: Tensor | None = None) -> Tensor:
        """Draw codes from the prior and score the images: p(x, z).

        Args:
            x: images, (batch, *image_shape) or (batch, pixels); what is missing does not matter.
            mask: of the same shape, True where a pixel was observed; None if all were.
        """
        self.begin(x, mask)
        with pyro.plate("data", len(x), dim=-1):
            z = pyro.sample("z", self.prior())
            if z.shape[-1] != self.latent_dim:  # of another guide
                raise checks.value_error(
                    f"codes of {self.latent_dim} numbers, the latent_dim of {type(self).__name__}",
                    f"{z.shape[-1]}",
                    "Let the guide draw as many, or build the pair with another latent_dim.",
                )
            return self.score(self.likelihood(z), x, mask)

    def guide(self, x: Tensor, mask: Tensor | None = None) -> Tensor:
        """Draw codes given the pixels that were observed: q(z | x)."""
        self.begin(x, mask)
        with pyro.plate("data", len(x), dim=-1):
            return pyro.sample("z", self.posterior(x, mask))

    @torch.no_grad()
    def reconstruct(self, x: Tensor, mask: Tensor | None = None) -> Tensor:
        """Return the mean of p(x | z) at the code that stands for each image.

        It is of shape (batch, *image_shape). Missing pixels are imputed by it.
        """
        self.check(x if mask is None else (x, mask))
        return self.likelihood(self.code(x, mask)).mean


class VAE(CodePair):
    """A pair with one code of real numbers per image.

        z_i ~ prior    x_i | z_i ~ likelihood(z_i)    q(z_i | x_i) = posterior(encode(x_i))

    By default the prior is Normal(0, I) and the posterior Normal(encode(x_i)). A subclass makes
    its networks and writes ``encode`` and ``decode``, and ``likelihood`` too if it names none to
    this class; model, guide, samples, reconstructions and the checks of data are here.

    Args:
        image_shape: (channels, height, width); data are (batch, *image_shape), or flat
            (batch, pixels), and may have missing pixels: ``model(x, mask)``.
        latent_dim: length of the code, at least 1.
        prior: one of `ppl_vae.models.priors`, such as ``MixturePrior(10)``; its name; or a
            mapping of ``name`` and options, ``{"name": "mixture", "components": 10}``.
        posterior: one of `ppl_vae.models.posteriors`, likewise.
        seed: of the initial parameters of prior and posterior; None continues torch's stream.
        **config: the subclass's further arguments.

    Attributes:
        prior_family: makes p(z); its parameters are the prior's.
        posterior_family: makes q(z | x) of what `encode` returns.

    Raises:
        ImportError: a flow of zuko's without the extra ``flows``.
        TypeError: `latent_dim`, or an entry of `image_shape`, is not an int, or prior or
            posterior is something else.
        ValueError: one of them is below 1, `image_shape` is not three numbers, or prior or
            posterior unknown.
    """

    def __init__(
        self,
        image_shape: tuple[int, ...],
        latent_dim: int,
        *,
        prior: Any = "standard-normal",  # noqa: ANN401
        posterior: Any = "diagonal-normal",  # noqa: ANN401
        seed: int | None = None,
        **config: Any,  # noqa: ANN401
    ) -> None:
        super().__init__(image_shape, latent_dim, **config)
        # Models are made from this module, so it cannot import them before.
        from ppl_vae.models.code import prior_and_posterior

        shape = self.image_shape
        families = prior_and_posterior(self, prior, posterior, data_shape=shape, seed=seed)
        self.prior_family, self.posterior_family = families

    def encode(self, x: Tensor, mask: Tensor | None = None) -> tuple[Tensor, Tensor]:
        """Return loc and scale of the guide, each (*batch, latent_dim), from (*batch, pixels).

        Missing pixels are 0; `mask` is given if the encoder sees it.
        """
        raise NotImplementedError(f"{type(self).__name__} does not define encode(x)")

    def prior(self) -> dist.TorchDistribution:
        """Return p(z): event shape (latent_dim,)."""
        return self.prior_family(self)

    def posterior(self, x: Tensor, mask: Tensor | None = None) -> dist.TorchDistribution:
        """Return q(z | x): batch shape (batch,), event shape (latent_dim,)."""
        return self.posterior_family(*self._encode(x, mask))

    def code(self, x: Tensor, mask: Tensor | None = None) -> Tensor:
        """Return the guide's mean, or of a flow what is drawn where its noise is 0."""
        return self.posterior_family.centre(*self._encode(x, mask))

    def _encode(self, x: Tensor, mask: Tensor | None) -> tuple[Tensor, Tensor]:
        # A subclass that does not see the mask need not take it.
        seen = observed(x, mask)
        return self.encode(seen, mask) if self.sees_mask else self.encode(seen)
