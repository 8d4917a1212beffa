"""Where an objective is compared with the truth: parameters and batches."""

from ppl_vae.diagnostics.check.settings.settings import Setting, Settings
from ppl_vae.diagnostics.check.settings.task import Task
from ppl_vae.diagnostics.check.settings.visits import Columns, Draws, Sample, Visit

__all__ = ["Columns", "Draws", "Sample", "Setting", "Settings", "Task", "Visit"]
