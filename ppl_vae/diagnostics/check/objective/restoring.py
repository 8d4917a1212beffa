"""Putting back what a check changes: the pair, Pyro's settings and the random states."""

from __future__ import annotations

import random
from collections.abc import Iterable, Iterator
from contextlib import contextmanager

import numpy as np
import pyro
import torch
from torch import Tensor, nn

from ppl_vae.diagnostics.check.objective.noise_recorder import HALF
from ppl_vae.pair import Pair, leaving_no_params
from ppl_vae.seeding import reseed, seeded


@contextmanager
def as_found(pair: Pair, seed: int) -> Iterator[None]:
    """Run a block on the random stream of `seed`, then put back everything that it may touch.

    These are the parameters, buffers and gradients to the last bit, the train or eval mode of
    every module, whether parameters require a gradient, Pyro's param store and validation, whether
    autograd records, and the random states of torch, numpy and Python.
    """
    parameters = list(pair.parameters())
    values = Values([*parameters, *pair.buffers()])
    gradients = [(p, p.grad, None if p.grad is None else p.grad.clone()) for p in parameters]
    needs = [(p, p.requires_grad) for p in parameters]
    modes = [(module, module.training) for module in pair.modules()]
    python, numbers = random.getstate(), np.random.get_state()  # noqa: NPY002
    try:
        with (
            leaving_no_params(),
            seeded(seed, pair.device),
            pyro.validation_enabled(False),  # noqa: FBT003
            torch.enable_grad(),
        ):
            yield
    finally:
        values.put_back()
        for parameter, needed in needs:
            parameter.requires_grad_(needed)
        for parameter, gradient, value in gradients:
            if gradient is not None and value is not None:
                gradient.data.copy_(value)
            parameter.grad = gradient
        for module, training in modes:
            module.training = training
        random.setstate(python)
        np.random.set_state(numbers)  # noqa: NPY002


@contextmanager
def in_single(pair: nn.Module) -> Iterator[None]:
    """Hold a half-precision pair's numbers in float32 within a block, within `as_found`."""
    halves = [t for t in (*pair.parameters(), *pair.buffers()) if t.dtype in HALF]
    values = [tensor.data for tensor in halves]
    for tensor in halves:
        tensor.data = tensor.data.float()
    try:
        yield
    finally:
        for tensor, value in zip(halves, values, strict=True):
            tensor.data = value


def start_streams(number: int, device: torch.device) -> None:
    """Start torch's, numpy's and Python's global generators from `number`, within `as_found`."""
    reseed(number, device)
    random.seed(number)
    np.random.seed(number % 2**32)  # noqa: NPY002


class Values:
    """Copies of what some parameters or buffers hold, to compare with or to put back."""

    def __init__(self, tensors: Iterable[Tensor]) -> None:
        self._tensors = list(tensors)
        self._values = [tensor.detach().clone() for tensor in self._tensors]

    def put_back(self) -> None:
        """Give the tensors the values that they had when they were copied."""
        for tensor, value in zip(self._tensors, self._values, strict=True):
            tensor.data.copy_(value)

    @contextmanager
    def kept(self) -> Iterator[None]:
        """Put the values back at the end of a block."""
        try:
            yield
        finally:
            self.put_back()

    def are_in(self, tensors: Iterable[Tensor]) -> bool:
        """Return whether some tensors hold the values, bit by bit (NaN included)."""
        return all(
            torch.equal(t.detach(), v) or bool((t.detach() == v).logical_or(v.isnan()).all())
            for t, v in zip(tensors, self._values, strict=True)
        )
