"""The aggregate posterior: the mixture of q(z | x_i) over the data, against the prior."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from ppl_vae import checks, devices
from ppl_vae.closed_forms.kl import kl_normal_standard
from ppl_vae.diagnostics.aggregate.draws import information, mean_over_first, moments
from ppl_vae.diagnostics.aggregate.result import AggregatePosterior, PerDimension
from ppl_vae.diagnostics.aggregate.standard_code import has_standard_code
from ppl_vae.diagnostics.estimate import Estimate
from ppl_vae.functions import copied
from ppl_vae.inference.batches import DataLike, as_batches, first_examples, in_order
from ppl_vae.pair import Pair
from ppl_vae.seeding import Seed, as_int, derive, seeded

MINIMUM_SAMPLES = 32
MINIMUM_EFFECTIVE = 12
_FEW = (
    f"Fewer than {MINIMUM_EFFECTIVE} draws carry the noise, so that the standard error may be too "
    "small: raise num_samples."
)


@checks.own_words()
def aggregate_posterior(
    pair: Pair,
    x: DataLike,
    *,
    num_samples: int = 1000,
    batch_size: int = 1000,
    active_threshold: float = 0.01,
    seed: Seed = 0,
    device: str | torch.device = "auto",
) -> AggregatePosterior:
    """Measure the mixture of the guide's q(z | x_i) over data against the standard Normal prior.

    See `aggregate_normals` for the formulas. The pair is copied, and it, Pyro's param store and
    the global random state stay as they are.

    Args:
        pair: a `ppl_vae.VAE` as it is by default, or another pair with
            ``encode(x) -> loc, scale`` and a standard Normal prior.
        x: the data, as the pair takes them (a tensor, a tuple of its arguments, or a mapping), a
            Dataset, a DataLoader, or an `ImageData`.
        num_samples: draws from the mixture, at least 32.
        batch_size: examples that are encoded at a time.
        active_threshold: on Var_x(E_q[z | x]), above 0.
        seed: of the draws, and of the binarisation of an `ImageData`.
        device: ``auto`` is the GPU where there is one.

    Returns:
        The divergences and the mutual information, in nats, joint and by latent dimension.

    Raises:
        TypeError: `pair` is no pair, data or an option of a wrong kind.
        NotImplementedError: a pair without ``encode``, one whose guide draws something else, or
            whose prior is no standard Normal.
        ValueError: data that the pair cannot score, networks that give NaN, or a number out of
            range.

    Example:
        >>> from ppl_vae import BernoulliVAE
        >>> pair = BernoulliVAE((1, 3, 3), latent_dim=2, hidden=(4,), seed=0)
        >>> result = aggregate_posterior(pair, pair.sample(10, seed=0), device="cpu")
        >>> result.moment_matched_kl < result.mean_kl
        True
    """
    if not isinstance(pair, Pair):
        raise TypeError(
            checks.message("a ppl_vae.VAE", type(pair).__name__, "Build one of ppl_vae.models.")
        )
    checks.count("batch_size", batch_size)
    _check_options(num_samples, active_threshold)
    number = as_int(seed)
    pair = copied(pair).to(devices.resolve(device))
    with torch.no_grad(), seeded(derive(number, "data"), pair.device):
        subject, data = as_batches(pair, x)
        if not has_standard_code(subject, first_examples(data, batch_size, pair)):
            raise NotImplementedError(
                checks.message(
                    "a pair with encode(x) -> loc, scale of its guide's only latent, and a "
                    "standard Normal prior, as a VAE has by default",
                    type(pair).__name__,
                    "If its q(z | x) are Normals, pass loc and scale to aggregate_normals.",
                )
            )
        encode: Any = subject.encode
        codes = [encode(batch) for batch in in_order(data, batch_size, pair)]
    loc, scale = (torch.cat(parts) for parts in zip(*codes, strict=True))
    return aggregate_normals(
        loc,
        scale,
        num_samples=num_samples,
        active_threshold=active_threshold,
        seed=derive(number, "draws"),
    )


@torch.no_grad()
def aggregate_normals(
    loc: Tensor,
    scale: Tensor,
    *,
    num_samples: int = 1000,
    active_threshold: float = 0.01,
    seed: Seed = 0,
) -> AggregatePosterior:
    """Measure a mixture of diagonal Normals, equally weighted, against the standard Normal p.

        mean_kl             mean over i of KL(q_i || p)
        mutual_information  E[log q_i(z) - log q(z)] = log count - E[H(i | z)],
                            i uniform, z ~ q_i, q = mean of all q_k, H the entropy
        aggregate_kl        KL(q || p) = mean_kl - mutual_information
        moment_matched_kl   KL(g || p),    g the Normal with the mean and the covariance of q

    Args:
        loc: of the components, (count, latent_dim), finite.
        scale: of the components, (count, latent_dim), above 0.
        num_samples: draws from the mixture, at least 32, stratified over the components. Each is
            compared with every component, `num_samples * count * latent_dim` exponentials in all
            (about 4 ns each on one core); memory does not grow with their number.
        active_threshold: on the variance of loc over the components, above 0.
        seed: an int, a ``torch.Generator``, or None for a fresh stream. The global random state
            stays as it is.

    Returns:
        The divergences and the mutual information, in nats, joint and by latent dimension, the
        latter of the dtype and on the device that came. Computed in float64. What is not Monte
        Carlo is right to rounding, except for `moment_matched_kl` where scales are below about
        1e-12 of the spread of locs that lie on a line or plane: the covariance is then singular.
        An estimate whose standard error few draws decide says so in its ``warning``.

    Raises:
        TypeError: not floating-point tensors, or an option of a wrong kind.
        ValueError: no components, shapes that differ, NaN, a scale that is not above 0, tensors
            on several devices, or a number out of range.

    Source:
        mean_kl - KL(q || p) = E[log q_i(z) - log q(z)], the mutual information of i and z
        (Hoffman and Johnson 2016); it is at most log(count), since q >= q_i / count. KL(q || p) -
        KL(g || p) = KL(q || g) >= 0, since log g - log p is quadratic and q and g agree on its
        mean.

    Example:
        >>> loc = torch.tensor([[-50.0], [50.0]])
        >>> result = aggregate_normals(loc, torch.ones(2, 1))
        >>> round(result.mutual_information.mean, 4), result.at_ceiling
        (0.6931, True)
    """
    _check_options(num_samples, active_threshold)
    _check_components(loc, scale)
    dtype = torch.promote_types(loc.dtype, scale.dtype)
    loc, scale = loc.double(), scale.double()
    found = moments(loc, scale)
    with seeded(seed, loc.device):
        drawn = information(loc, scale, found, num_samples)
    kl = mean_over_first(kl_normal_standard(loc, scale))
    # Of N(m, L L') this is the sum over the diagonal of L, and half the squares below it.
    matched = kl_normal_standard(found.mean, found.factor.diagonal())
    matched = matched + found.factor.tril(-1).square().sum(-1) / 2
    active = found.loc_variance > active_threshold
    mean_kl, gap = float(kl.sum()), float(drawn.mean[-1])
    few = drawn.effective_draws < MINIMUM_EFFECTIVE
    joint = float(drawn.error[-1]), num_samples, _FEW if bool(few[-1]) else ""
    gaps = drawn.mean[:-1]
    each = drawn.error[:-1].to(dtype), num_samples, _FEW if bool(few[:-1].any()) else ""
    return AggregatePosterior(
        mean_kl=mean_kl,
        aggregate_kl=Estimate(mean_kl - gap, *joint),
        moment_matched_kl=float(matched.sum()),
        mutual_information=Estimate(gap, *joint),
        active_units=int(active.sum()),
        num_examples=len(loc),
        per_dimension=PerDimension(
            mean_kl=kl.to(dtype),
            aggregate_kl=Estimate((kl - gaps).to(dtype), *each),
            moment_matched_kl=kl_normal_standard(found.mean, found.spread).to(dtype),
            mutual_information=Estimate(gaps.to(dtype), *each),
            loc_variance=found.loc_variance.to(dtype),
            active_units=active,
        ),
    )


def _check_options(num_samples: int, active_threshold: float) -> None:
    checks.count("num_samples", num_samples, minimum=MINIMUM_SAMPLES)
    checks.positive_number("active_threshold", active_threshold)


def _check_components(loc: Tensor, scale: Tensor) -> None:
    checks.floating("loc", loc)
    checks.floating("scale", scale)
    if loc.dim() != 2 or loc.shape != scale.shape:
        raise ValueError(
            checks.message(
                "loc and scale of one shape (count, latent_dim)",
                f"loc {tuple(loc.shape)}, scale {tuple(scale.shape)}",
                "Pass a row for every component.",
            )
        )
    checks.nonempty("loc", loc)
    if loc.device != scale.device:
        raise ValueError(
            checks.message(
                "loc and scale on one device", f"{loc.device} and {scale.device}", "Move one."
            )
        )
    checks.finite("loc", loc)
    checks.positive("scale", scale)
