"""Importance weights, one per data point of a plate."""

from __future__ import annotations

import math
from typing import Any

import torch
from pyro.poutine.indep_messenger import CondIndepStackFrame
from pyro.poutine.trace_struct import Trace
from torch import Tensor

from ppl_vae import checks
from ppl_vae.elbos.pathwise import Draw
from ppl_vae.elbos.traces import Site, latent_sites, observed_sites

PARTICLES = "num_particles_vectorized"


class Weights:
    """Logarithms of the importance weights of all particles, data point by data point.

    Masks hide entries from the weights; the factor by which a plate that subsamples scales its
    sites is taken out of them, for it belongs outside of the logarithm.

    Args:
        draws: the particles.
        plate: name of the plate over the data points; a program without it has one weight.

    Attributes:
        log_p: log p(x, z), (num_particles, size) or (num_particles, 1), by draw.
        log_q: log q(z), likewise.
        rest: log-densities of observed sites outside of the plate, a scalar.
        scale: of the plate's data points: full size over subsample size.

    Raises:
        NotImplementedError: a latent outside of the plate, which all data points share.
    """

    def __init__(self, draws: list[Draw], plate: str) -> None:
        self._plate = plate
        frame = next(
            (f for draw in draws[:1] for f in _frames(draw.model) if f.name == plate), None
        )
        self.scale = 1.0 if frame is None else (frame.full_size or frame.size) / frame.size
        self._frame = frame
        log_p, log_q, rest = [], [], []
        for draw in draws:
            observed = observed_sites(draw.model)
            latent = latent_sites(draw.model)
            inside = {n: s for n, s in observed.items() if frame is None or self._has_plate(s)}
            outside = [s["log_prob"].sum() for n, s in observed.items() if n not in inside]
            log_p.append(self._by_data_point({**inside, **latent}))
            log_q.append(self._by_data_point(latent_sites(draw.guide)))
            rest.append(sum(outside, torch.zeros(())))
        self.log_p = torch.cat(log_p)
        self.log_q = torch.cat(log_q)
        self.rest = torch.stack(rest).sum() / len(self.log_p)
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

    def by_draw(self, values: Tensor) -> list[Tensor]:
        """Cut (num_particles, size) into the parts that belong to each draw."""
        return list(values.split(self._sizes))

    def _has_plate(self, site: Site) -> bool:
        return any(frame.name == self._plate for frame in site["cond_indep_stack"])

    def _by_data_point(self, sites: dict[str, Site]) -> Tensor:
        """Return the sum of the sites' log-densities, (particles, size)."""
        total: Tensor | None = None
        for name, site in sites.items():
            if self._frame is not None and not self._has_plate(site):
                raise NotImplementedError(
                    checks.message(
                        f"every latent inside of the plate {self._plate!r}",
                        f"site {name!r} outside of it",
                        "A latent that data points share has no weight per data point: choose "
                        "'renyi', or another estimator.",
                    )
                )
            part = self._keep(site["log_prob"], site) / self.scale
            total = part if total is None else total + part
        if total is None:
            raise ValueError(
                checks.message("at least one latent site", "none", "There is nothing to infer.")
            )
        return total

    def _keep(self, log_prob: Tensor, site: Site) -> Tensor:
        """Sum over all dimensions but the particles' and the data points'."""
        dims = {frame.name: frame.dim for frame in site["cond_indep_stack"] if frame.vectorized}
        kept = [dims.get(PARTICLES), dims.get(self._plate)]
        shape = log_prob.shape
        # A site that does not vary over a plate has size 1 there, and counts for every entry.
        wanted = {f.dim: f.size for f in site["cond_indep_stack"] if f.vectorized}
        full = [wanted.get(d - len(shape), shape[d]) for d in range(len(shape))]
        log_prob = log_prob.expand(full)
        keep = [dim for dim in kept if dim is not None and -dim <= len(full)]
        others = [d - len(full) for d in range(len(full)) if d - len(full) not in keep]
        summed = log_prob.sum(others) if others else log_prob
        if kept[0] is None:
            summed = summed.unsqueeze(0)
        return summed.unsqueeze(-1) if kept[1] is None else summed


def _frames(trace: Trace) -> list[CondIndepStackFrame]:
    sites: list[dict[str, Any]] = [s for s in trace.nodes.values() if s["type"] == "sample"]
    return [frame for site in sites for frame in site["cond_indep_stack"]]
