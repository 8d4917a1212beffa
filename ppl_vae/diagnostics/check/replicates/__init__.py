"""Draws of an objective and of the right terms, as many as the answer needs."""

from ppl_vae.diagnostics.check.replicates.collector import Collector
from ppl_vae.diagnostics.check.replicates.sequential_test import SequentialTest

__all__ = ["Collector", "SequentialTest"]
