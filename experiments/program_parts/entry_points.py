"""The entry points, by name."""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor

from program_parts import estimated, measured
from program_parts.cells import REFUSED, Cell
from program_parts.small import Small, Spec

ENTRY_POINTS: dict[str, Callable[[Small, Tensor, int], Cell]] = {
    "fit": estimated.fitted,
    "CompiledSVI": estimated.compiled,
    "compare_elbos": estimated.compared,
    "explain_elbo": estimated.explained,
    "check_elbo, right": estimated.right_objective,
    "check_elbo, KL halved": estimated.half_the_kl,
    "check_kl": estimated.divergence,
    "log_evidence, iwae": measured.evidence("iwae"),
    "log_evidence, quadrature": measured.evidence("quadrature"),
    "evaluate": measured.evaluated,
    "inference_gap": measured.gap,
    "active_units": measured.units,
    "aggregate_posterior": measured.aggregate,
}


def cell(entry_point: str, spec: Spec, *, count: int, seed: int) -> Cell:
    """Run an entry point on a program, from a fresh state."""
    torch.manual_seed(seed)
    try:
        return ENTRY_POINTS[entry_point](Small(spec), spec.data, count)
    except (ValueError, TypeError, NotImplementedError) as error:
        words = str(error)
        if words.startswith("expected ") and "; got " in words:
            return Cell(REFUSED, words)
        return Cell("RAW ERROR", f"{type(error).__name__}: {words[:200]}")
    except Exception as error:  # whatever a user would see
        return Cell("RAW ERROR", f"{type(error).__name__}: {str(error)[:200]}")
