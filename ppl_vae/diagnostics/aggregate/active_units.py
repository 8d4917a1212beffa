"""Which units of every latent layer carry information about the data."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import torch
from pyro import poutine
from torch import Tensor

from ppl_vae import checks
from ppl_vae.batch import BatchLike
from ppl_vae.elbos.sites.traces import latent_sites
from ppl_vae.functions import Functions, as_argument, as_program
from ppl_vae.pair import Pair, leaving_no_params
from ppl_vae.seeding import Seed, as_int, derive, seeded


@dataclass(frozen=True, eq=False)
class ActiveUnits:
    """The active units of one latent site.

    Attributes:
        count: how many units have a variance above the threshold.
        variance: Var_x(E_q[z | x]) of every unit, (units,), estimated without bias; so it can be
            a little below 0 where the truth is 0.
    """

    count: int
    variance: Tensor

    def __str__(self) -> str:
        return f"{self.count} of {len(self.variance)}"


@checks.own_words()
@torch.no_grad()
def active_units(
    pair: Pair | Functions,
    x: BatchLike,
    *,
    num_samples: int = 64,
    threshold: float = 0.01,
    seed: Seed = 0,
) -> dict[str, ActiveUnits]:
    """Count the active units of every layer: those with ``Var_x(E_q[z | x]) > threshold``.

    The mean under the guide is that of `num_samples` draws per example, of every layer at once,
    so it holds for any guide. The draws' own noise is taken out: of the variance of the means
    over the examples, the mean variance within an example over `num_samples` is subtracted.

    Args:
        pair: a pair, or any Pyro model and guide as a tuple of two functions of one argument.
        x: the data, at least two examples, each with latents of its own.
        num_samples: draws per example, at least 2.
        threshold: at least 0.
        seed: an int, a ``torch.Generator``, or None for a fresh stream.

    Returns:
        By the latents' names.

    Raises:
        TypeError: data of a wrong kind, or a count that is no int.
        ValueError: fewer than two examples or draws, a threshold below 0, data that the pair
            cannot score.
        NotImplementedError: a latent without one value per example.

    Source:
        Burda, Grosse and Salakhutdinov 2015, section 5.2; the correction is that of a one-way
        analysis of variance.

    Example:
        >>> from ppl_vae import GaussianChain
        >>> pair = GaussianChain(guide="bottom-up", initial={"a": 0.5, "b": 0.0})
        >>> found = active_units(pair, pair.sample(500, seed=0))
        >>> [f"{site}: {units}" for site, units in found.items()]
        ['z1: 1 of 1', 'z2: 0 of 1']
    """
    checks.count("num_samples", num_samples, minimum=2)
    checks.instance("threshold", threshold, (int, float), "a number", "Burda's: 0.01.")
    if not threshold >= 0:
        raise ValueError(checks.message("threshold at least 0", repr(threshold), "Burda's: 0.01."))
    seed = derive(as_int(seed), "active units")
    data = as_argument(pair, x)
    with leaving_no_params(), poutine.block(), seeded(seed, data.device):
        subject, data = as_program(pair, data)
        subject.check(data)
        if len(data) < 2:
            raise checks.value_error(
                "at least two examples", f"{len(data)}", "Pass a batch of data."
            )
        sums: dict[str, Tensor] = {}
        squares: dict[str, Tensor] = {}
        for _ in range(num_samples):
            trace: Any = poutine.trace(subject.guide).get_trace(data)
            for name, site in latent_sites(trace).items():
                z = _per_example(name, site["value"], len(data)).double()
                sums[name] = sums.get(name, 0) + z
                squares[name] = squares.get(name, 0) + z.square()
    found = {}
    for name, total in sums.items():
        mean = total / num_samples
        within = (squares[name] - num_samples * mean.square()) / (num_samples - 1)
        variance = mean.var(0) - within.mean(0) / num_samples
        found[name] = ActiveUnits(int((variance > threshold).sum()), variance.to(data.dtype))
    return found


def _per_example(name: str, value: Tensor, num_examples: int) -> Tensor:
    if value.dim() == 0 or len(value) != num_examples:
        raise NotImplementedError(
            checks.message(
                "latents with one value per example along their first dimension",
                f"site {name!r} of shape {tuple(value.shape)} for {num_examples} examples",
                "Active units are those of amortised latents; there are none here.",
            )
        )
    return value.reshape(num_examples, -1)
