"""The linear VAE: probabilistic principal components with an amortised guide."""

from __future__ import annotations

import math
from typing import Self

import pyro
import pyro.distributions as dist
import torch
from torch import Tensor, nn
from torch.distributions import MultivariateNormal

from ppl_vae import checks
from ppl_vae.closed_forms import linear_gaussian
from ppl_vae.pair import Pair
from ppl_vae.seeding import weights_from


class AffineNormal(nn.Module):
    """The parameters of ``Normal(weight @ input + loc, exp(log_scale))``."""

    def __init__(self, size_in: int, size_out: int, log_scale: Tensor) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.randn(size_out, size_in) / math.sqrt(size_in))
        self.loc = nn.Parameter(torch.zeros(size_out))
        self.log_scale = nn.Parameter(log_scale)

    def forward(self, x: Tensor) -> Tensor:
        """Return the mean, (*batch, size_out), from (*batch, size_in)."""
        return x @ self.weight.mT + self.loc


class LinearGaussian(Pair):
    """A linear VAE, whose evidence, posterior and ELBO are exact.

        p(z) = Normal(0, I_k)    p(x | z) = Normal(W z + b, s I_d)
        q(z | x) = Normal(V (x - b) + u, diag(t))

    `x` is (batch, data_dim), or any shape (batch, ...) with that many numbers per example. The
    maximum of the evidence is known (probabilistic principal components), and a diagonal guide
    reaches the posterior there; see `ppl_vae.closed_forms.linear_gaussian`.

    Args:
        data_dim: d, numbers per example.
        latent_dim: k, at least 1 and below `data_dim`.
        noise_scale: s before training, above 0.
        seed: of the initial weights; None continues torch's global stream, as any ``nn.Module``.

    Attributes:
        decoder: ``weight`` W (d, k), ``loc`` b (d), ``log_scale`` of the noise, ().
        encoder: ``weight`` V (k, d), ``loc`` u (k), ``log_scale`` of the guide, (k).

    Raises:
        TypeError: a size is not an int, or the scale not a number.
        ValueError: a size below 1, `latent_dim` not below `data_dim`, a scale not above 0.

    Example:
        >>> pair = LinearGaussian(data_dim=5, latent_dim=2, seed=0)
        >>> x = pair.sample(3, seed=0)
        >>> bool((pair.exact.elbo(x) < pair.exact.log_evidence(x)).all())
        True
    """

    uses_images = True

    def __init__(
        self,
        data_dim: int,
        latent_dim: int,
        *,
        noise_scale: float = 1.0,
        seed: int | None = None,
    ) -> None:
        checks.count("latent_dim", latent_dim)
        checks.count("data_dim", data_dim, minimum=latent_dim + 1)
        scale = checks.positive_number("noise_scale", noise_scale)
        super().__init__(data_dim=data_dim, latent_dim=latent_dim, noise_scale=scale)
        self.data_dim, self.latent_dim = data_dim, latent_dim
        with weights_from(seed):
            log_noise_scale = torch.tensor(math.log(scale))
            self.decoder = AffineNormal(latent_dim, data_dim, log_noise_scale)
            self.encoder = AffineNormal(data_dim, latent_dim, torch.zeros(latent_dim))

    @classmethod
    def suited_to(cls, image_shape: tuple[int, ...] | None, *, seed: int) -> Self:
        """Return an instance with ten latent dimensions for images of `image_shape`."""
        return cls(math.prod(image_shape or (1, 28, 28)), 10, seed=seed)

    def encode(self, x: Tensor) -> tuple[Tensor, Tensor]:
        """Return loc and scale of q(z | x), each (batch, latent_dim)."""
        loc = self.encoder(self._flat(x) - self.decoder.loc)
        return loc, self.encoder.log_scale.exp().expand_as(loc)

    def decode(self, z: Tensor) -> Tensor:
        """Return the mean of p(x | z), (*batch, data_dim)."""
        return self.decoder(z)

    @torch.no_grad()
    def reconstruct(self, x: Tensor) -> Tensor:
        """Return the mean of p(x | z) at the guide's mean of z, (batch, data_dim)."""
        self.check(x)
        return self.decode(self.encode(x)[0])

    def model(self, x: Tensor) -> Tensor:
        """Draw z from the prior and score the data."""
        self.begin(x)
        with pyro.plate("data", len(x), dim=-1):
            prior = dist.Normal(x.new_zeros(self.latent_dim), x.new_ones(self.latent_dim))
            z = pyro.sample("z", prior.to_event(1))
            likelihood = dist.Normal(self.decode(z), self.decoder.log_scale.exp())
            return pyro.sample("x", likelihood.to_event(1), obs=self._flat(x))

    def guide(self, x: Tensor) -> Tensor:
        """Draw z given the data."""
        self.begin(x)
        with pyro.plate("data", len(x), dim=-1):
            loc, scale = self.encode(x)
            return pyro.sample("z", dist.Normal(loc, scale).to_event(1))

    @property
    def exact(self) -> ExactLinearGaussian:
        """The closed forms at this pair's parameters."""
        return ExactLinearGaussian(self)

    def check(self, x: Tensor) -> None:
        """Raise unless `x` holds `data_dim` numbers of the pair's dtype per example."""
        super().check(x)
        if x.dim() < 2 or math.prod(x.shape[1:]) != self.data_dim:
            raise checks.value_error(
                f"x of shape (batch, {self.data_dim})",
                f"shape {tuple(x.shape)}",
                "Build the pair with the data's data_dim.",
            )
        self.check_dtype(x)

    def blank(self, n: int) -> Tensor:
        """Return `n` examples of zeros."""
        return torch.zeros(n, self.data_dim, dtype=self.dtype, device=self.device)

    def _flat(self, x: Tensor) -> Tensor:
        return x.reshape(len(x), self.data_dim)


class ExactLinearGaussian:
    """The closed forms of `ppl_vae.closed_forms.linear_gaussian` at one pair's parameters.

    Per example, shape (batch), in nats, differentiable in the pair's parameters.
    """

    def __init__(self, pair: LinearGaussian) -> None:
        self._pair = pair
        decoder = pair.decoder
        self._model = (decoder.weight, decoder.loc, decoder.log_scale.exp())

    def log_evidence(self, x: Tensor) -> Tensor:
        """Return log p(x)."""
        return linear_gaussian.log_evidence(x.flatten(1), *self._model)

    def posterior(self, x: Tensor) -> MultivariateNormal:
        """Return p(z | x), batch shape (batch), event shape (latent_dim)."""
        return linear_gaussian.posterior(x.flatten(1), *self._model)

    def elbo(self, x: Tensor) -> Tensor:
        """Return the ELBO of the guide as it stands."""
        return linear_gaussian.elbo(x.flatten(1), *self._model, *self._pair.encode(x))
