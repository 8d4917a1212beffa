"""Annealed importance sampling of the evidence, with Hamiltonian steps."""

from __future__ import annotations

from dataclasses import dataclass

import pyro
import torch
from torch import Tensor

from ppl_vae import checks
from ppl_vae.batch import Data
from ppl_vae.diagnostics.evidence.annealing.hamiltonian import start, transition
from ppl_vae.diagnostics.evidence.density.log_joint import LogJoint, State
from ppl_vae.diagnostics.evidence.density.particles import Particles, interval
from ppl_vae.diagnostics.evidence.importance_weights import summarise
from ppl_vae.diagnostics.evidence.result import Evidence, joined
from ppl_vae.diagnostics.memory import peak_bytes
from ppl_vae.elbos.sites.traces import latent_sites
from ppl_vae.seeding import derive, reseed

DEFAULT_CHAINS = 32
_SHARPNESS = 4.0
_TARGET = 0.75
_RATE = 0.1
_WARM_UP = 20
_FIRST_STEP = 0.5
_SCALE_DRAWS = 64


@dataclass(frozen=True)
class Annealing:
    """How to go from the guide to the posterior.

    Attributes:
        num_chains: independent runs per example, at least 2.
        num_temperatures: T, steps from the guide to the posterior, at least 1.
        num_leapfrog: leapfrog steps of each transition, at least 1.
    """

    num_chains: int = DEFAULT_CHAINS
    num_temperatures: int = 200
    num_leapfrog: int = 5

    def __post_init__(self) -> None:
        checks.count("num_samples", self.num_chains, minimum=2)
        checks.count("num_temperatures", self.num_temperatures)
        checks.count("num_leapfrog", self.num_leapfrog)

    def betas(self) -> list[float]:
        """Return beta_0 = 0 < ... < beta_T = 1, slow at both ends.

        Source:
            Wu, Burda, Salakhutdinov and Grosse 2017, section 2.2: a sigmoid, moved to [0, 1].
        """
        line = torch.linspace(-1, 1, self.num_temperatures + 1, dtype=torch.float64)
        raw = (_SHARPNESS * line).sigmoid()
        betas = ((raw - raw[0]) / (raw[-1] - raw[0])).tolist()
        return [0.0, *betas[1:-1], 1.0]


def annealed_evidence(
    particles: Particles, x: Data, *, annealing: Annealing, max_bytes: int, seed: int
) -> Evidence:
    """Return the log of the mean of the chains' weights, with its errors, per example.

        log w = sum_t (beta_t - beta_{t-1}) (log p(x, z_{t-1}) - log q(z_{t-1} | x))

    with z_0 from the guide and z_t from z_{t-1} by a step that leaves ``p^beta_t q^(1-beta_t)``
    invariant. E[w] = p(x) whatever the steps, so the log of a mean is a lower bound in
    expectation. Step sizes are tuned beforehand, on chains that are thrown away. Draws come from
    torch's global streams.

    Source:
        Neal, Annealed importance sampling, 2001.
    """
    joint = LogJoint(particles, x)
    check_supports(particles, x)
    parts = []
    for number, part in enumerate(split(joint, x, annealing.num_chains, max_bytes, seed)):
        reseed(derive(seed, "tune", number), x.device)
        path = Path.tuned(part, annealing)
        reseed(derive(seed, "run", number), x.device)
        parts.append(summarise(path.forward(), "ais"))
    return joined(parts)


