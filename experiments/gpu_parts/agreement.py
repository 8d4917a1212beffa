"""The same numbers on the GPU as on the CPU, and compiled as not."""

from __future__ import annotations

import importlib.util
import logging
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import pyro
import torch
from pyro.infer import SVI
from pyro.optim import SGD
from torch import Tensor
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_map

from gpu_parts.records import Case, Found, require
from ppl_vae import ESTIMATORS, MODELS, CompiledSVI, Pair, seeded

# What a GPU may differ by from a CPU, one value and gradient; and compiled from not, over steps
# that pass rounding on. 32 bits round 1e7 times as much as 64.
LIMITS = {torch.float32: 1e-4, torch.float64: 1e-10}
OVER_STEPS = {torch.float32: 1e-3, torch.float64: 1e-8}
NUM_EXAMPLES = 6
PARTICLES = {
    name: max(e.fewest_particles, 1 + (e.bound == "importance-weighted"))
    for name, e in ESTIMATORS.items()
}

SMALL = {"image_shape": (1, 4, 4), "latent_dim": 2, "hidden": (8,), "seed": 1}
# At least one small instance of every pair.
PAIRS: dict[str, dict[str, Any]] = {
    "bernoulli-vae": {"image_shape": (1, 8, 8), "latent_dim": 3, "hidden": (32, 16), "seed": 1},
    "bernoulli-vae, mixture prior": {**SMALL, "prior": {"name": "mixture", "components": 3}},
    "bernoulli-vae, vamp prior": {**SMALL, "prior": {"name": "vamp", "components": 3}},
    "bernoulli-vae, iaf": {**SMALL, "posterior": {"name": "iaf", "hidden": [4]}},
    "exponential-normal": {"prior_rate": 2.0, "noise_scale": 0.5, "guide_rate": 1.5},
    "amortized-exponential-normal": {"hidden": 4, "seed": 1},
    "linear-gaussian": {"data_dim": 4, "latent_dim": 2, "noise_scale": 0.7, "seed": 1},
    "gaussian-chain": {"data_dim": 2},
    "gamma-poisson": {"concentration": 2.0, "rate": 0.5},
    "binary-latent-vae": {"image_shape": (1, 4, 4), "latent_dim": 5, "hidden": (8,), "seed": 1},
    "conditional-vae": {"image_shape": (1, 4, 4), "num_classes": 3, "hidden": (8,), "seed": 1},
    "semi-supervised-vae": {
        "image_shape": (1, 4, 4),
        "num_classes": 3,
        "latent_dim": 2,
        "hidden": (8,),
        "seed": 1,
    },
    "count-vae": {"num_features": 5, "latent_dim": 2, "hidden": (8,), "seed": 1},
    "gaussian-chain, bottom-up": {"data_dim": 2, "guide": "bottom-up"},
    "conv-gaussian-vae": {"latent_dim": 4, "learn_scale": True, "seed": 1},
    "hierarchical-vae": {"image_shape": (1, 8, 8), "latent_dims": (6, 4), "seed": 1},
    "hierarchical-vae, top-down": {
        "image_shape": (1, 8, 8),
        "latent_dims": (6, 4),
        "guide": "top-down",
        "seed": 1,
    },
}
if importlib.util.find_spec("zuko"):
    flow: dict[str, Any] = {"name": "flow", "transforms": 2, "hidden": [4]}
    flows = {"prior": flow, "posterior": {**flow, "kind": "nsf"}}
    PAIRS["bernoulli-vae, flows"] = {**SMALL, **flows}
# The estimators whose steps are compiled first, in case the time does not suffice for all.
FIRST = ("trace-mean-field", "trace", "dreg")


class DrawnOnCPU(TorchDispatchMode):
    """Draws every random number on the CPU, so that one seed means the same on every device."""

    def __torch_dispatch__(
        self,
        func: Any,  # noqa: ANN401
        types: object,
        args: tuple[Any, ...] = (),
        kwargs: dict[str, Any] | None = None,
    ) -> Any:  # noqa: ANN401
        given = kwargs or {}
        if torch.Tag.nondeterministic_seeded not in func.tags:
            return func(*args, **given)
        device = next((a.device for a in args if isinstance(a, Tensor)), given.get("device"))
        here = {**given, "device": torch.device("cpu")} if "device" in given else given
        drawn = func(*_moved(args, "cpu"), **_moved(here, "cpu"))
        if func._schema.is_mutable:
            return args[0].copy_(drawn)
        return _moved(drawn, device)


def make(name: str, dtype: torch.dtype, device: torch.device | str) -> tuple[Pair, Tensor]:
    """Return the pair of that name in `PAIRS`, and data for it, without further arguments."""
    pair, (x, *_) = with_arguments(name, dtype, device)
    return pair, x


def with_arguments(
    name: str, dtype: torch.dtype, device: torch.device | str
) -> tuple[Pair, list[Tensor]]:
    """Return the pair of that name in `PAIRS`, and what its model takes."""
    pair = MODELS[name.partition(",")[0]](**PAIRS[name]).to(dtype)
    given = {}
    if name == "conditional-vae":
        given = {"y": torch.arange(NUM_EXAMPLES) % 3}
    elif name == "count-vae":
        given = {"library": torch.full((NUM_EXAMPLES,), 20.0, dtype=dtype)}
    x = pair.sample(NUM_EXAMPLES, seed=0, **given)
    return pair.to(device), [each.to(device) for each in (x, *given.values())]


