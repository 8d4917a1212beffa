"""The ELBO in closed form."""

from __future__ import annotations

from typing import NoReturn

import torch
from pyro.infer import ELBO
from torch import Tensor

from ppl_vae import checks
from ppl_vae.elbos.sites.draws import Function
from ppl_vae.pair import Pair


class Exact_ELBO(ELBO):  # noqa: N801  (Pyro's naming)
    """A pair's closed-form ELBO, for Pyro's ``SVI`` as any other estimator.

    Estimand: the ELBO, ``pair.exact.elbo(x).sum()``.
    Gradient: its derivative.
    Bias: none, and no variance either.
    Needs: a `Pair` whose ``exact`` has ``elbo``.
    Cost: one evaluation of the closed form; `num_particles` changes nothing.

    Example:
        >>> from ppl_vae import ExponentialNormal
        >>> pair = ExponentialNormal()
        >>> x = torch.tensor([1.2, 0.7, 1.1])
        >>> loss = Exact_ELBO().loss(pair.model, pair.guide, x)
        >>> loss == -pair.exact.elbo(x).item()
        True
    """

    def differentiable_loss(
        self, model: Function, guide: Function, *args: object, **kwargs: object
    ) -> Tensor:
        """Return the negative ELBO, a scalar in nats, summed over the examples.

        Args:
            model: a pair's ``model``.
            guide: the same pair's ``guide``.
            *args: what they take.
            **kwargs: likewise.

        Raises:
            NotImplementedError: they are not one pair's, or the pair has no closed form.
        """
        pair = _pair_of(model, guide)
        pair.begin(*args, **kwargs)  # pyright: ignore[reportArgumentType]
        return -pair.exact.elbo(*args, **kwargs).sum()

    def loss(self, model: Function, guide: Function, *args: object, **kwargs: object) -> float:
        """Return the negative ELBO as a number."""
        with torch.no_grad():
            return self.differentiable_loss(model, guide, *args, **kwargs).item()

    def loss_and_grads(
        self, model: Function, guide: Function, *args: object, **kwargs: object
    ) -> Tensor:
        """Return the negative ELBO; add its gradient to the parameters' ``grad``."""
        loss = self.differentiable_loss(model, guide, *args, **kwargs)
        loss.backward()
        return loss.detach()

    def _get_trace(self, *_: object) -> NoReturn:
        raise NotImplementedError("Exact_ELBO draws no traces")


def _pair_of(model: Function, guide: Function) -> Pair:
    pair = getattr(model, "__self__", None)
    if not isinstance(pair, Pair) or getattr(guide, "__self__", None) is not pair:
        raise checks.not_implemented(
            "the model and the guide of one ppl_vae.Pair",
            "functions that belong to none",
            "Pass pair.model and pair.guide themselves, or choose an estimator that samples.",
        )
    if not hasattr(pair.exact, "elbo"):
        raise checks.not_implemented(
            "a pair with a closed-form ELBO",
            f"{type(pair).__name__}, which has none",
            "Choose an estimator that samples, such as 'trace'.",
        )
    return pair
