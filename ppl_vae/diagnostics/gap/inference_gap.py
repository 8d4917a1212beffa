"""How far the guide's ELBO is below the evidence, and how much of that each cause explains."""

from __future__ import annotations

from functools import partial

import torch

from ppl_vae import checks, devices
from ppl_vae.batch import Data
from ppl_vae.diagnostics.evidence.log_evidence import METHODS, log_evidence
from ppl_vae.diagnostics.evidence.result import joined
from ppl_vae.diagnostics.gap.best_gaussian import FAMILIES, best_gaussian
from ppl_vae.diagnostics.gap.gaussian_code import GaussianCode
from ppl_vae.diagnostics.gap.guide_and_best import GuideAndBest, guide_and_best
from ppl_vae.diagnostics.gap.result import InferenceGap
from ppl_vae.diagnostics.quadrature.gauss import LARGEST_DIMENSION
from ppl_vae.functions import Functions, as_program, copied
from ppl_vae.inference.batches import (
    DataLike,
    LoaderBatches,
    all_examples,
    as_batches,
    in_order,
    together,
)
from ppl_vae.inference.loaders import require_order
from ppl_vae.pair import Pair, leaving_no_params
from ppl_vae.seeding import Seed, as_int, derive, seeded

_AT_ONCE = 250  # examples
_GATHERED = 1000


