"""The terms of the right ELBO at some draws, and the gradients of their expectations."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Any

import torch
from torch import Tensor

from ppl_vae.elbos.sites.traces import Site


@dataclass
class Terms:
    """The right terms at some draws of the latents; their sum over examples is the ELBO.

    Attributes:
        likelihood: log p(x | z), (particles, examples), in nats.
        prior: site to log p(z), likewise, at the draws.
        entropy: site to -log q(z), likewise, at the draws.
        prior_closed: site to the expectation of its log-prior given the site's parents, where
            that is known and may be used.
        entropy_closed: likewise for the entropy.
        score: log q of the draws that are not reparameterised, (particles, examples); its
            gradient by the guide's parameters stands for that of the draws. None if all are.
        model: the sites of the model's trace.
        guide: the sites of the guide's trace.
    """

    likelihood: Tensor
    prior: dict[str, Tensor]
    entropy: dict[str, Tensor]
    prior_closed: dict[str, Tensor]
    entropy_closed: dict[str, Tensor]
    score: Tensor | None
    model: dict[str, Site]
    guide: dict[str, Site]

    @property
    def total(self) -> Tensor:
        """The ELBO at the draws, (particles, examples)."""
        return self.likelihood + sum(self.prior.values()) + sum(self.entropy.values())

    def three(self) -> tuple[Tensor, Tensor, Tensor]:
        """Return the three terms, with closed forms where they are known."""
        prior = {**self.prior, **self.prior_closed}
        entropy = {**self.entropy, **self.entropy_closed}
        return self.likelihood, sum(prior.values()), sum(entropy.values())  # pyright: ignore

    def three_with_scores(self) -> tuple[Tensor, Tensor, Tensor]:
        """Return the three terms with the gradients of their expectations.

        Where a draw z has no rsample, d/dphi E[f] = E[df/dphi + (f - b) d log q(z)/dphi]; the
        baseline b of a particle is the mean of f over the others (Mnih and Rezende 2016).
        """
        if self.score is None:
            return self.three()
        score = self.score - self.score.detach()
        likelihood, prior, entropy = (
            term + _less_others(term.detach()) * score for term in self.three()
        )
        return likelihood, prior, entropy


def stacked(rows: list[Terms]) -> Terms:
    """Return the terms of particles that were run one by one."""

    def joined(values: list[Any]) -> Any:  # noqa: ANN401
        if values[0] is None:
            return None
        if isinstance(values[0], dict):
            return {key: torch.cat([value[key] for value in values]) for key in values[0]}
        return torch.cat(values)

    names = ("likelihood", "prior", "entropy", "prior_closed", "entropy_closed", "score")
    return replace(
        rows[0], **{name: joined([getattr(row, name) for row in rows]) for name in names}
    )


def _less_others(values: Tensor) -> Tensor:
    """Return each particle's value less the mean of the others; a single one as it is."""
    count = len(values)
    return values if count == 1 else (values - values.mean(0)) * (count / (count - 1))
