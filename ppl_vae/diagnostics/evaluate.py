"""How good a pair is on some data: ELBO, evidence, and what its latents hold."""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor

from ppl_vae import checks
from ppl_vae.diagnostics.aggregate.active_units import ActiveUnits, active_units
from ppl_vae.diagnostics.aggregate.posterior import aggregate_posterior
from ppl_vae.diagnostics.aggregate.result import AggregatePosterior
from ppl_vae.diagnostics.aggregate.standard_code import has_standard_code
from ppl_vae.diagnostics.estimate import Estimate
from ppl_vae.diagnostics.evaluation import Evaluation
from ppl_vae.diagnostics.evidence.importance_weights import log_weights
from ppl_vae.diagnostics.evidence.log_evidence import DEFAULT_BYTES, log_evidence
from ppl_vae.diagnostics.evidence.subject import Subject, prepared
from ppl_vae.diagnostics.worst import worst_examples
from ppl_vae.functions import Functions
from ppl_vae.inference.batches import DataLike, together
from ppl_vae.inference.saving.fingerprint import fingerprint
from ppl_vae.pair import Pair
from ppl_vae.seeding import Seed, as_int, derive, reseed

ACTIVE_EXAMPLES = 1000


@checks.own_words()
def evaluate(
    pair: Pair | Functions,
    data: DataLike,
    *,
    method: str = "iwae",
    num_samples: int | None = None,
    num_elbo_samples: int = 100,
    seed: Seed = 0,
    device: str | torch.device = "auto",
    max_bytes: int = DEFAULT_BYTES,
    split: str | None = None,
    binarize: str | None = None,
    progress: Callable[[int], None] | None = None,
) -> Evaluation:
    """Measure ELBO, evidence, active units and, where it holds, the aggregate posterior.

    ELBO and evidence are of the same binarised images. The aggregate posterior is measured for
    pairs with ``encode(x) -> loc, scale`` whose only latent has a standard Normal prior. Their
    active units come from ``encode``, those of other pairs from draws of the guide for at most the
    first 1000 examples. What cannot be measured for a pair is None, and ``Evaluation.notes`` says
    why.

    Args:
        pair: a `Pair`, or a Pyro model and its guide as a tuple of two functions.
        data: as the pair takes them, a Dataset, a DataLoader that does not shuffle, or an
            `ImageData`.
        method: of the evidence; see `log_evidence`.
        num_samples: of the evidence; see `log_evidence`.
        num_elbo_samples: draws per example for the ELBO, at least 2.
        seed: of the draws, and of the binarisation of an `ImageData`.
        device: ``auto`` is the GPU where there is one; for functions, where the data are.
        max_bytes: that the draws of a block of examples may take, approximately.
        split: which part of the data it is, to be printed; an `ImageData` knows it.
        binarize: how pixels became binary, to be printed; an `ImageData` knows it.
        progress: called with the number of examples whose evidence is done.

    Returns:
        Everything per example and on average, in nats.

    Raises:
        TypeError: as `log_evidence`.
        ValueError: as `log_evidence`.
        NotImplementedError: as `log_evidence`; no plate ``data`` over the examples.

    Example:
        >>> from ppl_vae import BernoulliVAE
        >>> pair = BernoulliVAE((1, 3, 3), latent_dim=2, hidden=(4,), seed=0)
        >>> found = evaluate(pair, pair.sample(20, seed=0), num_samples=100, device="cpu")
        >>> bool(found.gap.mean > 0), len(found.evidence), found.active_units["z"].variance.shape
        (True, 20, torch.Size([2]))
    """
    if progress is not None:
        checks.function("progress", progress)
    checks.count("num_elbo_samples", num_elbo_samples, minimum=2)
    number = as_int(seed)
    evidence = log_evidence(
        pair,
        data,
        method=method,
        num_samples=num_samples,
        seed=number,
        device=device,
        max_bytes=max_bytes,
        split=split,
        binarize=binarize,
        progress=progress,
    )
    # The stream that log_evidence gives the data.
    with prepared(pair, data, seed=derive(number, "data"), device=device) as subject:
        _check_examples(subject, len(evidence))
        elbo = _elbo(subject, num_elbo_samples, max_bytes, derive(number, "elbo"))
        notes: list[str] = []
        reseed(derive(number, "look"), subject.device)
        aggregate = _aggregate(subject, derive(number, "aggregate"), notes)
        if aggregate is None:
            units = _units(subject, derive(number, "units"), notes)
        else:
            variance = aggregate.per_dimension.loc_variance
            units = {"z": ActiveUnits(aggregate.active_units, variance)}
        worst = worst_examples(subject, evidence.mean)
    of = fingerprint(*pair.state_dict().values()) if isinstance(pair, Pair) else None
    return Evaluation(subject.name, evidence, elbo, units, aggregate, tuple(notes), worst, of)


def _check_examples(subject: Subject, num_evidences: int) -> None:
    pair = subject.pair
    count = pair.num_examples if isinstance(pair, Pair) else len
    num_examples = sum(count(x) if x.dim() else 1 for x in subject.chunks())
    if num_evidences != num_examples:
        raise NotImplementedError(
            checks.message(
                f"a plate 'data' over the {num_examples} examples",
                f"{num_evidences} evidences: examples that are not independent, or another name",
                "Name the plate over the examples 'data', or see log_evidence(..., plate=...).",
            )
        )


def _elbo(subject: Subject, num_samples: int, max_bytes: int, seed: int) -> Estimate[Tensor]:
    """Return the mean of the log-weights of every example."""
    particles = subject.particles("data")
    means, errors = [], []
    for index, x in enumerate(subject.chunks()):
        options = {"num_samples": num_samples, "max_bytes": max_bytes}
        for weights in log_weights(particles, x, **options, seed=derive(seed, index)):
            means.append(weights.double().mean(0))
            errors.append(weights.double().std(0) / num_samples**0.5)
    mean, error = (torch.cat(parts).to(subject.dtype) for parts in (means, errors))
    return Estimate(mean, error, num_samples)


def _aggregate(subject: Subject, seed: int, notes: list[str]) -> AggregatePosterior | None:
    pair = subject.pair
    if not isinstance(pair, Pair) or not has_standard_code(pair, next(subject.chunks())):
        notes.append(
            "no aggregate posterior: it is measured of pairs with encode(x) -> loc, scale and one "
            "latent with a standard Normal prior"
        )
        return None
    x = together(list(subject.chunks()))
    return aggregate_posterior(pair, x, seed=seed, device=subject.device)


def _units(subject: Subject, seed: int, notes: list[str]) -> dict[str, ActiveUnits] | None:
    x = next(subject.chunks())[:ACTIVE_EXAMPLES]
    try:
        return active_units(subject.pair, x, seed=seed)
    except (NotImplementedError, ValueError) as error:
        notes.append(f"no active units: {error}")
        return None