@checks.own_words()
def inference_gap(
    pair: Pair | Functions,
    x: DataLike,
    *,
    family: str = "diagonal",
    method: str | None = None,
    num_samples: int = 1000,
    num_evidence_samples: int | None = None,
    evidence_tolerance: float = 1e-3,
    num_starts: int = 3,
    num_steps: int = 100,
    tolerance: float = 3e-2,
    max_bytes: float = 2.5e8,
    seed: Seed = 0,
    device: str | torch.device = "auto",
) -> InferenceGap:
    """Split log p(x) - ELBO into what the guide's family and what its network cost, per example.

        total         = log p(x) - ELBO(q)
        approximation = log p(x) - ELBO(q*)     q* the best Gaussian for this example alone
        amortisation  = ELBO(q*) - ELBO(q)      q the guide's, from a network for all examples

    q* is found by optimisation from the guide and from other starts; where the result is not
    better than the guide, q* is the guide. If a posterior has several modes, the highest optimum
    found counts. The pair is copied and put into evaluation mode; it, Pyro's param store
    and the global random state stay as they are.

    Args:
        pair: a `ppl_vae.VAE`, or any pair (or model and guide as a tuple of two functions) whose
            guide draws one Normal code per example and whose prior is on all of R^n.
        x: the data, as the pair takes them (a tensor, a tuple of its arguments, or a mapping), a
            Dataset, or an `ImageData`.
        family: covariance of q*, ``diagonal`` or ``full``.
        method: how log p(x) is found, as `log_evidence` takes it; None is ``exact`` where the
            pair has it, ``quadrature`` for one or two latent dimensions, else ``iwae``, here
            with draws from q* instead of the guide.
        num_samples: draws for the ELBOs, at least 4, in pairs of opposites, the same for q and
            q*; not used for one or two latent dimensions, where they are integrated by a
            Gauss-Hermite rule of 32 points per dimension.
        num_evidence_samples: draws for log p(x), where `method` uses draws; None as in
            `log_evidence`.
        evidence_tolerance: error of log p(x) by ``quadrature``, in nats.
        num_starts: of the search, for every example; the first is the guide.
        num_steps: evaluations of each search, at most.
        tolerance: of the natural gradient's length at q*, in sqrt(nats): half its square is about
            what is left to gain.
        max_bytes: about what the tensors of one evaluation of the networks may hold.
        seed: of the draws, and of the binarisation of an `ImageData`.
        device: ``auto`` is the GPU where there is one.

    Returns:
        Per example, in nats, of the pair's dtype. Standard errors of ``amortisation`` come from
        common noise and are far smaller than those of the two ELBOs; those of the other two gaps
        add the evidence's. With ``iwae`` log p(x) is bounded from below in expectation, and so
        are ``total`` and ``approximation``.

    Raises:
        TypeError: `pair` is no pair, data or an option of a wrong kind.
        ValueError: data that the pair cannot score, an unknown family or method, a number out of
            range, ``quadrature`` with more than two latent dimensions, a guide with full
            covariance for the family ``diagonal``, or networks that give NaN.
        NotImplementedError: a pair without one Gaussian code per example; ``exact`` for a pair
            without a closed form.

    Source:
        Cremer, Li and Duvenaud (2018), Inference suboptimality in variational autoencoders,
        eqs. 2 to 5.

    Example:
        >>> from ppl_vae import LinearGaussian
        >>> pair = LinearGaussian(data_dim=4, latent_dim=2, seed=0)
        >>> gap = inference_gap(pair, pair.sample(3, seed=0), family="full", device="cpu")
        >>> bool((gap.approximation.mean.abs() < 1e-3).all())
        True
        >>> bool((gap.amortisation.mean > 0).all())
        True
    """
    checks.name("family", family, FAMILIES)
    checks.count("num_samples", num_samples, minimum=4)
    checks.count("num_starts", num_starts)
    checks.count("num_steps", num_steps)
    if method is not None:
        checks.name("method", method, METHODS)
    checks.positive_number("evidence_tolerance", evidence_tolerance)
    checks.positive_number("tolerance", tolerance)
    checks.positive_number("max_bytes", max_bytes)
    target, number = devices.resolve(device), as_int(seed)
    with leaving_no_params(), seeded(derive(number, "gap data"), target):
        subject, data = _subject(pair, x, target)
        code = GaussianCode(subject, data, max_bytes=max_bytes)
        _check_family(code, family)
        chosen = method or _default_method(subject, code.latent_dim)
        evidence = partial(
            log_evidence,
            method=chosen,
            num_samples=num_evidence_samples,
            tolerance=evidence_tolerance,
            seed=derive(number, "gap evidence"),
            device=subject.device,
            plate=code.plate,
        )
        # Before the search, so that what it cannot serve is refused at once.
        program = subject if isinstance(pair, Pair) else pair
        evidences = [] if chosen == "iwae" else [evidence(program, data)]
        search = partial(
            best_gaussian,
            family=family,
            num_starts=num_starts,
            num_steps=num_steps,
            tolerance=tolerance,
        )
        parts = [code.part(slice(n, n + _AT_ONCE)) for n in range(0, len(data), _AT_ONCE)]
        found = [
            guide_and_best(part, search, num_samples, derive(number, "gap", place))
            for place, part in enumerate(parts)
        ]
        if chosen == "iwae":
            # The best Gaussians are better proposals than the guide, by far where it errs.
            evidences = [
                evidence(part.with_guide(result.best), part.x)
                for part, result in zip(parts, found, strict=True)
            ]
    return InferenceGap.of(
        code,
        log_evidence=joined(evidences).per_example(),
        found=GuideAndBest.concatenated(found),
        tolerance=tolerance,
        family=family,
        method=chosen,
    )


def _subject(pair: Pair | Functions, x: DataLike, device: torch.device) -> tuple[Pair, Data]:
    """Return a copy of the pair in evaluation mode, and the data, checked, on its device."""
    if isinstance(pair, Pair):
        subject, data = as_batches(copied(pair).to(device).eval(), x)
        if isinstance(data, LoaderBatches):
            require_order(data.loader)
        with torch.no_grad():
            gathered = together(list(in_order(data, _GATHERED, subject)))
    else:
        subject, gathered = as_program(pair, all_examples(x))
        gathered = gathered.to(subject.device)
    subject.check(gathered)
    return subject, gathered


def _check_family(code: GaussianCode, family: str) -> None:
    if family == "diagonal" and not code.is_diagonal:
        raise ValueError(
            checks.message(
                "a family that holds the guide's own Gaussians",
                "'diagonal', and a guide with full covariance",
                "Pass family='full'.",
            )
        )


def _default_method(pair: Pair, latent_dim: int) -> str:
    if hasattr(pair.exact, "log_evidence"):
        return "exact"
    return "quadrature" if latent_dim <= LARGEST_DIMENSION else "iwae"
