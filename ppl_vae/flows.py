"""zuko's normalising flows as Pyro's distributions, and the flows that pairs are made of."""

from __future__ import annotations

from types import ModuleType
from typing import Any

import torch
from pyro.distributions import TorchDistribution
from torch import Tensor, nn
from torch.distributions import Distribution

from ppl_vae import checks

# Names here, and zuko's.
FLOWS = {"maf": "MAF", "nsf": "NSF", "nice": "NICE"}


class FlowDistribution(TorchDistribution):
    """A flow of zuko as a distribution of Pyro.

        log q(z) = log b(T(z)) + log |det dT/dz|,    z = T^-1(e), e ~ b

    Unlike Pyro's ``ZukoToPyro`` it has a support, and remembers no draw: a density is that of the
    parameters as they are, and a draw may be detached, replayed or drawn for several particles.

    Args:
        flow: what a zuko flow returns when it is called, ``flow()`` or ``flow(context)``.
        validate_args: whether values are checked; None as torch was told.

    Raises:
        TypeError: `flow` is something else, such as the flow before it was called.

    Example:
        >>> import pyro, zuko
        >>> flow = zuko.flows.MAF(features=2, context=3)
        >>> with pyro.plate("data", 4):
        ...     z = pyro.sample("z", FlowDistribution(flow(torch.ones(4, 3))))
        >>> z.shape
        torch.Size([4, 2])
    """

    arg_constraints: Any = {}  # noqa: RUF012

    def __init__(self, flow: Any, validate_args: bool | None = None) -> None:  # noqa: ANN401,FBT001
        if not (isinstance(flow, Distribution) and hasattr(flow, "transform")):
            raise checks.type_error(
                "the distribution that a zuko flow returns",
                type(flow).__name__,
                "Call the flow: FlowDistribution(flow(context)).",
            )
        self.flow: Any = flow
        super().__init__(flow.batch_shape, flow.event_shape, validate_args=validate_args)

    @property
    def has_rsample(self) -> bool:
        """Whether the noise has a derivative, and so the draws."""
        return self.flow.base.has_rsample

    @property
    def support(self) -> Any:  # noqa: ANN401
        """Where the density is above 0."""
        return self.flow.transform.domain

    def expand(
        self,
        batch_shape: Any,  # noqa: ANN401
        _instance: FlowDistribution | None = None,
    ) -> FlowDistribution:
        """Return the same distribution, of a batch shape to which this one's broadcasts."""
        return type(self)(self.flow.expand(torch.Size(batch_shape)), self._validate_args)

    def rsample(self, sample_shape: Any = ()) -> Tensor:  # noqa: ANN401
        """Draw values with a derivative, (*sample_shape, *batch_shape, *event_shape)."""
        return self.flow.rsample(torch.Size(sample_shape))

    def sample(self, sample_shape: Any = ()) -> Tensor:  # noqa: ANN401
        """Draw values, (*sample_shape, *batch_shape, *event_shape)."""
        with torch.no_grad():
            return self.flow.sample(torch.Size(sample_shape))

    def rsample_and_log_prob(self, sample_shape: Any = ()) -> tuple[Tensor, Tensor]:  # noqa: ANN401
        """Draw values, and return them with their log-densities; cheaper than one by one."""
        return self.flow.rsample_and_log_prob(torch.Size(sample_shape))

    def log_prob(self, value: Tensor) -> Tensor:
        """Return the log-density, in nats, one value an event."""
        if self._validate_args:
            self._validate_sample(value)
        return self.flow.log_prob(self._whole(value))

    def noise(self, value: Tensor) -> Tensor:
        """Return the noise from which `value` is drawn, of the same shape."""
        return self.flow.transform(self._whole(value))

    def at(self, noise: Tensor) -> Tensor:
        """Return the value that is drawn from `noise`."""
        return self.flow.transform.inv(self._whole(noise))

    def _whole(self, value: Tensor) -> Tensor:
        # zuko does not broadcast values against a context.
        event = len(self.event_shape)
        lead = torch.broadcast_shapes(value.shape[: value.dim() - event], self.batch_shape)
        return value.expand(*lead, *self.event_shape)


def transform_on(base: Distribution, lazy: nn.Module, context: Tensor | None) -> FlowDistribution:
    """Return the flow with the noise of `base`, and zuko's transform from values to it."""
    return FlowDistribution(_zuko().distributions.NormalizingFlow(lazy(context), base))


def lazy_transform(
    kind: str, features: int, context: int, *, transforms: int, hidden: list[int]
) -> nn.Module:
    """Return zuko's transform, a module that takes the context.

    Args:
        kind: a name in FLOWS.
        features: length of the values.
        context: length of the context; 0 for none.
        transforms: how many follow each other.
        hidden: hidden sizes of each one's network.

    Raises:
        ImportError: the extra ``flows`` is not installed.
    """
    flow = getattr(_zuko().flows, FLOWS[kind])
    return flow(features, context, transforms=transforms, hidden_features=hidden).transform


def _zuko() -> ModuleType:
    checked = checks.values_are_checked()
    try:
        import zuko
    except ImportError:
        raise checks.extra("flows", "zuko") from None
    finally:
        # zuko switches the checks of all distributions off when it is first imported.
        Distribution.set_default_validate_args(checked)
    return zuko
