"""What is exact of a linear VAE, by its prior and posterior."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

import torch
from torch import Tensor
from torch.distributions import Categorical, MixtureSameFamily, MultivariateNormal

from ppl_vae.closed_forms import gaussian_mixture, linear_gaussian
from ppl_vae.closed_forms.kl import kl_normal_standard

# W, b and s.
Model = tuple[Tensor, Tensor, Tensor]


class ExactEvidence:
    """Evidence and posterior of a linear decoder, whatever the guide.

    Those of `ppl_vae.closed_forms.linear_gaussian`, or of `gaussian_mixture` where the prior is a
    mixture of Normals, at one pair's parameters. Per example, shape (batch), in nats,
    differentiable in the pair's parameters.
    """

    def __init__(self, pair: Any) -> None:  # noqa: ANN401
        self._pair = pair
        decoder = pair.decoder
        self._model = (decoder.weight, decoder.loc, decoder.log_scale.exp())
        self._components = components(pair.prior())

    def log_evidence(self, x: Tensor, mask: Tensor | None = None) -> Tensor:
        """Return log p(x), of the numbers that were observed."""

        def of(x: Tensor, model: Model, _: object) -> Tensor:
            if self._components is None:
                return linear_gaussian.log_evidence(x, *model)
            return gaussian_mixture.log_evidence(x, *model, **self._components)

        return self._joined(x, mask, of)

    def posterior(
        self, x: Tensor, mask: Tensor | None = None
    ) -> MultivariateNormal | MixtureSameFamily:
        """Return p(z | x), batch shape (batch), event shape (latent_dim)."""
        if mask is None:
            return self._posterior(x.flatten(1), self._model)
        found: Any = None
        for rows, numbers, model in self._patterns(x, mask):
            part = self._posterior(numbers, model)
            # Numbers of all examples, into which each pattern's rows are put.
            whole = [torch.zeros(len(x), *p.shape[1:]).to(p) for p in _parameters(part)]
            parts = zip(whole if found is None else found, _parameters(part), strict=True)
            found = [into.index_put((rows,), numbers) for into, numbers in parts]
        return _posterior_of(*found)

    def _posterior(self, x: Tensor, model: Model) -> MultivariateNormal | MixtureSameFamily:
        weight, loc, scale = model
        if not x.shape[1]:  # nothing was observed: a number without weight, at its mean
            x, weight, loc = x.new_zeros(len(x), 1), weight.new_zeros(1, weight.shape[1]), 0.0
        if self._components is None:
            return linear_gaussian.posterior(x, weight, loc, scale)
        return gaussian_mixture.posterior(x, weight, loc, scale, **self._components)

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


class ExactLinearGaussian(ExactEvidence):
    """The ELBO too, of a standard Normal prior and a diagonal Normal guide."""

    def elbo(self, x: Tensor, mask: Tensor | None = None) -> Tensor:
        """Return the ELBO of the guide as it stands."""
        guide = self._pair.encode(x, mask)

        def of(x: Tensor, model: Model, rows: Tensor | slice) -> Tensor:
            return linear_gaussian.elbo(x, *model, *(part[rows] for part in guide))

        without = kl_normal_standard(*guide).sum(-1)
        return self._joined(x, mask, of, empty=-without)


def components(prior: Any) -> dict[str, Tensor] | None:  # noqa: ANN401
    """Return the parameters of a mixture of Normals, or None."""
    if not isinstance(prior, MixtureSameFamily):
        return None
    normals: Any = prior.component_distribution
    mixed: Any = prior.mixture_distribution
    loc, scale = normals.base_dist.loc, normals.base_dist.scale
    return {"logits": mixed.logits, "component_loc": loc, "component_scale": scale}


def _parameters(posterior: Any) -> list[Tensor]:  # noqa: ANN401
    if isinstance(posterior, MultivariateNormal):
        return [posterior.loc, posterior.scale_tril]
    normals = posterior.component_distribution
    return [normals.loc, normals.scale_tril, posterior.mixture_distribution.logits]


def _posterior_of(
    loc: Tensor, scale_tril: Tensor, logits: Tensor | None = None
) -> MultivariateNormal | MixtureSameFamily:
    normals = MultivariateNormal(loc, scale_tril=scale_tril)
    return normals if logits is None else MixtureSameFamily(Categorical(logits=logits), normals)
