"""A small valid call of every public function and class, to be made malformed."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple

import torch
from pyro.distributions import Normal
from torch import Tensor, nn

import ppl_vae
from ppl_vae import (
    ESTIMATORS,
    MODELS,
    ArrayData,
    BernoulliVAE,
    ImageData,
    LinearGaussian,
    closed_forms,
    elbos,
    fit,
    load_pair,
    pair_from_modules,
    save_pair,
)
from ppl_vae.closed_forms import gamma_poisson, gaussian_chain, kl, linear_gaussian, one_bit

EXACT = closed_forms.exponential_normal


class Call(NamedTuple):
    """A function with arguments that it takes."""

    function: Callable[..., Any]
    arguments: dict[str, Any]


def calls(folder: Path) -> dict[str, Call]:
    """Return a valid call of each function, by its name; they may write into `folder`."""
    return {
        **{f"closed_forms.{name}": call for name, call in of_closed_forms().items()},
        **{f"elbos.make {name}": of_estimator(name) for name in ESTIMATORS},
        **{f"MODELS {name}": Call(cls, SMALL.get(name, {})) for name, cls in MODELS.items()},
        **of_diagnostics(),
        **of_data(),
        **of_training(folder),
    }


SMALL: dict[str, dict[str, Any]] = {
    "bernoulli-vae": {"image_shape": (1, 2, 2), "latent_dim": 2, "hidden": (3,), "seed": 0},
    "conv-gaussian-vae": {"latent_dim": 2, "image_shape": (1, 8, 8), "seed": 0},
    "hierarchical-vae": {"image_shape": (1, 2, 2), "latent_dims": (2, 1), "hidden": (3, 3)},
    "conditional-vae": {"image_shape": (1, 2, 2), "num_classes": 3, "hidden": (3,)},
    "semi-supervised-vae": {"image_shape": (1, 2, 2), "num_classes": 3, "hidden": (3,)},
    "count-vae": {"num_features": 3, "latent_dim": 2, "hidden": (3,)},
    "binary-latent-vae": {"image_shape": (1, 2, 2), "latent_dim": 3},
    "linear-gaussian": {"data_dim": 4, "latent_dim": 2, "noise_scale": 0.7, "seed": 0},
    "amortized-exponential-normal": {"prior_rate": 1.0, "noise_scale": 1.0, "hidden": 3},
    "exponential-normal": {"prior_rate": 1.0, "noise_scale": 1.0, "guide_rate": 1.0},
    "gaussian-chain": {"data_dim": 1, "guide": "top-down"},
    "gamma-poisson": {"concentration": 1.0, "rate": 1.0},
}


def of_closed_forms() -> dict[str, Call]:
    """Return calls of the closed forms."""
    x = torch.tensor([[0.3, 1.2], [0.9, 2.0]])
    counts = torch.tensor([[0.0, 3.0], [2.0, 1.0]])
    gamma = {"guide_concentration": 1.2, "guide_rate": 0.7}
    wide = torch.randn(6, 3, generator=torch.Generator().manual_seed(0))
    line = {"weight": torch.ones(3, 1), "loc": 0.0, "noise_scale": 0.7}
    guide = {"guide_loc": torch.zeros(6, 1), "guide_scale": 0.5}
    normals = {"q_loc": 0.1, "q_scale": 0.5, "p_loc": 0.0, "p_scale": 1.0}
    bottom = {"a": 0.3, "s1": 0.5, "b": 0.2, "s2": 0.7}
    bit = {"logit": 0.3, "f0": -3.0, "f1": 1.0}
    return {
        "kl.kl_normal_normal": Call(kl.kl_normal_normal, normals),
        "kl.kl_laplace_laplace": Call(kl.kl_laplace_laplace, normals),
        "kl.kl_normal_standard": Call(kl.kl_normal_standard, {"q_loc": 0.1, "q_scale": 0.5}),
        "kl.kl_bernoulli_bernoulli": Call(
            kl.kl_bernoulli_bernoulli, {"q_logits": 0.1, "p_logits": 0.5}
        ),
        "kl.kl_exponential_exponential": Call(
            kl.kl_exponential_exponential, {"q_rate": 0.1, "p_rate": 0.5}
        ),
        "kl.kl_gamma_gamma": Call(
            kl.kl_gamma_gamma,
            {"q_concentration": 1.0, "q_rate": 0.5, "p_concentration": 2.0, "p_rate": 1.0},
        ),
        "kl.kl_mvn_mvn": Call(
            kl.kl_mvn_mvn,
            {
                "q_loc": 0.0,
                "q_scale_tril": torch.eye(2),
                "p_loc": 0.0,
                "p_scale_tril": torch.eye(2),
            },
        ),
        "exponential_normal.elbo": Call(EXACT.elbo, {"x": x, "guide_rate": 0.8}),
        "exponential_normal.log_evidence": Call(EXACT.log_evidence, {"x": x, "prior_rate": 1.0}),
        "exponential_normal.posterior": Call(EXACT.posterior, {"x": x, "noise_scale": 1.0}),
        "exponential_normal.gradient_variance": Call(
            EXACT.gradient_variance, {"x": x, "guide_rate": 0.8, "estimator": "score-function"}
        ),
        "gamma_poisson.elbo": Call(gamma_poisson.elbo, {"x": counts, **gamma}),
        "gamma_poisson.log_evidence": Call(gamma_poisson.log_evidence, {"x": counts, "rate": 1.0}),
        "gaussian_chain.log_evidence": Call(gaussian_chain.log_evidence, {"x": 0.4}),
        "gaussian_chain.elbo_bottom_up": Call(gaussian_chain.elbo_bottom_up, {"x": 0.4, **bottom}),
        "linear_gaussian.log_evidence": Call(linear_gaussian.log_evidence, {"x": wide, **line}),
        "linear_gaussian.posterior": Call(linear_gaussian.posterior, {"x": wide, **line}),
        "linear_gaussian.elbo": Call(linear_gaussian.elbo, {"x": wide, **line, **guide}),
        "linear_gaussian.maximum_likelihood": Call(
            linear_gaussian.maximum_likelihood, {"x": wide, "latent_dim": 1}
        ),
        "linear_gaussian.weighted_maximum_likelihood": Call(
            linear_gaussian.weighted_maximum_likelihood,
            {"x": wide, "latent_dim": 1, "kl_weight": 1.0, "noise_scale": 0.7},
        ),
        "one_bit.gradient": Call(one_bit.gradient, bit),
        "one_bit.gradient_variance": Call(one_bit.gradient_variance, {**bit, "estimator": "arm"}),
    }


def of_estimator(name: str) -> Call:
    """Return a call that makes an estimator."""
    is_elbo = ESTIMATORS[name].bound == "elbo" and name != "exact"
    options = {"kl_weight": 1.0, "free_bits": 0.0} if is_elbo else {}
    return Call(elbos.make, {"elbo": name, "num_particles": None, **options})


def linear() -> LinearGaussian:
    """Return a pair in which everything is exact."""
    return LinearGaussian(3, 1, seed=0)


def of_diagnostics() -> dict[str, Call]:
    """Return calls of the diagnostics, few draws each."""
    pair, x = linear(), torch.zeros(4, 3)
    few = {"seed": 0}
    q, p = Normal(0.0, 1.0), Normal(0.5, 2.0)

    def objective(x: Tensor) -> Tensor:
        return -pair.exact.elbo(x).sum()

    on_data: dict[str, dict[str, Any]] = {
        "compare_elbos": {"estimators": ["trace"], "num_replicates": 10, "num_particles": 1},
        "log_evidence": {"method": "iwae", "num_samples": 4, "max_bytes": 10_000},
        "inference_gap": {"method": "exact", "num_samples": 4, "num_starts": 1, "num_steps": 2},
        "aggregate_posterior": {"num_samples": 32, "batch_size": 4},
        "active_units": {"num_samples": 4, "threshold": 0.01},
    }
    annealed = {"num_samples": 4, "num_temperatures": 2, "num_leapfrog": 1}
    sums = {"kind": "loss", "reduction": "sum", "num_replicates": 10}
    return {
        **{
            name: Call(getattr(ppl_vae, name), {"pair": pair, "x": x, **options, **few})
            for name, options in on_data.items()
        },
        "explain_elbo": Call(
            ppl_vae.explain_elbo, {"elbo": "trace", "pair": pair, "x": x, "num_draws": 4, **few}
        ),
        "evaluate": Call(ppl_vae.evaluate, {"pair": pair, "data": x, "method": "exact", **few}),
        "bidirectional_evidence": Call(
            ppl_vae.bidirectional_evidence, {"pair": pair, "like": x, **annealed, **few}
        ),
        "check_elbo": Call(
            ppl_vae.check_elbo, {"objective": objective, "pair": pair, "x": x, **sums, **few}
        ),
        "check_kl": Call(
            ppl_vae.check_kl,
            {"function": torch.distributions.kl_divergence, "q": q, "p": p, "num_replicates": 10},
        ),
        "expectation": Call(
            ppl_vae.expectation,
            {"distribution": q, "function": torch.cos, "method": "quadrature", "num_points": 4},
        ),
        "monte_carlo_kl": Call(
            ppl_vae.monte_carlo_kl, {"q": q, "p": p, "num_samples": 4, "estimator": "k1", **few}
        ),
    }


def of_data() -> dict[str, Call]:
    """Return calls of what reads and holds data."""
    images = torch.zeros(4, 1, 2, 2, dtype=torch.uint8)
    return {
        "load": Call(ppl_vae.load, {"name": "digits", "split": "test", "binarize": "static"}),
        "ArrayData": Call(ArrayData, {"arrays": {"x": torch.zeros(4, 2)}, "mask": None}),
        "ImageData": Call(ImageData, {"images": images, "labels": torch.arange(4), "seed": 0}),
    }


def of_training(folder: Path) -> dict[str, Call]:
    """Return calls of what trains, saves and loads."""
    pair, x = linear(), torch.zeros(4, 3)
    save_pair(pair, folder / "saved")
    vae = BernoulliVAE((1, 2, 2), 1, (2,), seed=0)
    training = {"num_epochs": 1, "batch_size": 2, "progress": False, "compile": False, "seed": 0}
    rules = {
        "kl_weight": 1.0,
        "clip_norm": 1.0,
        "accumulate": 1,
        "on_nan": "raise",
        "keep": "last",
    }
    modules = {"encoder": nn.Linear(4, 2), "decoder": nn.Linear(1, 4), "latent_dim": 1}
    return {
        "fit": Call(fit, {"pair": pair, "data": x, "elbo": "trace", **training, **rules}),
        "pair_from_modules": Call(pair_from_modules, {**modules, "likelihood": "bernoulli"}),
        "save_pair": Call(save_pair, {"pair": pair, "path": folder / "other"}),
        "load_pair": Call(load_pair, {"path": folder / "saved", "trust": ()}),
        "EarlyStopping": Call(ppl_vae.EarlyStopping, {"patience": 2, "min_delta": 0.0}),
        "LinearWarmup": Call(ppl_vae.LinearWarmup, {"fraction": 0.3, "start": 0.0}),
        "CyclicalWarmup": Call(ppl_vae.CyclicalWarmup, {"cycles": 4, "fraction": 0.5}),
        "Pair.sample": Call(pair.sample, {"n": 3, "seed": 0}),
        "VAE.reconstruct": Call(vae.reconstruct, {"x": torch.zeros(2, 1, 2, 2)}),
        "VAE.encode": Call(vae.encode, {"x": torch.zeros(2, 1, 2, 2)}),
    }
