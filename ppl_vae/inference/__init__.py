"""Training: the step, the loop, run folders and checkpoints."""

from ppl_vae.inference.compilation.inductor.lowering import compiled
from ppl_vae.inference.compilation.svi import CompiledSVI
from ppl_vae.inference.compilation.tracing.constants import UntraceableError
from ppl_vae.inference.fit import fit
from ppl_vae.inference.monitoring.history import History
from ppl_vae.inference.monitoring.pictures import draw_pictures
from ppl_vae.inference.monitoring.stopping import EarlyStopping
from ppl_vae.inference.processes.group import ProcessFailedError
from ppl_vae.inference.saving.checkpoint import load_pair, save_pair
from ppl_vae.inference.steps.failure import NonFiniteLossError
from ppl_vae.inference.steps.schedules import CyclicalWarmup, EachStep, LinearWarmup

__all__ = [
    "CompiledSVI",
    "CyclicalWarmup",
    "EachStep",
    "EarlyStopping",
    "History",
    "LinearWarmup",
    "NonFiniteLossError",
    "ProcessFailedError",
    "UntraceableError",
    "compiled",
    "draw_pictures",
    "fit",
    "load_pair",
    "save_pair",
]