def gradients(device: torch.device, *, smoke: bool) -> Iterator[Case]:
    """Yield one case for each pair, estimator and dtype: one value and gradient."""
    for name, elbo, dtype in _kinds(smoke=smoke):
        yield f"gradient: {_words(name, elbo, dtype)}", _Gradient(name, elbo, dtype, device)


def steps(device: torch.device, backend: str, *, smoke: bool) -> Iterator[Case]:
    """Yield one case for each pair, estimator and dtype: 50 steps, compiled and not."""
    kinds = sorted(_kinds(smoke=smoke), key=lambda kind: kind[1] not in FIRST)
    for name, elbo, dtype in kinds:
        take = _Steps(name, elbo, dtype, device, backend)
        yield f"50 steps: {_words(name, elbo, dtype)}", take


def _kinds(*, smoke: bool) -> list[tuple[str, str, torch.dtype]]:
    if smoke:
        return [("bernoulli-vae", "dreg", torch.float32)]
    return [(name, elbo, dtype) for name in PAIRS for elbo in ESTIMATORS for dtype in LIMITS]


def _words(name: str, elbo: str, dtype: torch.dtype) -> str:
    return f"{name}, {elbo}, {str(dtype).removeprefix('torch.')}"


class _Gradient:
    """One value and gradient on the device against those on the CPU, from the same draws."""

    def __init__(self, name: str, elbo: str, dtype: torch.dtype, device: torch.device) -> None:
        self._name, self._elbo, self._dtype, self._device = name, elbo, dtype, device

    def __call__(self) -> Found:
        (expected, wanted), (value, gradients) = map(self._on, ("cpu", self._device))
        limit = LIMITS[self._dtype]
        gap = require(abs(value - expected) / abs(expected), limit, "the value is")
        whole = torch.cat([g.flatten() for g in wanted]).norm()
        off = [
            float((g - w).norm() / torch.maximum(w.norm(), 1e-3 * whole))
            for g, w in zip(gradients, wanted, strict=True)
        ]
        return {"value off by": gap, "gradient off by": require(max(off), limit, "a gradient is")}

    def _on(self, device: torch.device | str) -> tuple[float, list[Tensor]]:
        pair, given = with_arguments(self._name, self._dtype, device)
        elbo: Any = ESTIMATORS[self._elbo].make(num_particles=PARTICLES[self._elbo])
        pyro.clear_param_store()
        with seeded(1, pair.device), DrawnOnCPU():
            loss = elbo.loss_and_grads(pair.model, pair.guide, *given)
        grads = [p.grad for p in pair.parameters() if p.grad is not None]
        return float(loss), [g.double().cpu() for g in grads]


class _Steps:
    """50 steps by Pyro, compiled, and as a CUDA graph, from the same noise."""

    def __init__(
        self, name: str, elbo: str, dtype: torch.dtype, device: torch.device, backend: str
    ) -> None:
        self._name, self._elbo, self._dtype = name, elbo, dtype
        self._device, self._backend = device, backend

    def __call__(self) -> Found:
        wanted, parameters = self._take(SVI)
        ways = {"compiled": False}
        if self._device.type == "cuda":
            ways["CUDA graph"] = True
        found: Found = {}
        limit = OVER_STEPS[self._dtype]
        for way, captured in ways.items():
            with messages() as said:
                losses, ours = self._take(CompiledSVI, backend=self._backend, cuda_graph=captured)
            if said:
                raise AssertionError(f"{way}: {said[0]}")
            gap = float(((losses - wanted) / wanted).abs().max())
            found[f"{way}: losses off by"] = require(gap, limit, f"{way}: a loss is")
            moved = max(
                float((a - b).norm() / b.norm().clamp_min(1e-3))
                for a, b in zip(ours, parameters, strict=True)
            )
            found[f"{way}: parameters off by"] = require(moved, limit, f"{way}: a parameter is")
        return found

    def _take(self, cls: Callable[..., Any], **options: object) -> tuple[Tensor, list[Tensor]]:
        pair, given = with_arguments(self._name, self._dtype, self._device)
        elbo = ESTIMATORS[self._elbo].make(num_particles=PARTICLES[self._elbo])
        pyro.clear_param_store()
        # Sums over 784 Normal pixels, and scores, have gradients that would lead away to infinity.
        steep = self._name.startswith("conv") or self._elbo == "score-function"
        optim = SGD({"lr": 1e-6 if steep else 1e-3})
        svi = cls(pair.model, pair.guide, optim, elbo, **options)
        with seeded(2, pair.device):
            losses = [svi.step(*given) for _ in range(50)]
        return torch.tensor(losses).double(), [p.detach().double() for p in pair.parameters()]


@contextmanager
def messages() -> Iterator[list[str]]:
    """Yield the warnings of the compiled step within the block: why it is not what was asked."""
    log, found = logging.getLogger("ppl_vae.inference"), []
    handler = logging.Handler(logging.WARNING)
    handler.emit = lambda record: found.append(record.getMessage())  # pyright: ignore
    log.addHandler(handler)
    try:
        yield found
    finally:
        log.removeHandler(handler)


def _moved(values: Any, device: object) -> Any:  # noqa: ANN401
    return tree_map(lambda v: v.to(device) if isinstance(v, Tensor) else v, values)
