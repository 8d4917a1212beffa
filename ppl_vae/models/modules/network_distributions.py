"""The distributions that an encoder and a decoder stand for: q(z | x) and p(x | z)."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import pyro.distributions as dist
import torch
from torch import Tensor
from torch.distributions import Distribution, Independent, constraints
from torch.distributions.relaxed_categorical import ExpRelaxedCategorical

from ppl_vae import checks
from ppl_vae.distributions import as_pyro
from ppl_vae.models.modules.network_outputs import TO_SCALE

WITHOUT_DENSITY = (dist.Delta, ExpRelaxedCategorical)
FAMILIES: dict[str, Callable[..., Any]] = {
    "bernoulli": dist.Bernoulli,
    "categorical": dist.Categorical,
    "normal": dist.Normal,
}


def without_independent(fn: Distribution) -> Distribution:
    """Return the distribution under any ``to_event``."""
    while isinstance(fn, Independent):
        fn = fn.base_dist
    return fn


def from_tensors(who: str, family: str, outputs: dict[str, Tensor], dtype: torch.dtype) -> Any:  # noqa: ANN401
    """Return the distribution of what `who` gave; ValueError where that is out of its range."""
    # What autocast has rounded is summed in full.
    parameters = {kind: value.to(dtype) for kind, value in outputs.items()}
    for kind in TO_SCALE.keys() & parameters.keys():
        parameters["scale"] = TO_SCALE[kind](parameters.pop(kind))
    try:
        return FAMILIES[family](**parameters)
    except ValueError as error:
        reason = " ".join(str(error).partition(", but found")[0].split())
        raise checks.value_error(
            f"outputs of the {who} that are {' and '.join(outputs)}",
            f"values of which torch says: {reason}",
            f"Say what they are by {who}_output, and look for NaN.",
        ) from None


def as_posterior(fn: Distribution, shape: tuple[int, ...]) -> Any:  # noqa: ANN401
    """Return q(z | x), batch shape `shape[:1]`, from a distribution that an encoder returned.

    Raises:
        TypeError: it is not reparameterised, or has no density over the space of z.
        ValueError: it has another shape.
    """
    base = without_independent(fn)
    name = type(base).__name__
    if not fn.has_rsample:
        raise checks.type_error(
            "q(z | x) with rsample, through which gradients reach the encoder",
            f"{name}, which has none",
            "Return a reparameterised family, such as Normal.",
        )
    if isinstance(base, WITHOUT_DENSITY) or base.support is constraints.simplex:
        raise checks.type_error(
            "q(z | x) with a density where the prior, a Normal over all of z, has one",
            name,
            "Return another family, or write the pair with a prior that fits it.",
        )
    return _over("encoder", fn, shape, "z")


def as_likelihood(fn: Distribution, lead: tuple[int, ...], shape: tuple[int, ...] | None) -> Any:  # noqa: ANN401
    """Return p(x | z), batch shape `lead`, from a decoder's distribution of one flat batch."""
    own = tuple(fn.batch_shape + fn.event_shape)
    fn = _over("decoder", fn, (math.prod(lead), *(own[1:] if shape is None else shape)), "x")
    return fn if len(lead) == 1 else _Unflattened(fn, torch.Size(lead))


class _Unflattened(dist.TorchDistribution):
    """A distribution whose one batch dimension is seen as several."""

    arg_constraints = {}  # pyright: ignore[reportAssignmentType]

    def __init__(self, base: Any, lead: torch.Size) -> None:  # noqa: ANN401
        self._base = base
        self.has_rsample = base.has_rsample
        super().__init__(lead, base.event_shape, validate_args=False)

    @property
    def support(self) -> Any:  # noqa: ANN401  # pyright: ignore[reportIncompatibleVariableOverride]
        return self._base.support

    def rsample(self, sample_shape: Any = ()) -> Tensor:  # noqa: ANN401
        return self._base.rsample(sample_shape).reshape(self._extended_shape(sample_shape))

    def sample(self, sample_shape: Any = ()) -> Tensor:  # noqa: ANN401
        return self._base.sample(sample_shape).reshape(self._extended_shape(sample_shape))

    def log_prob(self, value: Tensor) -> Tensor:
        event = value.dim() - len(self.event_shape)
        more = value.shape[: max(event - len(self.batch_shape), 0)]
        value = value.expand(more + self.batch_shape + self.event_shape)
        flat = value.reshape(more + self._base.batch_shape + self.event_shape)
        return self._base.log_prob(flat).reshape(more + self.batch_shape)


def in_support(fn: Any, x: Tensor) -> None:  # noqa: ANN401
    """Raise ValueError where `x` is outside of what p(x | z) can draw."""
    if not checks.values_are_checked():
        return
    good = fn.support.check(x)
    if not bool(good.all()):
        raise checks.value_error(
            f"x in the support of p(x | z), {fn.support}",
            f"{int((~good).sum())} of {good.numel()} entries that are not in it",
            "Change the data, or what the decoder returns.",
        )


def _over(who: str, fn: Distribution, shape: tuple[int, ...], what: str) -> Any:  # noqa: ANN401
    own = tuple(fn.batch_shape + fn.event_shape)
    if own != shape or not fn.batch_shape:
        raise checks.value_error(
            f"a distribution of {what} from the {who}, of shape {shape} with a batch first",
            f"batch shape {tuple(fn.batch_shape)}, event shape {tuple(fn.event_shape)}",
            "Give every example one distribution, and check the sizes.",
        )
    return as_pyro(fn).to_event(len(fn.batch_shape) - 1)
