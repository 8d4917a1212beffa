"""A pair with one Gaussian code per example: its guide, and log p(x, z) at any codes."""

from __future__ import annotations

import copy
from collections.abc import Iterator
from contextlib import contextmanager
from functools import cached_property
from typing import Any

import pyro
import pyro.distributions as dist
import torch
from pyro import poutine
from pyro.poutine.trace_struct import Trace
from torch import Tensor
from torch.distributions import (
    Distribution,
    Independent,
    MultivariateNormal,
    Normal,
    constraints,
)
from torch.distributions.transforms import ReshapeTransform

from ppl_vae import checks
from ppl_vae.batch import Data
from ppl_vae.diagnostics.evidence.density.log_joint import LogJoint
from ppl_vae.diagnostics.evidence.density.particles import Particles
from ppl_vae.diagnostics.gap.gaussians import Gaussians
from ppl_vae.diagnostics.memory import peak_bytes
from ppl_vae.elbos.sites.traces import density_sites, latent_sites
from ppl_vae.functions import Functions
from ppl_vae.pair import Pair

_REMEDY = "For other pairs, log_evidence less an ELBO is the gap as a whole."
_PROBE = 8


class GaussianCode:
    """The guide's Normals for some data, and the model's log p(x, z) as a function of z.

    Both are read from traces, so that any Pyro program with one code per example serves. Making
    one draws from torch's global stream.

    Args:
        pair: model and guide; it should be a copy, in evaluation mode.
        x: the data, checked.
        max_bytes: about what the tensors of one evaluation may hold.

    Attributes:
        site: name of the code.
        plate: name of the plate over the examples.
        x: the data.
        guide: the guide's Normals, float64.
        is_diagonal: whether the guide's covariance is diagonal by construction.
        latent_dim: length of the code.

    Raises:
        NotImplementedError: several latents or none, one that is not Normal in the guide or not
            on all of R^n in the model, one outside of a plate over the examples, or a program
            that cannot be run for many codes at once.
        ValueError: locs, scales or log p(x, z) that are not finite, or scales of 0.
    """

    def __init__(self, pair: Pair, x: Data, *, max_bytes: float) -> None:
        self.pair, self.x, self._max_bytes = pair, x, max_bytes
        with self._quiet(), torch.no_grad():
            guide: Any = poutine.trace(pair.guide).get_trace(x)
            model: Any = poutine.trace(poutine.replay(pair.model, trace=guide)).get_trace(x)
            model.compute_log_prob()
        site, node = _only_latent(guide)
        self.site, self.plate = site, _plate_over(site, node, len(x))
        _check_support(site, model)
        # Values are checked here, where the caller's setting of validation holds.
        self.guide, self.is_diagonal = _normals(site, node["fn"], len(x))
        for name, each in density_sites(model).items():
            checks.finite(f"log p of the site {name!r}", each["log_prob"])
        self.latent_dim = self.guide.loc.shape[-1]
        self._event_shape = node["fn"].event_shape
        with self._quiet(), torch.no_grad():
            particles = Particles.look(pair, x, self.plate)
            self._joint = LogJoint(particles, x)
        if not (particles.splits or len(x) == 1):
            raise _unsuited("one that can be run on a part of the examples", "one that cannot")

    @property
    def num_examples(self) -> int:
        """How many examples the data hold."""
        return len(self.x)

    def part(self, examples: Tensor | slice) -> GaussianCode:
        """Return the same for some of the examples."""
        part = copy.copy(self)
        part.x, part.guide = self.x[examples], self.guide[examples]  # noqa: SLF001
        part._joint = self._of(examples)  # noqa: SLF001
        return part

    def log_joint(self, z: Tensor, examples: Tensor | None = None) -> Tensor:
        """Return log p(x, z), (num, batch), float64, in nats, without a gradient.

        Args:
            z: codes, (num, batch, latent_dim).
            examples: which examples they are for, (batch); all of them if None.
        """
        joint = self._of(examples)
        with self._quiet(), torch.no_grad():
            parts = [self._score(joint, part) for part in z.split(self._at_once(z.shape[1]))]
        return torch.cat(parts)

    def slopes(self, z: Tensor, examples: Tensor | None = None) -> tuple[Tensor, Tensor]:
        """Return log p(x, z), as `log_joint` does, and its gradient by z, of the shape of z."""
        joint = self._of(examples)
        values, slopes = [], []
        for part in z.split(self._at_once(z.shape[1])):
            part = part.detach().requires_grad_()
            with self._quiet(), torch.enable_grad():
                value = self._score(joint, part)
                slopes += torch.autograd.grad(value.sum(), part)
            values.append(value.detach())
        return torch.cat(values), torch.cat(slopes)

    def with_guide(self, gaussians: Gaussians) -> Functions:
        """Return the model, and a guide that draws from `gaussians`, for just these examples."""
        q = gaussians.to(self.pair.dtype)
        normal = dist.MultivariateNormal(q.loc, scale_tril=q.scale_tril)
        shape = ReshapeTransform(torch.Size([self.latent_dim]), self._event_shape)

        def guide(*args: Tensor | None, **kwargs: Tensor | None) -> Tensor:
            given = (*args, *kwargs.values())
            with pyro.plate(self.plate, next(len(t) for t in given if t is not None)):
                return pyro.sample(self.site, dist.TransformedDistribution(normal, [shape]))

        return self.pair.model, guide

    def prior_draws(self, num: int) -> Tensor:
        """Return draws from the prior, (num, batch, latent_dim), of torch's global stream."""
        with self._quiet(), torch.no_grad():
            return self._joint.from_prior(num).double()

    def _of(self, examples: Tensor | slice | None) -> LogJoint:
        if examples is None:
            return self._joint
        with self._quiet():
            return self._joint.on(self.x[examples])

    def _score(self, joint: LogJoint, z: Tensor) -> Tensor:
        # The latent is on all of R^n, so that z is its own unconstrained coordinate.
        return joint.log_model(z.to(self.pair.dtype)).double()

    @contextmanager
    def _quiet(self) -> Iterator[None]:
        with poutine.block(), pyro.validation_enabled(False):  # noqa: FBT003
            yield

    def _at_once(self, batch: int) -> int:
        """Return how many codes per example fit into the memory that is allowed."""
        return max(1, int(self._max_bytes / (self._bytes_per_code * batch)))

    @cached_property
    def _bytes_per_code(self) -> float:
        few = torch.arange(min(_PROBE, len(self.x)), device=self.x.device)
        joint, z = self._of(few), self.guide.loc[few].unsqueeze(0)

        def work() -> None:
            codes = z.detach().requires_grad_()
            with self._quiet(), torch.enable_grad():
                torch.autograd.grad(self._score(joint, codes).sum(), codes)

        return peak_bytes(work) / len(few)


