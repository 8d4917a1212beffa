"""The sigmoid belief network: bits as codes, linear networks or not."""

from __future__ import annotations

import itertools
from collections.abc import Sequence
from typing import Any

import pyro.distributions as dist
import torch
from torch import Tensor, nn

from ppl_vae import checks
from ppl_vae.likelihoods import Spec
from ppl_vae.missing import observed, scored
from ppl_vae.nets import MLP, ImageDecoder
from ppl_vae.seeding import weights_from
from ppl_vae.vae import CodePair

LARGEST_SUM = 12  # bits whose states are summed: 4,096 for each example


class BinaryLatentVAE(CodePair):
    """A VAE whose code is a vector of bits (a sigmoid belief network).

        z ~ Bernoulli(logits = prior)    x | z ~ Bernoulli(logits = decode(z))
        q(z | x) = Bernoulli(logits = encode(x))

    The prior's logits are learned. Without hidden layers encoder and decoder are linear, with them
    MLPs of leaky ReLUs. Up to 12 bits ``exact`` sums over all of their states.

    A draw of bits has no derivative. ``leave-one-out`` and ``disarm`` have the least noise of the
    estimators without bias; ``vimco`` is for the importance-weighted bound.

    Args:
        image_shape: (channels, height, width).
        latent_dim: how many bits.
        hidden: hidden sizes of the encoder; the decoder has them in reverse.
        likelihood: a name in `ppl_vae.likelihoods.LIKELIHOODS`, or a mapping of ``name`` and
            options.
        sees_mask: whether the encoder gets the mask of missing pixels beside the images.
        seed: of the initial weights; None continues torch's global stream, as any ``nn.Module``.

    Raises:
        TypeError: a size is not an int.
        ValueError: a size is below 1, or the likelihood unknown.

    Source:
        The networks of Yin and others 2020 and of Dong, Mnih and Tucker, DisARM, 2020,
        https://arxiv.org/abs/2006.10680: 200 bits; linear, or two hidden layers of 200.

    Example:
        >>> pair = BinaryLatentVAE((1, 2, 2), latent_dim=3, seed=0)
        >>> x = pair.sample(5, seed=0)
        >>> bool((pair.exact.elbo(x) < pair.exact.log_evidence(x)).all())
        True
    """

    def __init__(
        self,
        image_shape: tuple[int, ...] = (1, 28, 28),
        latent_dim: int = 200,
        hidden: Sequence[int] = (),
        *,
        likelihood: Spec = "bernoulli",
        sees_mask: bool = False,
        seed: int | None = None,
    ) -> None:
        hidden = checks.sizes("hidden", hidden)
        config: dict[str, Any] = {"likelihood": likelihood, "sees_mask": sees_mask}
        super().__init__(image_shape, latent_dim, hidden=hidden, **config)
        shape = self.output_shape
        with weights_from(seed):
            inputs = self.encoder_channels * self.num_pixels
            self.prior_logits = nn.Parameter(torch.zeros(latent_dim))
            self.encoder = MLP([inputs, *hidden, latent_dim], nn.LeakyReLU)
            self.decoder = ImageDecoder(latent_dim, hidden[::-1], shape, nn.LeakyReLU)

    @property
    def exact(self) -> BitStates | None:
        """The sums over all states of the bits, or None if there are more than 12 bits."""
        return BitStates(self) if self.latent_dim <= LARGEST_SUM else None

    def prior(self) -> dist.TorchDistribution:
        """Return p(z): event shape (latent_dim,)."""
        return dist.Bernoulli(logits=self.prior_logits).to_event(1)

    def posterior(self, x: Tensor, mask: Tensor | None = None) -> dist.TorchDistribution:
        """Return q(z | x): batch shape (batch,), event shape (latent_dim,)."""
        return dist.Bernoulli(logits=self.encoder(self.encoder_input(x, mask))).to_event(1)

    def code(self, x: Tensor, mask: Tensor | None = None) -> Tensor:
        """Return the likeliest bits of the guide, (batch, latent_dim)."""
        return (self.posterior(x, mask).mean > 0.5).to(x.dtype)

    def decode(self, z: Tensor) -> Tensor:
        """Return the pixels' logits, (*batch, *image_shape), or what else the likelihood takes."""
        return self.decoder(z)


class BitStates:
    """Sums over all states of a `BinaryLatentVAE`'s bits, in nats, one value an example."""

    def __init__(self, pair: BinaryLatentVAE) -> None:
        self._pair = pair

    def elbo(self, x: Tensor, mask: Tensor | None = None) -> Tensor:
        """Return the ELBO, (batch,)."""
        log_joint, log_q = self.terms(x, mask)
        return (log_q.exp() * (log_joint - log_q)).sum(0)

    def log_evidence(self, x: Tensor, mask: Tensor | None = None) -> Tensor:
        """Return log p(x), (batch,)."""
        return self.terms(x, mask)[0].logsumexp(0)

    def terms(self, x: Tensor, mask: Tensor | None = None) -> tuple[Tensor, Tensor]:
        """Return log p(x, z) and log q(z | x) of every state z, (2 ** latent_dim, batch) each."""
        pair = self._pair
        bits = itertools.product((0.0, 1.0), repeat=pair.latent_dim)
        states = torch.tensor(list(bits), dtype=pair.dtype, device=pair.device).unsqueeze(1)
        images = observed(x, mask).reshape(-1, *pair.image_shape)
        shown = None if mask is None else mask.reshape(images.shape)
        log_likelihood = scored(pair.likelihood(states), shown).log_prob(images)
        log_joint = pair.prior().log_prob(states) + log_likelihood
        return log_joint, pair.posterior(x, mask).log_prob(states)
