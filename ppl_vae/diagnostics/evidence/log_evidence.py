"""The evidence of a pair's data, by the estimator of one's choice."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import Any

import torch

from ppl_vae import checks
from ppl_vae.batch import Data
from ppl_vae.diagnostics.evidence.annealing.annealed import (
    DEFAULT_CHAINS,
    Annealing,
    annealed_evidence,
)
from ppl_vae.diagnostics.evidence.grids.quadrature import quadrature_evidence
from ppl_vae.diagnostics.evidence.importance_weights import importance_evidence
from ppl_vae.diagnostics.evidence.result import Evidence, Source, cast, joined, without_weights
from ppl_vae.diagnostics.evidence.subject import Subject, prepared
from ppl_vae.diagnostics.evidence.thermodynamic import Partition, thermodynamic_evidence
from ppl_vae.functions import Functions
from ppl_vae.inference.batches import DataLike
from ppl_vae.pair import Pair
from ppl_vae.seeding import Seed, as_int, derive

DEFAULT_SAMPLES = 5000
DEFAULT_BYTES = 512 * 2**20
_ESTIMATES: dict[str, Callable[..., Evidence]] = {
    "iwae": importance_evidence,
    "quadrature": quadrature_evidence,
    "ais": annealed_evidence,
    "thermodynamic": thermodynamic_evidence,
}
METHODS = (*_ESTIMATES, "exact")


@checks.own_words()
def log_evidence(
    pair: Pair | Functions,
    x: DataLike,
    *,
    method: str = "iwae",
    num_samples: int | None = None,
    seed: Seed = 0,
    device: str | torch.device = "auto",
    max_bytes: int = DEFAULT_BYTES,
    num_temperatures: int = 200,
    num_leapfrog: int = 5,
    spacing: str = "adaptive",
    tolerance: float = 9e-5,
    plate: str = "data",
    split: str | None = None,
    binarize: str | None = None,
    progress: Callable[[int], None] | None = None,
) -> Evidence:
    """Estimate log p(x_i) of every example.

    * ``iwae``: ``log (1/S) sum_s p(x, z_s) / q(z_s | x)``, z_s from the guide. Its expectation is
      a lower bound, too low by about half its squared standard error; see ``Evidence.bias``.
      Serves every model and guide.
    * ``quadrature``: the integral over z itself, for one or two latent numbers per example, to
      `tolerance`, and the sum over all values of discrete latents that have finitely many;
      ``standard_error`` is a bound of the numerical error. Pairs are integrated in float64,
      functions in the dtype of the data.
    * ``ais``: annealed importance sampling from the guide to the posterior by Hamiltonian steps,
      for continuous latents, in unconstrained coordinates. A lower bound too, and the tighter the
      more temperatures; see `bidirectional_evidence` for an upper bound.
    * ``thermodynamic``: two sums of the integral of E[log p(x, z) - log q(z | x)] along the path
      ``q^(1-b) p^b`` from guide to posterior, by weights as of ``iwae``. The left sum,
      ``mean``, is a lower bound in expectation, though never above ``iwae`` by the same draws.
      The right sum, ``upper``, is an upper bound once the draws are many: self-normalised weights
      are biased, and where Pareto k is above 0.7 a warning says that it bounds nothing. Serves
      every model and guide. The result is a `TwoSidedEvidence`.
    * ``exact``: ``pair.exact.log_evidence(x)``, where the pair has it.

    The pair is copied and put into evaluation mode; it, Pyro's param store and the global random
    state stay as they are. The same seed gives the same numbers for every `max_bytes` of at least
    32 MiB by ``iwae``; a smaller one may cut the draws differently.

    Args:
        pair: a `Pair`, or a Pyro model and its guide as a tuple of two functions. Without the
            plate `plate` all data are one example.
        x: the data as the pair takes them (a tensor, a tuple of its arguments, or a mapping), a
            Dataset, a DataLoader that does not shuffle, or an `ImageData`, which is binarised
            once.
        method: one of the five.
        num_samples: importance weights per example, at least 2: by default 5000 by ``iwae`` and
            ``thermodynamic``, and 32 by ``ais``, where each is a chain. The other two take none.
        seed: of the draws, and of the binarisation of an `ImageData`.
        device: ``auto`` is the GPU where there is one; for functions, where the data are.
        max_bytes: that the draws of a block of examples may take, approximately.
        num_temperatures: from guide to posterior: steps of ``ais``, intervals of
            ``thermodynamic``.
        num_leapfrog: leapfrog steps of each transition of ``ais``.
        spacing: of the points of ``thermodynamic``: ``adaptive`` (for each example where its
            weights bring the sums nearest, at no further run of the program), ``uniform``, or
            ``log``, equal ratios from 0.001.
        tolerance: of ``quadrature``, in nats, below 1.
        plate: name of the plate over the examples.
        split: which part of the data `x` is, to be printed; an `ImageData` knows it.
        binarize: how pixels became binary, to be printed; an `ImageData` knows it.
        progress: called with the number of examples that are done, after every part.

    Returns:
        Mean and standard error of every example, (batch,), in nats, with effective sample size and
        Pareto k of the weights; of the pair's dtype and on the device; nothing is reduced.

    Raises:
        TypeError: neither a pair nor two functions, data or an option of a wrong kind.
        ValueError: an unknown method or spacing, a number out of range, data that the pair cannot
            score, ``quadrature`` with more than two continuous latent numbers or too many states,
            weights that are NaN, or a memory budget that one sample exceeds.
        NotImplementedError: ``exact`` for a pair without; a guide without a density; a plate that
            subsamples; latents that the examples share; discrete latents by ``ais``, and by
            ``quadrature`` if there are infinitely many values; auxiliary ones by both.

    Source:
        iwae: Burda, Grosse and Salakhutdinov 2015. ais: Neal 2001; Wu, Burda, Salakhutdinov and
        Grosse 2017. thermodynamic: Masrani, Le and Wood 2019. Pareto k: Vehtari and others, Pareto
        smoothed importance sampling, 2024.

    Example:
        >>> from ppl_vae import ExponentialNormal
        >>> pair = ExponentialNormal()
        >>> x = torch.tensor([1.2, 0.7, 1.1])
        >>> found = log_evidence(pair, x, num_samples=2000)
        >>> bool((found.mean - pair.exact.log_evidence(x)).abs() < 4.5 * found.standard_error)
        True
    """
    checks.name("method", method, METHODS)
    default = DEFAULT_CHAINS if method == "ais" else DEFAULT_SAMPLES
    samples = default if num_samples is None else num_samples
    checks.count("num_samples", samples, minimum=2)
    checks.count("max_bytes", max_bytes)
    checks.instance("plate", plate, str, "a name", "Leave it at 'data', or name another plate.")
    for name, value in {"split": split, "binarize": binarize}.items():
        checks.instance(name, value, str | None, "a name or None", "Data sets know their own.")
    if progress is not None:
        checks.function("progress", progress)
    if checks.positive_number("tolerance", tolerance) >= 1:
        raise ValueError(checks.message("tolerance below 1", f"{tolerance}", "Choose 1e-4."))
    options: dict[str, dict[str, Any]] = {
        "iwae": {"num_samples": samples},
        "ais": {"annealing": Annealing(samples, num_temperatures, num_leapfrog)},
        "quadrature": {"tolerance": tolerance},
        "thermodynamic": {
            "num_samples": samples,
            "partition": Partition(num_temperatures, spacing),
        },
    }
    number = as_int(seed)
    with prepared(pair, x, seed=derive(number, "data"), device=device) as subject:
        dtype, device = subject.dtype, subject.device
        if method == "quadrature":
            subject = subject.in_float64()
        if method == "exact":
            estimate = _closed_form(subject)
        else:
            particles = subject.particles(plate)
            estimate = partial(
                _ESTIMATES[method], particles, max_bytes=max_bytes, **options[method]
            )
        parts: list[Evidence] = []
        for index, chunk in enumerate(subject.chunks()):
            parts.append(estimate(chunk, seed=derive(number, method, index)))
            if progress is not None:
                progress(sum(map(len, parts)))
    known = Source.of(x)
    source = Source(known.data, split or known.split, binarize or known.binarize)
    return cast(joined(parts), dtype, device, source)


def _closed_form(subject: Subject) -> Callable[..., Evidence]:
    formula = getattr(getattr(subject.pair, "exact", None), "log_evidence", None)
    if formula is None:
        raise NotImplementedError(
            checks.message(
                "a pair with a closed-form log evidence for method='exact'",
                subject.name,
                "Use method='iwae', or 'quadrature' for one or two latent dimensions.",
            )
        )

    @torch.no_grad()
    def estimate(x: Data, seed: int) -> Evidence:
        mean = formula(x).reshape(-1)
        return without_weights(mean, torch.zeros_like(mean), "exact", 0)

    return estimate