def _only_latent(guide: Trace) -> tuple[str, dict[str, Any]]:
    sites = latent_sites(guide)
    if len(sites) != 1:
        raise _unsuited("one latent site", ", ".join(map(repr, sites)) or "none")
    return next(iter(sites.items()))


def _plate_over(site: str, node: dict[str, Any], num_examples: int) -> str:
    stack = node["cond_indep_stack"]
    if len(stack) != 1 or stack[0].size != num_examples:
        came = ", ".join(f"{frame.name!r} of {frame.size}" for frame in stack) or "no plate"
        raise _unsuited(f"{site!r} in one plate, over the {num_examples} examples", came)
    return stack[0].name


def _check_support(site: str, model: Trace) -> None:
    node: Any = model.nodes[site]
    support: Any = node["fn"].support
    while hasattr(support, "base_constraint"):
        support = support.base_constraint
    if support not in (constraints.real, constraints.real_vector):
        raise _unsuited(f"a prior of {site!r} on all real numbers", f"one on {support}")


def _normals(site: str, fn: Distribution, num_examples: int) -> tuple[Gaussians, bool]:
    """Return the guide's Normals, and whether their covariances are diagonal by construction."""
    base: Any = fn
    while isinstance(base, Independent):
        base = base.base_dist
    if isinstance(base, MultivariateNormal) and len(fn.event_shape) == 1:
        loc, scale_tril = base.loc, base.scale_tril
    elif isinstance(base, Normal):
        loc = base.loc.reshape(num_examples, -1)
        scale_tril = torch.diag_embed(base.scale.reshape(num_examples, -1))
    else:
        raise _unsuited(f"a Normal at the guide's site {site!r}", type(base).__name__)
    checks.finite(f"the guide's loc of {site!r}", loc)
    checks.positive(f"the guide's scale of {site!r}", scale_tril.diagonal(dim1=-2, dim2=-1))
    loc, scale_tril = loc.detach().double(), scale_tril.detach().double()
    return Gaussians(loc, scale_tril), isinstance(base, Normal)


def _unsuited(expected: str, came: str) -> NotImplementedError:
    return NotImplementedError(
        checks.message(f"a pair with one Gaussian code per example, {expected}", came, _REMEDY)
    )
