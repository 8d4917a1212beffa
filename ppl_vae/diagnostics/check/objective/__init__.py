"""Calls of the objective, the noise that it draws, and what is put back afterwards."""

from ppl_vae.diagnostics.check.objective.calls import Objective
from ppl_vae.diagnostics.check.objective.dropout_off import WithoutDropout
from ppl_vae.diagnostics.check.objective.latent_noise import (
    LAYOUTS,
    Inject,
    Latent,
    Transform,
    WithoutPathwise,
    arrange,
    completed,
    fresh_noise,
    has_score,
    of_latents,
)
from ppl_vae.diagnostics.check.objective.noise_recorder import (
    EXPONENTIAL,
    HALF,
    NORMAL,
    UNIFORM,
    Recorder,
)
from ppl_vae.diagnostics.check.objective.restoring import (
    Values,
    as_found,
    in_single,
    start_streams,
)

__all__ = [
    "EXPONENTIAL",
    "HALF",
    "LAYOUTS",
    "NORMAL",
    "UNIFORM",
    "Inject",
    "Latent",
    "Objective",
    "Recorder",
    "Transform",
    "Values",
    "WithoutDropout",
    "WithoutPathwise",
    "arrange",
    "as_found",
    "completed",
    "fresh_noise",
    "has_score",
    "in_single",
    "of_latents",
    "start_streams",
]
