"""The linear VAE: probabilistic principal components with an amortised guide."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator
from typing import Any, Self

import pyro
import pyro.distributions as dist
import torch
from torch import Tensor, nn
from torch.distributions import MultivariateNormal

from ppl_vae import checks
from ppl_vae.batch import BatchLike
from ppl_vae.closed_forms import linear_gaussian
from ppl_vae.closed_forms.kl import kl_normal_standard
from ppl_vae.missing import observed, scored
from ppl_vae.pair import Pair
from ppl_vae.seeding import weights_from

# W, b and s.
Model = tuple[Tensor, Tensor, Tensor]


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
        """Return the mean of p(x | z) at the guide's mean of z, (batch, data_dim)."""
        self.check(x if mask is None else (x, mask))
        return self.decode(self.encode(x, mask)[0])

    def model(self, x: Tensor, mask: Tensor | None = None) -> Tensor:
        """Draw z from the prior and score the data, those numbers that were observed."""
        self.begin(x, mask)
        with pyro.plate("data", len(x), dim=-1):
            prior = dist.Normal(x.new_zeros(self.latent_dim), x.new_ones(self.latent_dim))
            z = pyro.sample("z", prior.to_event(1))
            likelihood = dist.Normal(self.decode(z), self.decoder.log_scale.exp())
            numbers = self._flat(observed(x, mask))
            shown = None if mask is None else mask.reshape(numbers.shape)
            return pyro.sample("x", scored(likelihood.to_event(1), shown), obs=numbers)

    def guide(self, x: Tensor, mask: Tensor | None = None) -> Tensor:
        """Draw z given the data."""
        self.begin(x, mask)
        with pyro.plate("data", len(x), dim=-1):
            loc, scale = self.encode(x, mask)
            return pyro.sample("z", dist.Normal(loc, scale).to_event(1))

    @property
    def exact(self) -> ExactLinearGaussian:
        """The closed forms at this pair's parameters."""
        return ExactLinearGaussian(self)

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
        return x.reshape(len(x), self.data_dim)


class ExactLinearGaussian:
    """The closed forms of `ppl_vae.closed_forms.linear_gaussian` at one pair's parameters.

    Per example, shape (batch), in nats, differentiable in the pair's parameters.
    """

    def __init__(self, pair: LinearGaussian) -> None:
        self._pair = pair
        decoder = pair.decoder
        self._model = (decoder.weight, decoder.loc, decoder.log_scale.exp())

    def log_evidence(self, x: Tensor, mask: Tensor | None = None) -> Tensor:
        """Return log p(x), of the numbers that were observed."""
        return self._joined(x, mask, lambda x, model, _: linear_gaussian.log_evidence(x, *model))

    def posterior(self, x: Tensor, mask: Tensor | None = None) -> MultivariateNormal:
        """Return p(z | x), batch shape (batch), event shape (latent_dim)."""
        if mask is None:
            return linear_gaussian.posterior(x.flatten(1), *self._model)
        size = self._pair.latent_dim
        loc, scale_tril = x.new_zeros(len(x), size), torch.eye(size).to(x).repeat(len(x), 1, 1)
        for rows, numbers, model in self._patterns(x, mask):
            if numbers.shape[1]:
                found = linear_gaussian.posterior(numbers, *model)
                loc[rows], scale_tril[rows] = found.loc, found.scale_tril
        return MultivariateNormal(loc, scale_tril=scale_tril)

    def elbo(self, x: Tensor, mask: Tensor | None = None) -> Tensor:
        """Return the ELBO of the guide as it stands."""
        guide = self._pair.encode(x, mask)

        def of(x: Tensor, model: Model, rows: Tensor | slice) -> Tensor:
            return linear_gaussian.elbo(x, *model, *(part[rows] for part in guide))

        without = kl_normal_standard(*guide).sum(-1)
        return self._joined(x, mask, of, empty=-without)

    def _joined(
        self,
        x: Tensor,
        mask: Tensor | None,
        formula: Callable[[Tensor, Model, Tensor | slice], Tensor],
        empty: Tensor | None = None,
    ) -> Tensor:
        """Return a formula per example; `empty` where nothing was observed, 0 by default."""
        if mask is None:
            return formula(x.flatten(1), self._model, slice(None))
        found = x.new_zeros(len(x)) if empty is None else empty
        for rows, numbers, model in self._patterns(x, mask):
            if numbers.shape[1]:
                found = found.index_put((rows,), formula(numbers, model, rows))
        return found

    def _patterns(self, x: Tensor, mask: Tensor) -> Iterator[tuple[Tensor, Tensor, Model]]:
        """Yield examples with the same numbers observed, those, and W, b and s for them."""
        weight, loc, scale = self._model
        patterns, owner = mask.flatten(1).unique(dim=0, return_inverse=True)
        for number, keep in enumerate(patterns):
            rows = (owner == number).nonzero().squeeze(-1)
            yield rows, x.flatten(1)[rows][:, keep], (weight[keep], loc[keep], scale)
