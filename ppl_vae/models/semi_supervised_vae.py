"""The semi-supervised VAE: a class and a code per image, the class known for some."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import pyro
import pyro.distributions as dist
import torch
import torch.nn.functional as F
from torch import Tensor

from ppl_vae import checks
from ppl_vae.batch import BatchLike
from ppl_vae.image_pair import ImagePair
from ppl_vae.likelihoods import Spec
from ppl_vae.missing import observed
from ppl_vae.models.conditional_vae import ConditionalVAE
from ppl_vae.models.labels import check_labels, one_hot
from ppl_vae.nets import MLP
from ppl_vae.seeding import weights_from

# In place of log 0 for the classes that a label rules out, so that 0 * log 0 is 0.
NEVER = -1e4


class SemiSupervisedVAE(ConditionalVAE):
    """M2 of Kingma, Rezende, Mohamed and Welling (2014): images with and without labels.

        y ~ Categorical(1 / K)    z ~ Normal(0, I)    x | y, z ~ likelihood(z, y)
        q(y | x) = Categorical(classify(x))           q(z | x, y) = Normal(encode(x, y))

    ``model(x)`` has the label as a latent, and its ELBO is a bound of log p(x); the estimator
    ``enumerate``, which `fit` takes for it, sums the label out exactly. ``model(x, y)`` observes
    it: a bound of log p(x, y). ``model(x, y, labelled)`` has images of both kinds: where
    `labelled` is False the entry of `y` does not matter.

    The classifier learns from labels by `auxiliary_loss` alone, ``alpha`` times its cross-entropy,
    which `fit` adds to the loss. It is no part of the ELBO, and is reported apart.

    Args:
        image_shape: (channels, height, width).
        num_classes: labels are whole numbers from 0 to ``num_classes - 1``.
        latent_dim: length of the code.
        hidden: hidden sizes of classifier and encoder; the decoder has them in reverse.
        alpha: weight of the classifier's cross-entropy, per labelled example; Kingma's is 0.1
            times all examples over labelled ones.
        likelihood: a name in `ppl_vae.likelihoods.LIKELIHOODS`, or a mapping of ``name`` and
            options.
        prior: of `ppl_vae.models.priors`, its name, or a mapping of ``name`` and options; but
            for `VampPrior`, as the encoder takes labels.
        posterior: of `ppl_vae.models.posteriors`, likewise.
        sees_mask: whether classifier and encoder get the mask of missing pixels.
        seed: of the initial weights; None continues torch's global stream, as any ``nn.Module``.

    Raises:
        TypeError: a size is not an int, or `alpha` not a number.
        ValueError: a size is below 1, `alpha` below 0, or the likelihood unknown.

    Example:
        >>> pair = SemiSupervisedVAE((1, 8, 8), num_classes=3, latent_dim=2, hidden=(16,), seed=0)
        >>> x = pair.sample(4, seed=0)
        >>> pair.classify(x).shape
        torch.Size([4, 3])
    """

    def __init__(
        self,
        image_shape: tuple[int, ...] = (1, 28, 28),
        num_classes: int = 10,
        latent_dim: int = 50,
        hidden: Sequence[int] = (500,),
        *,
        alpha: float = 1.0,
        likelihood: Spec = "bernoulli",
        prior: Any = "standard-normal",  # noqa: ANN401
        posterior: Any = "diagonal-normal",  # noqa: ANN401
        sees_mask: bool = False,
        seed: int | None = None,
    ) -> None:
        if not (isinstance(alpha, (int, float)) and alpha == 0):
            checks.positive_number("alpha", alpha)
        super().__init__(
            image_shape,
            num_classes,
            latent_dim,
            hidden,
            likelihood=likelihood,
            prior=prior,
            posterior=posterior,
            sees_mask=sees_mask,
            seed=seed,
        )
        self.config["alpha"] = self.alpha = alpha
        with weights_from(None if seed is None else seed + 1):
            inputs = self.encoder_channels * self.num_pixels
            self.classifier = MLP([inputs, *self.config["hidden"], num_classes])

    def classify(self, x: Tensor, mask: Tensor | None = None) -> Tensor:
        """Return q(y | x), (batch, num_classes)."""
        return self._logits(x, mask).softmax(-1)

    def _logits(self, x: Tensor, mask: Tensor | None) -> Tensor:
        return self.classifier(self.encoder_input(x, mask))

    def model(
        self,
        x: Tensor,
        y: Tensor | None = None,
        labelled: Tensor | None = None,
        mask: Tensor | None = None,
    ) -> Tensor:
        """Draw labels and codes from the prior and score the images: p(x, y, z).

        Args:
            x: images, (batch, *image_shape) or (batch, pixels).
            y: labels, (batch,), whole numbers; None if none is known.
            labelled: True where the label is known, (batch,); None if all of `y` are.
            mask: of the shape of `x`, True where a pixel was observed; None if all were.
        """
        self.begin(x, y, labelled, mask)
        with pyro.plate("data", len(x), dim=-1):
            uniform = dist.Categorical(logits=x.new_zeros(self.num_classes))
            label = pyro.sample("y", uniform, obs=y if labelled is None else None)
            z = pyro.sample("z", self.prior_family(self))
            return self.score(self.likelihood(z, label), x, mask)

    def guide(
        self,
        x: Tensor,
        y: Tensor | None = None,
        labelled: Tensor | None = None,
        mask: Tensor | None = None,
    ) -> Tensor:
        """Draw labels that are not known, and codes: q(y | x) q(z | x, y)."""
        self.begin(x, y, labelled, mask)
        seen = observed(x, mask)
        with pyro.plate("data", len(x), dim=-1):
            label = y
            if y is None or labelled is not None:
                logits = self._logits(x, mask)
                if y is not None and labelled is not None:
                    known = NEVER * (1 - one_hot(y, self.num_classes, logits))
                    logits = torch.where(labelled.unsqueeze(-1), known, logits)
                label = pyro.sample("y", dist.Categorical(logits=logits))
            assert label is not None
            return pyro.sample("z", self.posterior_family(*self.encode(seen, label, mask)))

    def auxiliary_loss(
        self,
        x: Tensor,
        y: Tensor | None = None,
        labelled: Tensor | None = None,
        mask: Tensor | None = None,
    ) -> Tensor | None:
        """Return alpha times the classifier's cross-entropy, in nats, summed over the labels."""
        if y is None or not self.alpha:
            return None
        known = torch.ones_like(y, dtype=torch.bool) if labelled is None else labelled
        labels = torch.where(known, y, 0).long()
        each = F.cross_entropy(self._logits(x, mask), labels, reduction="none")
        return self.alpha * torch.where(known, each, 0).sum()

    @torch.no_grad()
    def reconstruct(
        self,
        x: Tensor,
        y: Tensor | None = None,
        labelled: Tensor | None = None,
        mask: Tensor | None = None,
    ) -> Tensor:
        """Return the mean of p(x | z, y) at the guide's middle and likeliest label."""
        label = self._logits(x, mask).argmax(-1)
        if y is not None:
            label = y if labelled is None else torch.where(labelled, y, label)
        code = self.posterior_family.centre(*self.encode(observed(x, mask), label, mask))
        return self.likelihood(code, label).mean

    def check(self, x: BatchLike) -> None:
        """Raise unless `x` holds images, and labels that this pair takes."""
        ImagePair.check(self, x)
        given = self.arguments(x)
        labelled = given.get("labelled")
        if labelled is not None:
            if labelled.dtype != torch.bool or labelled.shape != given["x"].shape[:1]:
                raise checks.value_error(
                    "labelled as booleans, (batch,), with y",
                    f"{labelled.dtype}, shape {tuple(labelled.shape)}",
                    "Pass labelled.bool().",
                )
            if "y" not in given:
                raise checks.value_error(
                    "y where labelled says that it is known", "None", "Pass y, or leave both out."
                )
            check_labels("y", torch.where(labelled, given["y"], 0), self.num_classes)
        elif "y" in given:
            check_labels(
                "y",
                given["y"],
                self.num_classes,
                remedy="Number the classes from 0; say which are known by labelled, (y >= 0).",
            )

    def blank(self, n: int) -> Tensor:
        """Return `n` images of zeros, without labels."""
        return ImagePair.blank(self, n)