def split(joint: LogJoint, x: Data, num_chains: int, max_bytes: int, seed: int) -> list[LogJoint]:
    """Return the densities of the examples, as many at a time as the budget allows."""
    if not joint.splits:
        return [joint]
    one = joint.on(x[:1])
    reseed(derive(seed, "memory"), x.device)
    u = one.from_guide(num_chains)
    step = {"step_size": torch.ones_like(u[0, :, 0]), "scale": torch.ones_like(u[0])}
    state = start(one, u)
    needed = peak_bytes(lambda: transition(one, state, 0.5, **step, num_leapfrog=1))
    size = max(1, max_bytes // max(needed, 1))
    return [joint.on(part) for part in x.split(size)]


def check_supports(particles: Particles, x: Data) -> None:
    """Raise NotImplementedError where guide and model have densities on different sets."""
    with torch.no_grad():
        draw = particles.draw(x, 1)
    guide = latent_sites(draw.guide)
    for name, site in latent_sites(draw.model).items():
        outer, inner = interval(site["fn"]), interval(guide[name]["fn"])
        if outer != inner:
            raise NotImplementedError(
                checks.message(
                    f"a guide with the model's support at {name!r} for method='ais'",
                    f"{inner} within {outer}",
                    "Choose a distribution of the same support.",
                )
            )


@dataclass(frozen=True)
class Path:
    """The way from guide to posterior, with step sizes that are fixed.

    Attributes:
        joint: the densities.
        annealing: chains, temperatures and leapfrog steps.
        betas: beta_0 = 0 to beta_T = 1.
        step_sizes: at beta_1..beta_T, (T, examples), in units of `scale`.
        scale: the guide's standard deviations, (examples, dim).
    """

    joint: LogJoint
    annealing: Annealing
    betas: list[float]
    step_sizes: Tensor
    scale: Tensor

    @property
    def num_examples(self) -> int:
        """How many examples the chains are of."""
        return len(self.scale)

    @classmethod
    def tuned(cls, joint: LogJoint, annealing: Annealing) -> Path:
        """Return a path with steps that are accepted three times in four, tuned by one run."""
        betas = annealing.betas()
        with torch.no_grad(), pyro.validation_enabled(False):  # noqa: FBT003
            scale = joint.from_guide(_SCALE_DRAWS).std(0)
            scale = torch.where((scale > 0) & scale.isfinite(), scale, 1.0)
            state = start(joint, joint.from_guide(annealing.num_chains))
            size = torch.full_like(state.model[0], _FIRST_STEP / joint.dim**0.25)
            sizes = []
            for number in range(1 - _WARM_UP, len(betas)):
                beta = betas[max(number, 1)]
                state, accept = transition(
                    joint,
                    state,
                    beta,
                    step_size=size,
                    scale=scale,
                    num_leapfrog=annealing.num_leapfrog,
                )
                if number >= 1:
                    sizes.append(size)
                size = size * (_RATE * (accept.mean(0) - _TARGET)).exp()
        return cls(joint, annealing, betas, torch.stack(sizes), scale)

    def forward(self) -> Tensor:
        """Return the log-weights, (chains, examples), of runs from draws of the guide."""
        with torch.no_grad(), pyro.validation_enabled(False):  # noqa: FBT003
            state = start(self.joint, self.joint.from_guide(self.annealing.num_chains))
            total = torch.zeros_like(state.model, dtype=torch.float64)
            for number in range(1, len(self.betas)):
                total += self._gain(state, number)
                # The last step would move a state that is not used.
                if number < len(self.betas) - 1:
                    state = self._step(state, number)
        return total

    def backward(self, u: Tensor) -> Tensor:
        """Return the log-weights, (chains, examples), of runs back from a posterior draw `u`.

        All chains of an example start from the same draw, (1, examples, dim). The log-weights are
        those of forward runs along the same states: 1/w has the expectation 1 / p(x).
        """
        with torch.no_grad(), pyro.validation_enabled(False):  # noqa: FBT003
            state = start(self.joint, u.expand(self.annealing.num_chains, -1, -1))
            total = torch.zeros_like(state.model, dtype=torch.float64)
            for number in reversed(range(1, len(self.betas))):
                if number < len(self.betas) - 1:
                    state = self._step(state, number)
                total += self._gain(state, number)
        return total

    def _gain(self, state: State, number: int) -> Tensor:
        change = self.betas[number] - self.betas[number - 1]
        return change * (state.model - state.guide).double()

    def _step(self, state: State, number: int) -> State:
        return transition(
            self.joint,
            state,
            self.betas[number],
            step_size=self.step_sizes[number - 1],
            scale=self.scale,
            num_leapfrog=self.annealing.num_leapfrog,
        )[0]
