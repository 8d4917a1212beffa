"""What every pair of images has in common."""

from __future__ import annotations

import math
from typing import Any, Self

import pyro
import torch
from torch import Tensor

from ppl_vae import checks
from ppl_vae.batch import BatchLike
from ppl_vae.likelihoods import LIKELIHOODS, Observation, Spec
from ppl_vae.missing import observed, scored
from ppl_vae.pair import Pair


class ImagePair(Pair):
    """A pair whose data are images of one size: what their VAEs have in common.

    Args:
        image_shape: (channels, height, width); data are (batch, *image_shape), or flat
            (batch, pixels).
        likelihood: a name in `ppl_vae.likelihoods.LIKELIHOODS`, or a mapping of ``name`` and
            options; None where the subclass scores its data itself.
        sees_mask: whether the encoder gets the mask of missing pixels beside the images, so that
            it can tell a missing pixel from a 0.
        **config: the subclass's further arguments.

    Attributes:
        image_shape: as given.
        num_pixels: channels x height x width.
        observation: makes p(x | z) of a decoder's output; None without `likelihood`.

    Raises:
        TypeError: an entry of `image_shape` is not an int.
        ValueError: one of them is below 1, `image_shape` is not three numbers, or the likelihood
            is unknown.
    """

    uses_images = True

    def __init__(
        self,
        image_shape: tuple[int, ...],
        *,
        likelihood: Spec | None = None,
        sees_mask: bool = False,
        **config: Any,  # noqa: ANN401
    ) -> None:
        image_shape = tuple(checks.sizes("image_shape", image_shape))
        if len(image_shape) != 3:
            raise checks.value_error(
                "image_shape as (channels, height, width)",
                f"{image_shape}",
                "A grey 28 x 28 image has the shape (1, 28, 28).",
            )
        if likelihood is not None:
            config["likelihood"] = likelihood
        remedy = "True gives the encoder the mask beside the images."
        if checks.instance("sees_mask", sees_mask, bool, "True or False", remedy):
            config["sees_mask"] = True
        super().__init__(image_shape=list(image_shape), **config)
        self.image_shape = image_shape
        self.num_pixels = math.prod(image_shape)
        self.sees_mask = sees_mask
        known = None if likelihood is None else Observation(likelihood, image_shape)
        self.observation: Observation | None = known

    @property
    def output_shape(self) -> tuple[int, ...]:
        """Of what a decoder gives for `observation`; ValueError without a likelihood."""
        if self.observation is None:
            known = ", ".join(LIKELIHOODS)
            raise checks.value_error("a likelihood", "None", f"Choose one of {known}.")
        return self.observation.output_shape

    @classmethod
    def suited_to(
        cls,
        image_shape: tuple[int, ...] | None,
        *,
        seed: int,
        **options: Any,  # noqa: ANN401
    ) -> Self:
        """Return an instance with default settings for images of `image_shape`."""
        return cls(**{"image_shape": image_shape or (1, 28, 28), "seed": seed, **options})

    def check(self, x: BatchLike) -> None:
        """Raise unless `x` holds images of this pair's size and dtype, and what else it takes."""
        given = self.arguments(x)
        images = observed(given["x"], given.pop("mask", None))
        super().check({**given, "x": images} if len(given) > 1 else images)
        self._check_images(images)

    def _check_images(self, x: Tensor) -> None:
        pixels = self.num_pixels
        if x.shape[1:] not in (self.image_shape, (pixels,)):
            raise checks.value_error(
                f"x of shape (batch, {', '.join(map(str, self.image_shape))}) "
                f"or (batch, {pixels})",
                f"shape {tuple(x.shape)}",
                "Resize the images, or build the pair with their image_shape.",
            )
        self.check_dtype(x)
        if self.observation is not None:
            self.observation.check(x)

    def encoder_input(self, x: Tensor, mask: Tensor | None = None) -> Tensor:
        """Return images as an encoder takes them: flat, on a scale that suits a network.

        Args:
            x: images, (batch, *image_shape) or (batch, pixels).
            mask: True where a pixel was observed, of the shape of `x`; None if all were.

        Returns:
            (batch, pixels): log(1 + x) of counts, labels divided by the largest, else x; 0 where
            a pixel is missing. With `sees_mask` the mask follows, (batch, 2 * pixels).
        """
        flat = observed(x, mask).reshape(x.shape[0], self.num_pixels)
        seen = flat if self.observation is None else self.observation.encoder_input(flat)
        if not self.sees_mask:
            return seen
        shown = torch.ones_like(seen) if mask is None else mask.reshape(seen.shape).to(seen)
        return torch.cat([seen, shown], -1)

    @property
    def encoder_channels(self) -> int:
        """How many numbers per pixel `encoder_input` has."""
        return 2 if self.sees_mask else 1

    def score(self, likelihood: Any, x: Tensor, mask: Tensor | None) -> Tensor:  # noqa: ANN401
        """Score images, those pixels that were observed, at the site ``x``."""
        images = observed(x, mask).reshape(-1, *self.image_shape)
        shown = None if mask is None else mask.reshape(images.shape)
        return pyro.sample("x", scored(likelihood, shown), obs=images)

    def blank(self, n: int) -> Tensor:
        """Return `n` images of zeros."""
        return torch.zeros(n, *self.image_shape, dtype=self.dtype, device=self.device)
