"""The VAE of counts, such as of molecules in cells, with library sizes and batches."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Self

import pyro
import pyro.distributions as dist
import torch
from torch import Tensor, nn

from ppl_vae import checks
from ppl_vae.batch import BatchLike
from ppl_vae.likelihoods import Observation
from ppl_vae.missing import observed, scored
from ppl_vae.models.code import prior_and_posterior
from ppl_vae.models.labels import beside, check_labels, one_hot
from ppl_vae.nets import MLP, GaussianMLP
from ppl_vae.pair import Pair
from ppl_vae.seeding import weights_from

LIKELIHOODS = ("poisson", "negative-binomial", "zero-inflated-negative-binomial")
DISPERSIONS = ("feature", "feature-batch")


class CountVAE(Pair):
    """A VAE of counts with an observed library size (Lopez and others 2018, scVI).

        z ~ Normal(0, I)    x_g | z ~ likelihood(mean l p_g(z, b))    q(z | x, b) = Normal(encode)

    p(z, b) are shares that sum to 1 over the features, l the library size (how much was counted in
    an example), b the batch or experiment. The encoder sees log(1 + x). The dispersion of a
    negative binomial is one number per feature, or one per feature and batch.

    Args:
        num_features: counts per example.
        latent_dim: length of the code.
        hidden: hidden sizes of the encoder; the decoder has them in reverse.
        likelihood: ``poisson``, ``negative-binomial`` or ``zero-inflated-negative-binomial``.
        num_batches: of experiments, an input of both networks; 0 for none.
        dispersion: ``feature`` or ``feature-batch``.
        prior: of `ppl_vae.models.priors`, its name, or a mapping of ``name`` and options; but
            for `VampPrior`, as the encoder takes batches.
        posterior: of `ppl_vae.models.posteriors`, likewise.
        sees_mask: whether the encoder gets the mask of missing counts beside the counts.
        seed: of the initial weights; None continues torch's global stream, as any ``nn.Module``.

    Raises:
        TypeError: a size is not an int.
        ValueError: a size too small, an unknown name, or a dispersion by batch without batches.

    Source:
        Lopez, Regier, Cole, Jordan and Yosef, Deep generative modeling for single-cell
        transcriptomics, 2018.

    Example:
        >>> pair = CountVAE(num_features=5, latent_dim=2, hidden=(8,), seed=0)
        >>> pair.sample(3, library=torch.full((3,), 100.0), seed=0).shape
        torch.Size([3, 5])
    """

    uses_counts = True

    def __init__(
        self,
        num_features: int,
        latent_dim: int = 10,
        hidden: Sequence[int] = (128,),
        likelihood: str = "negative-binomial",
        *,
        num_batches: int = 0,
        dispersion: str = "feature",
        prior: Any = "standard-normal",  # noqa: ANN401
        posterior: Any = "diagonal-normal",  # noqa: ANN401
        sees_mask: bool = False,
        seed: int | None = None,
    ) -> None:
        checks.count("num_features", num_features)
        checks.count("latent_dim", latent_dim)
        checks.count("num_batches", num_batches, minimum=0)
        checks.name("likelihood", likelihood, LIKELIHOODS)
        checks.name("dispersion", dispersion, DISPERSIONS)
        if dispersion == "feature-batch" and (not num_batches or likelihood == "poisson"):
            raise checks.value_error(
                "num_batches and a negative binomial for a dispersion by batch",
                f"num_batches={num_batches}, likelihood={likelihood!r}",
                "Pass the number of batches, or dispersion='feature'.",
            )
        super().__init__(
            num_features=num_features,
            latent_dim=latent_dim,
            hidden=checks.sizes("hidden", hidden),
            likelihood=likelihood,
            num_batches=num_batches,
            dispersion=dispersion,
            sees_mask=sees_mask,
        )
        self.num_features, self.latent_dim = num_features, latent_dim
        self.num_batches, self.sees_mask = num_batches, sees_mask
        families = prior_and_posterior(self, prior, posterior, data_shape=None, seed=seed)
        self.prior_family, self.posterior_family = families
        # The mean's logarithm is the library's and the share's, and not a head of its own.
        self._mean = "log_rate" if likelihood == "poisson" else "log_mean"
        by_batch = dispersion == "feature-batch"
        given = [self._mean, "log_total_count"] if by_batch else [self._mean]
        self.observation = Observation(likelihood, (num_features,), given=given)
        (gates,) = self.observation.output_shape
        inputs = num_features * (2 if sees_mask else 1) + num_batches
        with weights_from(seed):
            self.encoder = GaussianMLP(inputs, hidden, latent_dim)
            self.decoder = MLP([latent_dim + num_batches, *hidden[::-1], num_features + gates])
        if by_batch:
            self.log_total_count = nn.Parameter(torch.zeros(num_batches, num_features))

    @classmethod
    def suited_to(
        cls,
        image_shape: tuple[int, ...] | None,
        *,
        seed: int,
        **options: Any,  # noqa: ANN401
    ) -> Self:
        """Return an instance with default settings for counts of `image_shape`, (features,)."""
        assert image_shape is not None
        (num_features,) = image_shape
        return cls(num_features, **{"seed": seed, **options})

    def encode(
        self, x: Tensor, batch: Tensor | None = None, mask: Tensor | None = None
    ) -> tuple[Tensor, Tensor]:
        """Return loc and scale of q(z | x, b), each (batch, latent_dim)."""
        parts = [self.observation.encoder_input(observed(x, mask))]
        if self.sees_mask:
            parts.append(torch.ones_like(parts[0]) if mask is None else mask.to(parts[0]))
        return self.encoder(beside(*parts, *self._of_batch(batch, x)))

    def shares(self, z: Tensor, batch: Tensor | None = None) -> Tensor:
        """Return what share of the library every feature has, (*batch, num_features)."""
        decoded = self.decoder(beside(z, *self._of_batch(batch, z)))
        return decoded[..., : self.num_features].softmax(-1)

    def likelihood(
        self, z: Tensor, library: Tensor, batch: Tensor | None = None
    ) -> dist.TorchDistribution:
        """Return p(x | z, l, b): batch shape (*batch), event shape (num_features)."""
        decoded = self.decoder(beside(z, *self._of_batch(batch, z)))
        shares, gates = decoded.split(
            [self.num_features, decoded.shape[-1] - self.num_features], -1
        )
        given = {self._mean: library.log().unsqueeze(-1) + shares.log_softmax(-1)}
        if batch is not None and hasattr(self, "log_total_count"):
            given["log_total_count"] = self.log_total_count[batch.long()]  # bytes are a mask
        return self.observation(gates, **given)

    def model(
        self,
        x: Tensor,
        library: Tensor | None = None,
        batch: Tensor | None = None,
        mask: Tensor | None = None,
    ) -> Tensor:
        """Draw codes from the prior and score the counts: p(x, z | l, b).

        Args:
            x: counts, (batch, num_features), whole numbers as floats.
            library: how much was counted, (batch,), above 0; None takes the row sums.
            batch: of which experiment, (batch,), whole numbers; needed with `num_batches`.
            mask: True where a count was observed, (batch, num_features); None if all were.
        """
        self.begin(x, library, batch, mask)
        counts = observed(x, mask)
        library = counts.sum(-1) if library is None else library
        with pyro.plate("data", len(x), dim=-1):
            z = pyro.sample("z", self.prior_family(self))
            likelihood = scored(self.likelihood(z, library, batch), mask)
            return pyro.sample("x", likelihood, obs=counts)

    def guide(
        self,
        x: Tensor,
        library: Tensor | None = None,
        batch: Tensor | None = None,
        mask: Tensor | None = None,
    ) -> Tensor:
        """Draw codes given the counts: q(z | x, b)."""
        self.begin(x, library, batch, mask)
        with pyro.plate("data", len(x), dim=-1):
            return pyro.sample("z", self.posterior_family(*self.encode(x, batch, mask)))

    @torch.no_grad()
    def reconstruct(
        self,
        x: Tensor,
        library: Tensor | None = None,
        batch: Tensor | None = None,
        mask: Tensor | None = None,
    ) -> Tensor:
        """Return the expected counts at the middle of the guide, (batch, num_features)."""
        code = self.posterior_family.centre(*self.encode(x, batch, mask))
        library = observed(x, mask).sum(-1) if library is None else library
        return self.likelihood(code, library, batch).mean

    def check(self, x: BatchLike) -> None:
        """Raise unless `x` holds counts, and library sizes and batches that this pair takes."""
        given = self.arguments(x)
        counts = observed(given["x"], given.pop("mask", None))
        super().check({**given, "x": counts} if len(given) > 1 else counts)
        if counts.dim() != 2 or counts.shape[1] != self.num_features:
            raise checks.value_error(
                f"x of shape (batch, {self.num_features})",
                f"shape {tuple(counts.shape)}",
                "Build the pair with the data's num_features.",
            )
        self.check_dtype(counts)
        self.observation.check(counts)
        self._check_library(given.get("library"), counts)
        if ("batch" in given) != bool(self.num_batches):
            raise checks.value_error(
                f"batch for a pair with num_batches={self.num_batches}, and for no other",
                "none" if self.num_batches else "one",
                "Build the pair with num_batches, or pass the batch of every example.",
            )
        if self.num_batches:
            check_labels("batch", given["batch"], self.num_batches)

    def _check_library(self, library: Tensor | None, counts: Tensor) -> None:
        if library is None:
            name, expected = "the row sums of x, its library sizes", "numbers above 0 only"
            remedy = "Leave those rows out, or pass library."
            checks.require(name, counts.sum(-1), lambda sums: sums > 0, expected, remedy)
            return
        if library.shape != counts.shape[:1]:
            raise checks.value_error(
                f"library of shape ({len(counts)},)",
                f"shape {tuple(library.shape)}",
                "Flatten it.",
            )
        checks.positive("library", checks.floating("library", library))

    def blank(self, n: int) -> dict[str, Tensor]:
        """Return `n` examples of no count, with libraries of as many as there are features."""
        zeros = torch.zeros(n, self.num_features, dtype=self.dtype, device=self.device)
        found = {"x": zeros, "library": zeros.new_full((n,), float(self.num_features))}
        if self.num_batches:
            found["batch"] = torch.arange(n, device=self.device) % self.num_batches
        return found

    def _of_batch(self, batch: Tensor | None, like: Tensor) -> list[Tensor]:
        return [one_hot(batch, self.num_batches, like)] if batch is not None else []
