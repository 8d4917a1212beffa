"""Importance weights, one per data point of a plate."""

from __future__ import annotations

import math
from collections.abc import Iterable

import torch
from pyro.poutine.indep_messenger import CondIndepStackFrame
from torch import Tensor

from ppl_vae import checks
from ppl_vae.elbos.sites.draws import Draw
from ppl_vae.elbos.sites.traces import Site, density_sites, latent_sites

PARTICLES = "num_particles_vectorized"


class Weights:
    """Logarithms of the importance weights of all particles, data point by data point.

    Masks hide entries from the weights. The factor by which a plate that subsamples scales its
    sites is taken out of them, as it belongs outside of the logarithm.

    Attributes:
        log_p: log p(x, z), (num_particles, size) or (num_particles, 1), by draw.
        log_q: log q(z), likewise.
        rest: log-densities of what is observed outside of the plate, a scalar.
        scale: of the plate's data points: full size over subsample size.
    """

    def __init__(self, draws: list[Draw], plate: str) -> None:
        self._plate = plate
        sites = density_sites(draws[0].model)
        frames = {frame.name: frame for site in sites.values() for frame in _stack(site)}
        self._frame = frames.get(plate)
        _check_frames(frames.values(), plate)
        if not latent_sites(draws[0].guide):
            raise checks.value_error(
                "at least one latent site", "none", "There is nothing to infer."
            )
        self.scale = 1.0 if self._frame is None else _factor(self._frame)
        log_p, log_q, outside = [], [], []
        for draw in draws:
            in_model, latents = density_sites(draw.model), latent_sites(draw.model)
            out = {n: s for n, s in in_model.items() if n not in latents and not self._holds(s)}
            inside = {n: s for n, s in in_model.items() if n not in out}
            log_p.append(self._by_data_point(inside))
            log_q.append(self._by_data_point(density_sites(draw.guide)))
            outside.append({n: _summed(s, [PARTICLES, ""])[:, 0] for n, s in out.items()})
        self.log_p = torch.cat(log_p)
        self.log_q = torch.cat(log_q)
        self.rest = self._outside(outside)
        self._sizes = [len(part) for part in log_p]

    @property
    def log_ratios(self) -> Tensor:
        """The weights' logarithms, (num_particles, size)."""
        return self.log_p - self.log_q

    def bound(self) -> Tensor:
        """Return ``scale * sum over data points of log(mean over particles of the weight)``."""
        log_mean = self.log_ratios.logsumexp(0) - math.log(len(self.log_p))
        return self.scale * log_mean.sum() + self.rest

    def normalised(self) -> Tensor:
        """Return the weights over their sum per data point, without a gradient."""
        return self.log_ratios.detach().softmax(0)

    def of_site(self, site: Site, values: Tensor) -> Tensor:
        """Sum `values` of a site's batch shape by data point, (particles of its draw, size)."""
        return _summed(site, [PARTICLES, self._plate], values)

    def by_draw(self, values: Tensor) -> list[Tensor]:
        """Cut (num_particles, size) into the parts that belong to each draw."""
        return list(values.split(self._sizes))

    def _holds(self, site: Site) -> bool:
        return self._frame is None or any(f.name == self._plate for f in _stack(site))

    def _by_data_point(self, sites: dict[str, Site]) -> Tensor:
        """Return the sum of the sites' log-densities, (particles, size)."""
        parts = []
        for name, site in sites.items():
            if not self._holds(site):
                raise checks.not_implemented(
                    f"every latent inside of the plate {self._plate!r}",
                    f"site {name!r} outside of it",
                    "A latent that data points share has no weight per data point: choose "
                    "'renyi', or another estimator.",
                )
            parts.append(_summed(site, [PARTICLES, self._plate]) / self.scale)
        return sum(parts[1:], parts[0])

    def _outside(self, log_probs: list[dict[str, Tensor]]) -> Tensor:
        """Return the mean over the particles of what was observed outside, once for all."""
        rest = self.log_p.new_zeros(())
        for name in log_probs[0]:
            values = torch.cat([each[name] for each in log_probs])
            # What depends on no latent is the same for all particles, apart from rounding.
            if not torch.allclose(values, values[0], rtol=1e-4):
                raise checks.not_implemented(
                    f"what depends on the latents inside of the plate {self._plate!r}",
                    f"site {name!r} outside of it",
                    "What data points share has no weight per data point: choose 'renyi', or "
                    "another estimator.",
                )
            rest = rest + values.mean()
        return rest


def _check_frames(frames: Iterable[CondIndepStackFrame], plate: str) -> None:
    for frame in frames:
        if frame.name == plate:
            if not frame.vectorized:
                raise checks.not_implemented(
                    f"the plate {plate!r} as a context",
                    "a loop over it",
                    f"Write: with pyro.plate({plate!r}, ...).",
                )
        elif _factor(frame) != 1:
            raise checks.not_implemented(
                f"no plate but {plate!r} that subsamples",
                f"the plate {frame.name!r}, {frame.size} of {frame.full_size}",
                "Its factor would scale the weights inside of the logarithm. If it is the one "
                f"over the data points, pass plate={frame.name!r}.",
            )


def _factor(frame: CondIndepStackFrame) -> float:
    return (frame.full_size or frame.size) / frame.size


def _stack(site: Site) -> tuple[CondIndepStackFrame, ...]:
    return site["cond_indep_stack"]


def _summed(site: Site, plates: list[str], values: Tensor | None = None) -> Tensor:
    """Sum a site's log-densities, or other `values` of its batch shape, over all but two plates.

    A plate without the site has size 1.
    """
    log_prob: Tensor = site["log_prob"] if values is None else values
    dims = {frame.name: frame.dim for frame in _stack(site) if frame.dim is not None}
    depth = max([log_prob.dim(), *(-dim for dim in dims.values())])
    shape = [1] * (depth - log_prob.dim()) + list(log_prob.shape)
    for frame in _stack(site):
        if frame.dim is not None:
            # A site that does not vary over a plate may have size 1 there; it counts every time.
            shape[frame.dim] = max(frame.size, shape[frame.dim])
    log_prob = log_prob.expand(shape)
    kept = [dims.get(plate) for plate in plates]
    others = [dim for dim in range(-depth, 0) if dim not in kept]
    log_prob = log_prob.sum(others) if others else log_prob
    for place, dim in enumerate(kept):
        log_prob = log_prob if dim is not None else log_prob.unsqueeze(place)
    return log_prob
