"""Early stopping on the validation ELBO, as far as its noise allows."""

from __future__ import annotations

import math
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor

from ppl_vae import checks


@dataclass(frozen=True)
class EarlyStopping:
    """End training once the validation ELBO has not become better for some epochs.

    An epoch is better than the best so far if, over the examples, the mean of the differences of
    the two ELBOs is above `min_delta` and above its own standard error (the one standard error
    rule). The differences are paired: the same examples and the same noise in every epoch. What
    examples and draws have in common cancels, so small steps in one direction are seen, and add
    up, as the best epoch stays what they are compared with. A step that is smaller than its
    standard error might be another one on other examples; it does not count.

    Nothing is kept here: `begin` gives each run a state of its own.

    Args:
        patience: epochs in a row that may pass without a better one, at least 1.
        min_delta: what the mean difference must exceed, in nats per example, at least 0.

    Raises:
        TypeError: `patience` is not an int or `min_delta` not a number.
        ValueError: `patience` is below 1, or `min_delta` negative or not finite.

    Source:
        Prechelt (1998), "Early stopping - but when?"; the one standard error rule: Breiman et al.
        (1984), "Classification and regression trees".

    Example:
        >>> state = EarlyStopping(patience=2).begin()
        >>> elbos = torch.tensor([-9.0, -7.0, -8.0])  # per example
        >>> for epoch, gain in enumerate([0.0, 0.5, 0.4, 0.3], start=1):
        ...     better = state.update(epoch, elbos + gain)
        >>> state.best_epoch, state.should_stop
        (2, True)
    """

    patience: int
    min_delta: float = 0.0

    def __post_init__(self) -> None:
        checks.count("patience", self.patience)
        if isinstance(self.min_delta, bool) or not isinstance(self.min_delta, (int, float)):
            raise checks.type_error(
                "min_delta as a number", type(self.min_delta).__name__, "Pass a Python float."
            )
        if not 0 <= self.min_delta < math.inf:
            raise checks.value_error(
                "min_delta finite and at least 0", repr(self.min_delta), "Pass 0 or more nats."
            )

    def begin(self) -> EarlyStoppingState:
        """Return the state of a run that has no epoch yet."""
        return EarlyStoppingState(self)


@dataclass
class EarlyStoppingState:
    """What early stopping knows of one run.

    Attributes:
        rule: patience and least difference.
        best_epoch: the best epoch so far; None before the first one of finite ELBOs.
        epochs_since: epochs since then.
        best_elbos: the ELBOs of the best epoch per example, (n,), float64, on the CPU.
    """

    rule: EarlyStopping
    best_epoch: int | None = None
    epochs_since: int = 0
    best_elbos: Tensor | None = field(default=None, repr=False)

    @property
    def should_stop(self) -> bool:
        """Whether as many epochs have passed since the best one as patience allows."""
        return self.epochs_since >= self.rule.patience

    def update(self, epoch: int, elbos: Tensor) -> bool:
        """Take an epoch's validation ELBOs into account; return whether it is the best so far.

        An epoch with an ELBO that is NaN or infinite is never better.

        Args:
            epoch: its number.
            elbos: per example, (n,), n at least 2, in nats; in every epoch of the same examples in
                the same order, estimated with the same noise.

        Raises:
            TypeError: `elbos` is not a floating-point tensor.
            ValueError: `elbos` is not (n,), holds less than 2, or not as many as before.
        """
        elbos = self._checked(elbos)
        if not self._is_better(elbos):
            self.epochs_since += 1
            return False
        self.best_epoch, self.epochs_since, self.best_elbos = epoch, 0, elbos
        return True

    def state_dict(self) -> dict[str, Any]:
        """Return numbers, None and tensors, from which `load_state_dict` goes on."""
        return {
            "best_epoch": self.best_epoch,
            "epochs_since": self.epochs_since,
            "best_elbos": self.best_elbos,
        }

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Go on from what `state_dict` returned, with the patience that this run has."""
        self.best_epoch, self.epochs_since = state["best_epoch"], state["epochs_since"]
        self.best_elbos = state["best_elbos"]

    def _checked(self, elbos: Tensor) -> Tensor:
        elbos = checks.floating("elbos", elbos).detach().to("cpu", torch.float64, copy=True)
        if elbos.dim() != 1 or len(elbos) < 2:
            raise checks.value_error(
                "elbos of shape (n,), one for each of n >= 2 examples",
                f"{tuple(elbos.shape)}",
                "Validate on more examples: one tells nothing of the differences between them.",
            )
        if self.best_elbos is not None and len(elbos) != len(self.best_elbos):
            raise checks.value_error(
                f"elbos of the same {len(self.best_elbos)} examples in every epoch",
                f"{len(elbos)}",
                "Validate on the same data, in the same order.",
            )
        return elbos

    def _is_better(self, elbos: Tensor) -> bool:
        if not bool(elbos.isfinite().all()):
            return False
        if self.best_elbos is None:
            return True
        variance, gain = torch.var_mean(elbos - self.best_elbos)
        standard_error = (variance / len(elbos)).sqrt()
        return bool((gain > self.rule.min_delta) & (gain > standard_error))
