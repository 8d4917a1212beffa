"""Variational autoencoders in Pyro, with estimators that are measured and answers that are exact.

The public names are loaded when they are first used, so that importing the package, or asking the
command line for help, does not import torch.
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from ppl_vae import closed_forms, data, diagnostics, elbos, inference, models, plots
    from ppl_vae.data import ImageData, load
    from ppl_vae.diagnostics import (
        Estimate,
        active_units,
        aggregate_posterior,
        assert_elbo,
        bidirectional_evidence,
        check_elbo,
        check_kl,
        compare_elbos,
        evaluate,
        expectation,
        explain_elbo,
        inference_gap,
        log_evidence,
        monte_carlo_kl,
    )
    from ppl_vae.elbos import (
        ESTIMATORS,
        Exact_ELBO,
        TraceAnalyticKL_ELBO,
        TraceDReG_ELBO,
        TraceIWAE_ELBO,
        TraceScoreFunction_ELBO,
        TraceSTL_ELBO,
    )
    from ppl_vae.inference import CompiledSVI, History, fit, load_pair, save_pair
    from ppl_vae.models import (
        MODELS,
        AmortizedExponentialNormal,
        BernoulliVAE,
        ConvGaussianVAE,
        ExponentialNormal,
        GaussianChain,
        HierarchicalVAE,
        LinearGaussian,
        pair_from_modules,
    )
    from ppl_vae.pair import Pair
    from ppl_vae.seeding import seeded
    from ppl_vae.vae import VAE, ImagePair

__version__ = "0.1.0"

_HOME = {
    "ESTIMATORS": "elbos",
    "MODELS": "models",
    "VAE": "vae",
    "AmortizedExponentialNormal": "models",
    "BernoulliVAE": "models",
    "CompiledSVI": "inference",
    "ConvGaussianVAE": "models",
    "Estimate": "diagnostics",
    "Exact_ELBO": "elbos",
    "ExponentialNormal": "models",
    "GaussianChain": "models",
    "HierarchicalVAE": "models",
    "History": "inference",
    "ImageData": "data",
    "ImagePair": "vae",
    "LinearGaussian": "models",
    "Pair": "pair",
    "TraceAnalyticKL_ELBO": "elbos",
    "TraceDReG_ELBO": "elbos",
    "TraceIWAE_ELBO": "elbos",
    "TraceSTL_ELBO": "elbos",
    "TraceScoreFunction_ELBO": "elbos",
    "active_units": "diagnostics",
    "aggregate_posterior": "diagnostics",
    "bidirectional_evidence": "diagnostics",
    "assert_elbo": "diagnostics",
    "check_elbo": "diagnostics",
    "check_kl": "diagnostics",
    "compare_elbos": "diagnostics",
    "evaluate": "diagnostics",
    "expectation": "diagnostics",
    "explain_elbo": "diagnostics",
    "fit": "inference",
    "inference_gap": "diagnostics",
    "load": "data",
    "load_pair": "inference",
    "log_evidence": "diagnostics",
    "monte_carlo_kl": "diagnostics",
    "pair_from_modules": "models",
    "save_pair": "inference",
    "seeded": "seeding",
}
_MODULES = ("closed_forms", "data", "diagnostics", "elbos", "inference", "models", "plots")

__all__ = [
    "ESTIMATORS",
    "MODELS",
    "VAE",
    "AmortizedExponentialNormal",
    "BernoulliVAE",
    "CompiledSVI",
    "ConvGaussianVAE",
    "Estimate",
    "Exact_ELBO",
    "ExponentialNormal",
    "GaussianChain",
    "HierarchicalVAE",
    "History",
    "ImageData",
    "ImagePair",
    "LinearGaussian",
    "Pair",
    "TraceAnalyticKL_ELBO",
    "TraceDReG_ELBO",
    "TraceIWAE_ELBO",
    "TraceSTL_ELBO",
    "TraceScoreFunction_ELBO",
    "active_units",
    "aggregate_posterior",
    "bidirectional_evidence",
    "assert_elbo",
    "check_elbo",
    "check_kl",
    "closed_forms",
    "compare_elbos",
    "data",
    "diagnostics",
    "elbos",
    "evaluate",
    "expectation",
    "explain_elbo",
    "fit",
    "inference",
    "inference_gap",
    "load",
    "load_pair",
    "log_evidence",
    "models",
    "monte_carlo_kl",
    "pair_from_modules",
    "plots",
    "save_pair",
    "seeded",
]


def __getattr__(name: str) -> object:
    if name in _MODULES:
        return importlib.import_module(f"{__name__}.{name}")
    if name in _HOME:
        return getattr(importlib.import_module(f"{__name__}.{_HOME[name]}"), name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")


def __dir__() -> list[str]:
    return sorted(__all__)
