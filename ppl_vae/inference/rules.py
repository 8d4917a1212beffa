"""How a training run goes, besides its estimator and optimiser."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

from ppl_vae import checks
from ppl_vae.inference.monitoring.stopping import EarlyStopping

Log = Callable[[int, Mapping[str, float]], object]
Logs = Log | Iterable[Log]
PRECISIONS, KEEPS, ON_NAN = ("float32", "bf16"), ("last", "best"), ("raise", "skip")


@dataclass(frozen=True)
class Rules:
    """The options of `fit` that say how steps are taken and when they end; see there.

    Raises:
        TypeError: an option of a wrong kind.
        ValueError: an unknown name, or a number out of its range.
    """

    precision: str = "float32"
    clip_norm: float | None = None
    accumulate: int = 1
    stop: EarlyStopping | None = None
    keep: str = "last"
    on_nan: str = "raise"
    log: Logs = ()

    def __post_init__(self) -> None:
        checks.name("precision", self.precision, PRECISIONS)
        checks.count("accumulate", self.accumulate)
        if self.clip_norm is not None:
            checks.positive_number("clip_norm", self.clip_norm)
        if self.stop is not None and not isinstance(self.stop, EarlyStopping):
            raise checks.type_error(
                "stop as an EarlyStopping or None",
                type(self.stop).__name__,
                "For example EarlyStopping(patience=10).",
            )
        checks.name("keep", self.keep, KEEPS)
        checks.name("on_nan", self.on_nan, ON_NAN)
        for each in self.logs:
            if not callable(each):
                raise checks.type_error(
                    "log as functions of (epoch, numbers)",
                    type(each).__name__,
                    "For example [TensorBoardLog('logs')].",
                )

    @property
    def autocast(self) -> str | None:
        """The precision of matrix products, or None for that of the parameters."""
        return None if self.precision == "float32" else self.precision

    @property
    def logs(self) -> list[Log]:
        """What is told each epoch's numbers."""
        if callable(self.log) or not isinstance(self.log, Iterable):
            return [self.log]
        return list(self.log)

    @contextmanager
    def closing_logs(self) -> Iterator[None]:
        """Close the logs that can be, at the end or after an error."""
        try:
            yield
        finally:
            for each in self.logs:
                getattr(each, "close", lambda: None)()

    @property
    def judges(self) -> bool:
        """Whether epochs are judged by the validation ELBO."""
        return self.stop is not None or self.keep == "best"

    def require_validation(self, validation: object) -> None:
        """Raise ValueError if epochs are to be judged and there is nothing to judge them by."""
        if self.judges and validation is None:
            asked = "stop" if self.stop is not None else "keep='best'"
            raise checks.value_error(
                f"validation data with {asked}",
                "none",
                "Pass validation=..., on which epochs are judged.",
            )

    def describe(self) -> dict[str, Any]:
        """Return what differs from the defaults and changes the run, as JSON's types."""
        names = ("precision", "clip_norm", "accumulate", "keep", "on_nan")
        found: dict[str, Any] = {name: getattr(self, name) for name in names}
        found["stop"] = None if self.stop is None else repr(self.stop)
        return {n: v for n, v in found.items() if v != getattr(Rules, n)}
