"""The linear VAE: probabilistic principal components with an amortised guide."""

from __future__ import annotations

import math
from typing import Any, Self

import pyro
import pyro.distributions as dist
import torch
from torch import Tensor, nn

from ppl_vae import checks
from ppl_vae.batch import BatchLike
from ppl_vae.missing import observed, scored
from ppl_vae.models.code import prior_and_posterior
from ppl_vae.models.exact_linear_gaussian import ExactEvidence, ExactLinearGaussian
from ppl_vae.models.posteriors import DiagonalNormal
from ppl_vae.models.priors import StandardNormal
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
    reaches the posterior there; see `ppl_vae.closed_forms.linear_gaussian`. Numbers may be
    missing, ``model(x, mask)``: then all is exact with the rows of W and b that are left.

    Args:
        data_dim: d, numbers per example.
        latent_dim: k, at least 1 and below `data_dim`.
        noise_scale: s before training, above 0.
        prior: of `ppl_vae.models.priors`, its name, or a mapping of ``name`` and options. With
            `MixturePrior` and `VampPrior` evidence and posterior stay exact.
        posterior: of `ppl_vae.models.posteriors`, likewise. The ELBO is exact with both defaults.
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
        prior: Any = "standard-normal",  # noqa: ANN401
        posterior: Any = "diagonal-normal",  # noqa: ANN401
        seed: int | None = None,
    ) -> None:
        checks.count("latent_dim", latent_dim)
        checks.count("data_dim", data_dim, minimum=latent_dim + 1)
        scale = checks.positive_number("noise_scale", noise_scale)
        super().__init__(data_dim=data_dim, latent_dim=latent_dim, noise_scale=scale)
        self.data_dim, self.latent_dim = data_dim, latent_dim
        shape = (data_dim,)
        families = prior_and_posterior(self, prior, posterior, data_shape=shape, seed=seed)
        self.prior_family, self.posterior_family = families
        with weights_from(seed):
            log_noise_scale = torch.tensor(math.log(scale))
            self.decoder = AffineNormal(latent_dim, data_dim, log_noise_scale)
            self.encoder = AffineNormal(data_dim, latent_dim, torch.zeros(latent_dim))

    @classmethod
    def suited_to(
        cls,
        image_shape: tuple[int, ...] | None,
        *,
        seed: int,
        **options: Any,  # noqa: ANN401
    ) -> Self:
        """Return an instance with ten latent dimensions for images of `image_shape`."""
        return cls(
            math.prod(image_shape or (1, 28, 28)), **{"latent_dim": 10, "seed": seed, **options}
        )

    def encode(self, x: Tensor, mask: Tensor | None = None) -> tuple[Tensor, Tensor]:
        """Return loc and scale of q(z | x), each (batch, latent_dim).

        A missing number is taken for its mean b.
        """
        centred = observed(self._flat(x) - self.decoder.loc, mask)
        loc = self.encoder(centred)
        return loc, self.encoder.log_scale.exp().expand_as(loc)

    def decode(self, z: Tensor) -> Tensor:
        """Return the mean of p(x | z), (*batch, data_dim)."""
        return self.decoder(z)

    @torch.no_grad()
    def reconstruct(self, x: Tensor, mask: Tensor | None = None) -> Tensor:
        """Return the mean of p(x | z) at the middle of the guide, (batch, data_dim)."""
        self.check(x if mask is None else (x, mask))
        return self.decode(self.posterior_family.centre(*self.encode(x, mask)))

    def model(self, x: Tensor, mask: Tensor | None = None) -> Tensor:
        """Draw z from the prior and score the data, those numbers that were observed."""
        self.begin(x, mask)
        with pyro.plate("data", len(x), dim=-1):
            z = pyro.sample("z", self.prior())
            likelihood = dist.Normal(self.decode(z), self.decoder.log_scale.exp())
            numbers = self._flat(observed(x, mask))
            shown = None if mask is None else mask.reshape(numbers.shape)
            return pyro.sample("x", scored(likelihood.to_event(1), shown), obs=numbers)

    def guide(self, x: Tensor, mask: Tensor | None = None) -> Tensor:
        """Draw z given the data."""
        self.begin(x, mask)
        with pyro.plate("data", len(x), dim=-1):
            return pyro.sample("z", self.posterior_family(*self.encode(x, mask)))

    @property
    def exact(self) -> ExactEvidence | None:
        """The closed forms at this pair's parameters; None where the prior is a flow."""
        families = (self.prior_family.name, self.posterior_family.name)
        if families == (StandardNormal.name, DiagonalNormal.name):
            return ExactLinearGaussian(self)
        prior = self.prior()
        has_normals = isinstance(prior, dist.MixtureSameFamily) and isinstance(
            prior.component_distribution, dist.Independent
        )
        return ExactEvidence(self) if has_normals or families[0] == StandardNormal.name else None

    def prior(self) -> dist.TorchDistribution:
        """Return p(z): event shape (latent_dim,)."""
        return self.prior_family(self)

    def check(self, x: BatchLike) -> None:
        """Raise unless `x` holds `data_dim` numbers of the pair's dtype per example."""
        given = self.arguments(x)
        x = observed(given["x"], given.get("mask"))
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
        return x.reshape(x.shape[0], self.data_dim)  # not len, which torch.export cannot follow
