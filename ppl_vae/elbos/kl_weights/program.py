"""A model and guide whose latents' log-densities are weighted."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

import torch
from pyro.poutine.messenger import Messenger
from torch import Tensor

from ppl_vae import checks
from ppl_vae.elbos.kl_weights.floors import floor, maskable
from ppl_vae.elbos.kl_weights.weight import KLWeight, Weight, is_one
from ppl_vae.elbos.sites.draws import Program
from ppl_vae.elbos.sites.traces import is_subsample, weighed


@dataclass
class Run:
    """What was seen in one run of the guide, and of the model against it.

    Attributes:
        posterior: the guide's sites, by name.
        floors: what free bits put in the place of hidden dimensions, by site; scalars in nats.
        log_ratio: terms of log p(x, z) - log q(z) without weights.
        is_enumerated: whether a site's value holds several states.
    """

    posterior: dict[str, Any] = field(default_factory=dict)
    floors: dict[str, Tensor] = field(default_factory=dict)
    log_ratio: list[Tensor] = field(default_factory=list)
    is_enumerated: bool = False


class Weighting:
    """The weights of one program, and what was seen as it ran.

    Every log-density of the guide, and those of the model's latents, are multiplied by the weight
    of their site. A ``pyro.factor`` of the model is taken for an observation, one of the guide
    for a part of its density.

    Args:
        kl_weight: a number, a tensor, or one of these by site; a site that is not named has 1.
        free_bits: nats per latent dimension.
        tracks: whether the ELBO without weights is summed up too.

    Attributes:
        runs: of guide and model.
    """

    def __init__(
        self, kl_weight: KLWeight = 1.0, free_bits: float = 0.0, *, tracks: bool = False
    ) -> None:
        self._kl_weight, self.free_bits, self.tracks = kl_weight, free_bits, tracks
        self.runs: list[Run] = []
        self._products: dict[tuple[str, object], tuple[object, Weight]] = {}

    def of(self, program: Program) -> Program:
        """Return the program with its weights."""
        model, guide = _OfModel(self)(program.model), _OfGuide(self)(program.guide)
        return Program(model, guide, program.args, program.kwargs)

    def scaled(self, name: str, scale: Any) -> Any:  # noqa: ANN401
        """Return a site's scale times its weight: the same object in model and guide."""
        weight = self.weight(name)
        if isinstance(scale, (int, float)) and scale == 1:
            return weight
        key = (name, id(scale) if isinstance(scale, Tensor) else scale)
        if key not in self._products:
            self._products[key] = scale, weight * scale
        return self._products[key][1]

    def weight(self, name: str) -> Weight:
        """Return the weight of a site of model or guide."""
        if not isinstance(self._kl_weight, Mapping):
            return self._kl_weight
        return self._kl_weight.get(name, self._kl_weight.get(_drawn_from(name), 1.0))

    def check_sites(self, in_model: set[str]) -> None:
        """Raise unless every latent, and every site of the guide's own, has one weight."""
        if is_one(self._kl_weight) and not self.free_bits:
            return
        latents = [name for name in self.runs[-1].posterior if name in in_model]
        for name in in_model - set(latents):
            raise checks.not_implemented(
                f"a site {name!r} in the guide, against whose density the prior's is weighed",
                "none: its states are summed together with all that depends on it",
                "Draw it in the guide too, or leave kl_weight at 1.",
            )
        if not isinstance(self._kl_weight, Mapping):
            return
        own = [name for name in self.runs[-1].posterior if name not in in_model]
        for name in self._kl_weight:
            checks.name("kl_weight's site", name, [*latents, *own])
        for name in own:
            if name not in self._kl_weight and _drawn_from(name) not in latents:
                raise checks.not_implemented(
                    "a guide whose sites are the model's, for a weight of each",
                    f"{name!r}, whose density may be that of several latents",
                    f"Give all sites one weight, or name it too: {name!r}.",
                )


class WeighsSites(Messenger):
    """Weighs the latents of the model, or all sites of the guide."""

    def __init__(self, weighting: Weighting) -> None:
        super().__init__()
        self._weighting = weighting
        self._scales: dict[str, Any] = {}

    def _pyro_sample(self, msg: Any) -> None:  # noqa: ANN401
        if not self._is_weighed(msg):
            return
        name = msg["name"]
        self._scales[name] = msg["scale"]
        msg["scale"] = self._weighting.scaled(name, msg["scale"])
        if self._weighting.free_bits and not msg["is_observed"]:
            msg["fn"] = maskable(msg["fn"], name)

    def _pyro_post_sample(self, msg: Any) -> None:  # noqa: ANN401
        if not _has_density(msg):
            return
        run = self._weighting.runs[-1]
        if self._is_weighed(msg) and msg["infer"].get("enumerate"):
            run.is_enumerated = True
            if self._weighting.free_bits:
                raise checks.not_implemented(
                    "free bits of latents that are drawn",
                    f"site {msg['name']!r}, whose states are enumerated",
                    "Leave free_bits at 0, or choose an estimator that draws.",
                )
        if self._weighting.tracks and not run.is_enumerated:
            scale = self._scales.get(msg["name"], msg["scale"])
            with torch.no_grad():
                log_prob = msg["fn"].log_prob(msg["value"])
                run.log_ratio.append(self._sign * weighed(log_prob, {**msg, "scale": scale}).sum())
        self._keep(run, msg)

    _sign = 1

    def _is_weighed(self, msg: Any) -> bool:  # noqa: ANN401
        raise NotImplementedError

    def _keep(self, run: Run, msg: Any) -> None:  # noqa: ANN401
        raise NotImplementedError


class _OfGuide(WeighsSites):
    _sign = -1

    def __enter__(self) -> Any:  # noqa: ANN401
        self._weighting.runs.append(Run())
        return super().__enter__()

    def _is_weighed(self, msg: Any) -> bool:  # noqa: ANN401
        return _has_density(msg)

    def _keep(self, run: Run, msg: Any) -> None:  # noqa: ANN401
        run.posterior[msg["name"]] = msg


class _OfModel(WeighsSites):
    def __enter__(self) -> Any:  # noqa: ANN401
        self._latents: set[str] = set()
        return super().__enter__()

    def __exit__(self, *error: Any) -> Any:  # noqa: ANN401
        if error[0] is None:
            self._weighting.check_sites(self._latents)
        return super().__exit__(*error)

    def _is_weighed(self, msg: Any) -> bool:  # noqa: ANN401
        return _has_density(msg) and not msg["is_observed"]

    def _keep(self, run: Run, msg: Any) -> None:  # noqa: ANN401
        name = msg["name"]
        if msg["is_observed"]:
            return
        self._latents.add(name)
        if self._weighting.free_bits and name in run.posterior:
            run.floors[name] = floor(msg, run.posterior[name], self._weighting.free_bits)


def _has_density(msg: Any) -> bool:  # noqa: ANN401
    return not is_subsample(msg) and not msg["infer"].get("_deterministic")


def _drawn_from(name: str) -> str:
    """Return the latent that Pyro's AutoNormal takes from an auxiliary site of this name."""
    return name.removesuffix("_unconstrained")
