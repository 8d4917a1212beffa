"""What a weight of a KL divergence may be."""

from __future__ import annotations

import math
from collections.abc import Mapping
from numbers import Real

from torch import Tensor

from ppl_vae import checks

Weight = float | Tensor
KLWeight = Weight | Mapping[str, Weight]


def check_weight(value: object, name: str = "kl_weight") -> Weight:
    """Return `value`; raise unless it is a number or a 0-dimensional tensor, at least 0."""
    if isinstance(value, Tensor):
        if value.dim() or not value.is_floating_point():
            raise checks.type_error(
                f"{name} as a 0-dimensional floating-point tensor",
                f"shape {tuple(value.shape)}, {value.dtype}",
                "Pass torch.tensor(1.0), or a dictionary with a weight for each site.",
            )
    elif isinstance(value, bool) or not isinstance(value, Real):
        raise checks.type_error(
            f"{name} as a number, a tensor, or a dictionary of them by site",
            type(value).__name__,
            "1.0 is the ELBO.",
        )
    number = float(value)
    if not (math.isfinite(number) and number >= 0):
        raise checks.value_error(f"{name} finite and at least 0", f"{number}", "1.0 is the ELBO.")
    return value if isinstance(value, Tensor) else number


def check_weights(value: object) -> KLWeight:
    """Return `value`; raise unless it is a weight, or a mapping from sites to weights."""
    if isinstance(value, Mapping):
        return {site: check_weight(w, f"kl_weight of {site!r}") for site, w in value.items()}
    return check_weight(value)


def is_one(value: object) -> bool:
    """Return whether `value` is the number 1, which leaves the ELBO as it is."""
    return type(value) in (int, float) and value == 1


def check_free_bits(value: object) -> float:
    """Return `value` as a float; raise unless it is a number, finite and at least 0."""
    if isinstance(value, bool) or not isinstance(value, (int, float)):
        raise checks.type_error(
            "free_bits as a number", type(value).__name__, "It is in nats per latent dimension."
        )
    if not (math.isfinite(value) and value >= 0):
        raise checks.value_error(
            "free_bits finite and at least 0", repr(value), "0.0 leaves the KL as it is."
        )
    return float(value)
