"""Training: the step, the loop, run folders and checkpoints."""

from ppl_vae.inference.checkpoint import load_pair, save_pair
from ppl_vae.inference.failure import NonFiniteLossError
from ppl_vae.inference.fit import fit
from ppl_vae.inference.history import History

__all__ = ["History", "NonFiniteLossError", "fit", "load_pair", "save_pair"]
