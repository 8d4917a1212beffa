"""Draws of a pair as ArviZ's DataTree."""

from __future__ import annotations

from importlib import import_module
from typing import Any

import torch
from torch import Tensor

from ppl_vae import checks
from ppl_vae.batch import Data
from ppl_vae.diagnostics.evidence.density.particles import Particles
from ppl_vae.diagnostics.evidence.importance_weights import blocks, summarise
from ppl_vae.diagnostics.evidence.log_evidence import DEFAULT_BYTES
from ppl_vae.diagnostics.evidence.subject import prepared
from ppl_vae.elbos.sites.traces import Site, latent_sites, observed_sites
from ppl_vae.elbos.weights import PARTICLES, Weights
from ppl_vae.functions import Functions
from ppl_vae.inference.batches import DataLike
from ppl_vae.pair import Pair
from ppl_vae.seeding import Seed, as_int, derive

_PLATE = "data"
_DIMS = {"chain", "draw"}  # a variable of such a name would be lost
_GROUPS = ("posterior", "log_likelihood", "sample_stats", "observed_data")

# By group and variable: (samples, examples, ...); of what was observed one sample.
Found = dict[tuple[str, str], Tensor]


@checks.own_words()
def to_arviz(
    pair: Pair | Functions,
    x: DataLike,
    *,
    num_samples: int = 1000,
    num_chains: int = 4,
    seed: Seed = 0,
    device: str | torch.device = "auto",
    max_bytes: int = DEFAULT_BYTES,
) -> Any:  # noqa: ANN401
    """Return draws of the guide, with their densities, as ArviZ's ``xarray.DataTree``.

    Its groups are

        posterior         each latent z ~ q(z | x_i)           (chain, draw, data, ...)
        log_likelihood    log p(x_i | z) of what is observed   (chain, draw, data)
        sample_stats      log_weight, log p(x_i, z) / q(z | x_i)
                                                               (chain, draw, data)
                          pareto_k of these weights            (data)
        observed_data     what is observed                     (data, ...)

    The posterior group holds the guide's draws as they are, which the weights make the
    posterior's. They are independent: the chains are there for plots that compare chains.
    ``arviz.loo`` takes them for the posterior's. Where each example has latents of its own, what
    it estimates by leaving out x_i is log p(x_i); to have that of the weights, pass it

        log_weights = log_weight - log_likelihood - log(num_samples)    and    pareto_k.

    Where several sites are observed, ``arviz.loo`` wants the name of one, ``var_name="x"``.

    Args:
        pair: a `Pair`, or a Pyro model and its guide as a tuple of two functions; a plate
            ``data`` is over the examples.
        x: the examples, as `evaluate` takes them. All draws are held in memory.
        num_samples: draws per example, over all chains.
        num_chains: into how many they are dealt.
        seed: of the draws, and of the binarisation of an `ImageData`.
        device: ``auto`` is the GPU where there is one; for functions, where the data are.
        max_bytes: that the draws of a block of examples may take on the device, approximately.

    Returns:
        The tree, densities in nats.

    Raises:
        ImportError: the extra ``arviz`` is not installed.
        TypeError: as `log_evidence`.
        ValueError: as `log_evidence`; chains that do not divide the samples; a site of the name
            ``chain`` or ``draw``.
        NotImplementedError: as `log_evidence`.

    Source:
        Vehtari and others, Pareto smoothed importance sampling, 2024.

    Example:
        ``arviz.loo(to_arviz(pair, x))``
    """
    checks.count("num_samples", num_samples, minimum=2)
    if num_samples % checks.count("num_chains", num_chains):
        raise checks.value_error(
            "num_samples as a multiple of num_chains",
            f"{num_samples} and {num_chains}",
            "Change one of them.",
        )
    try:
        arviz = import_module("arviz_base")
    except ImportError:
        raise checks.extra("arviz", "arviz_base") from None
    number = as_int(seed)
    parts: list[Found] = []
    with prepared(pair, x, seed=derive(number, "data"), device=device) as subject:
        particles = subject.particles(_PLATE)
        for index, chunk in enumerate(subject.chunks()):
            for found in blocks(
                lambda part, count: _measured(particles, part, count),
                particles,
                chunk,
                num_samples=num_samples,
                max_bytes=max_bytes,
                seed=derive(number, index),
            ):
                parts.append(_joined(found, 0))
    return _tree(arviz, _joined(parts, 1), num_chains)


def _measured(particles: Particles, x: Data, count: int) -> Found:
    """Return what the tree holds of some examples; draws random numbers."""
    draws = particles.draws(x, count)
    found = []
    for draw in draws:
        weights = Weights([draw], particles.plate)
        seen, latent = observed_sites(draw.model), latent_sites(draw.guide)
        some: Found = {("sample_stats", "log_weight"): weights.log_ratios}
        some |= {("posterior", n): _by_example(s, particles.plate) for n, s in latent.items()}
        for name, site in seen.items():
            likelihood = weights.of_site(site, site["log_prob"])
            some["log_likelihood", name] = likelihood.expand_as(weights.log_ratios)
            some["observed_data", name] = _by_example(site, particles.plate)
        found.append(some)
    return _joined(found, 0)


def _by_example(site: Site, plate: str) -> Tensor:
    """Return a site's value, (particles, examples, other plates, event)."""
    value, event_dim = site["value"], site["fn"].event_dim
    places = {f.name: f.dim - event_dim for f in site["cond_indep_stack"] if f.dim is not None}
    for name in (plate, PARTICLES):
        places.setdefault(name, min([-value.dim(), *places.values()]) - 1)
    value = value[(None,) * (-min(places.values()) - value.dim())]
    first = [places.pop(PARTICLES), places.pop(plate)]
    kept = [*sorted(places.values()), *range(-event_dim, 0)]
    unused = [d for d in range(-value.dim(), 0) if d not in (*first, *kept)]  # of size 1
    return value.permute(*unused, *first, *kept)[(0,) * len(unused)]


def _joined(parts: list[Found], dim: int) -> Found:
    """Return parts behind each other, of the draws (0) or of the examples (1)."""

    def whole(key: tuple[str, str]) -> Tensor:
        if key[0] == "observed_data" and dim == 0:
            return parts[0][key][:1]
        return torch.cat([part[key].cpu() for part in parts], dim)

    return {key: whole(key) for key in parts[0]}


def _tree(arviz: Any, found: Found, num_chains: int) -> Any:  # noqa: ANN401
    taken = {name for _, name in found} & _DIMS
    if taken:
        raise checks.value_error(
            "sites of other names than ArviZ's dimensions", f"{min(taken)!r}", "Rename the site."
        )
    groups: dict[str, dict[str, Any]] = {name: {} for name in _GROUPS}
    for (group, name), value in found.items():
        dealt = value[0] if group == "observed_data" else value.unflatten(0, (num_chains, -1))
        groups[group][name] = dealt.numpy()
    dims = {name: [_PLATE] for _, name in found}
    tree = arviz.from_dict(groups, dims=dims, check_conventions=False)
    pareto_k = summarise(found["sample_stats", "log_weight"]).pareto_k
    stats = tree["sample_stats"]
    stats.dataset = stats.to_dataset().assign(pareto_k=(_PLATE, pareto_k.numpy()))
    return tree
