"""All particles of an estimate in one pass, where a program allows it."""

from __future__ import annotations

import copy
from typing import Any

import pyro
import torch
from pyro import poutine
from pyro.infer import ELBO
from pyro.poutine.trace_struct import Trace
from torch import Tensor

from ppl_vae.elbos.continuous.exact import Exact_ELBO
from ppl_vae.elbos.discrete.enumerate import TraceEnumerate_ELBO
from ppl_vae.elbos.kl_weights.estimator import WeightedELBO
from ppl_vae.elbos.sites.draws import Given, Program
from ppl_vae.elbos.sites.traces import density_sites, latent_sites
from ppl_vae.elbos.weights import PARTICLES


def vectorised(elbo: ELBO, program: Program) -> ELBO:
    """Return a copy of an estimator that draws its particles along a dimension of their own.

    It is returned as it is if it has one particle or adds up all states, or if particles that are
    drawn together do not score as each does by itself. Draws random numbers.
    """
    if isinstance(elbo, WeightedELBO):
        inner = vectorised(elbo.elbo, program)
        if inner is elbo.elbo:
            return elbo
        twin = copy.copy(elbo)
        twin.elbo = inner
        return twin
    if elbo.num_particles == 1 or isinstance(elbo, (Exact_ELBO, TraceEnumerate_ELBO)):
        return elbo
    depth = _depth(program)
    if not particles_agree(program, depth):
        return elbo
    twin: Any = copy.copy(elbo)
    twin.vectorize_particles = True
    # Given here: Pyro would look for it at the first step, and draw numbers for it.
    twin.max_plate_nesting = depth + 1
    return twin


@torch.no_grad()
def particles_agree(program: Program, depth: int) -> bool:
    """Return whether particles drawn together have the log-densities of each by itself.

    Args:
        program: model and guide.
        depth: how many dimensions their plates take; the particles' is left of them.
    """
    try:
        sizes = {n for t in _traces(program) for s in t.nodes.values() for n in _shape(s)}
        # A number that no dimension of the program has, so that none is taken for the particles'.
        count = next(n for n in (3, 5, 7, 11, 13, 17) if n not in sizes)
        with pyro.plate(PARTICLES, count, dim=-depth - 1):
            together = _traces(program)
        for number in range(count):
            values = {
                name: site["value"].select(-depth - 1 - site["fn"].event_dim, number)
                for name, site in latent_sites(together[0]).items()
            }
            with Given(values):
                alone = _traces(program)
            if not all(_agree(t, a, depth, number) for t, a in zip(together, alone, strict=True)):
                return False
    except Exception:  # whatever a program does with a dimension that it does not expect
        return False
    return True


def _traces(program: Program) -> tuple[Trace, Trace]:
    guide: Any = poutine.trace(program.guide).get_trace(*program.args, **program.kwargs)
    model: Any = poutine.trace(poutine.replay(program.model, trace=guide)).get_trace(
        *program.args, **program.kwargs
    )
    for trace in (guide, model):
        trace.compute_log_prob()
    return guide, model


def _depth(program: Program) -> int:
    guide, model = _traces(program)
    sites = [*density_sites(guide).values(), *density_sites(model).values()]
    frames = [frame for site in sites for frame in site["cond_indep_stack"]]
    return max((-frame.dim for frame in frames if frame.dim is not None), default=0)


def _shape(site: Any) -> tuple[int, ...]:  # noqa: ANN401
    value = site.get("value")
    return tuple(value.shape) if isinstance(value, Tensor) else ()


def _agree(together: Trace, alone: Trace, depth: int, number: int) -> bool:
    """Return whether every site's log-densities are those of one particle by itself."""
    first, second = density_sites(together), density_sites(alone)
    if first.keys() != second.keys():
        return False
    for name, site in first.items():
        found, expected = site["log_prob"], second[name]["log_prob"]
        if found.dim() > depth:
            found = found.movedim(-depth - 1, 0)
            found = found[number if len(found) > 1 else 0]
        tolerance = 1e3 * torch.finfo(expected.dtype).eps
        found, expected = torch.broadcast_tensors(found, expected)
        if not torch.allclose(found, expected, rtol=tolerance, atol=tolerance, equal_nan=True):
            return False
    return True
