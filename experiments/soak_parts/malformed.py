"""Malformed arguments of every public function: is each refused in words, or right?"""

from __future__ import annotations

import inspect
import re
import signal
import tempfile
import warnings
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import torch
from hypothesis import HealthCheck, Phase, given, settings
from hypothesis import seed as seeded_by
from hypothesis import strategies as st

from soak_parts.calls import Call, calls

# Of one call, in seconds.
LONGEST = 30
IN_WORDS = re.compile(r"expected .*; got ", re.DOTALL)
# Python's own words for an argument that a signature does not have.
BY_PYTHON = re.compile(r"(unexpected keyword|missing \d+ required)")


def values() -> st.SearchStrategy[Any]:
    """Return what takes an argument's place: of another type, shape, dtype, or out of range."""
    numbers = st.one_of(
        st.integers(-3, 3),
        st.floats(allow_nan=True, allow_infinity=True, width=32),
        st.sampled_from([0, -1, 0.0, 2.5, 1e30, True, 1j, float("nan"), float("inf")]),
    )
    shapes = st.lists(st.integers(0, 3), max_size=4).map(tuple)
    dtypes = st.sampled_from(
        [torch.float32, torch.float64, torch.int64, torch.bool, torch.complex64, torch.float16]
    )
    fills = st.sampled_from([0, 1, -1, float("nan"), float("inf")])
    tensors = st.builds(_tensor, shapes, dtypes, fills)
    others = st.one_of(
        st.none(),
        st.text(max_size=3),
        st.binary(max_size=2),
        st.builds(object),
        st.just(_nothing),
        st.builds(np.zeros, shapes),
        st.just(Path("nowhere")),
    )
    plain = st.one_of(numbers, tensors, others)
    held = st.one_of(
        st.lists(plain, max_size=2),
        st.lists(plain, max_size=2).map(tuple),
        st.dictionaries(st.text(max_size=3), plain, max_size=2),
        st.sets(st.integers(-2, 2), max_size=2),
    )
    return st.one_of(plain, plain, held)


def _nothing(*_: object, **__: object) -> None:
    """Do nothing, whatever it is given."""


def _tensor(shape: tuple[int, ...], dtype: torch.dtype, fill: float) -> torch.Tensor:
    whole = dtype in (torch.int64, torch.bool)
    return torch.full(shape, 1 if whole and fill not in (0, 1, -1) else fill, dtype=dtype)


@contextmanager
def limited(seconds: int) -> Iterator[None]:
    """Raise TimeoutError in a block that takes longer."""

    def stop(*_: object) -> None:
        raise TimeoutError(f"more than {seconds} s")

    before = signal.signal(signal.SIGALRM, stop)
    signal.alarm(seconds)
    try:
        yield
    finally:
        signal.alarm(0)
        signal.signal(signal.SIGALRM, before)


def outcome(call: Call, changed: dict[str, Any]) -> tuple[str, str]:
    """Return ``taken``, ``refused`` or ``raw`` for a call with some arguments changed, and why."""
    try:
        with limited(LONGEST), warnings.catch_warnings():
            warnings.simplefilter("ignore")
            call.function(**{**call.arguments, **changed})
    except Exception as error:  # noqa: BLE001
        text = f"{type(error).__name__}: {error}"
        if IN_WORDS.search(str(error)) or BY_PYTHON.search(str(error)):
            return "refused", text
        return "raw", text
    return "taken", ""


def campaign(count: int, *, seed: int, only: str = "") -> list[dict[str, Any]]:
    """Return a row for each function, with what became of `count` malformed calls of it."""
    rows = []
    with tempfile.TemporaryDirectory() as name:
        for function, call in calls(Path(name)).items():
            if only not in function:
                continue
            with warnings.catch_warnings():
                warnings.simplefilter("ignore")
                call.function(**call.arguments)  # as it stands, it is taken
            rows.append({"function": function, **of_one(call, count, seed)})
    return rows


def of_one(call: Call, count: int, seed: int) -> dict[str, Any]:
    """Return how many malformed calls were taken, refused, or ended in a raw error."""
    found: Counter[str] = Counter()
    raw: dict[str, str] = {}
    parameters = inspect.signature(call.function).parameters.values()
    by_name = {p.name for p in parameters if p.kind is not p.VAR_KEYWORD}
    names = sorted(by_name | call.arguments.keys())
    several = st.lists(st.sampled_from(names), min_size=1, max_size=2, unique=True)

    @seeded_by(seed)
    @settings(
        max_examples=count,
        deadline=None,
        database=None,
        phases=[Phase.generate],
        suppress_health_check=list(HealthCheck),
    )
    @given(st.data(), several)
    def attempt(data: Any, chosen: list[str]) -> None:  # noqa: ANN401
        changed = {name: data.draw(values()) for name in chosen}
        kind, text = outcome(call, changed)
        found[kind] += 1
        if kind == "raw":
            raw.setdefault(re.sub(r"\d+", "#", text)[:80], f"{_shown(changed)} -> {text}"[:400])

    attempt()
    return {
        "tried": found.total(),
        "taken": found["taken"],
        "refused": found["refused"],
        "raw": found["raw"],
        "first raw error": next(iter(raw.values()), ""),
        "errors": list(raw.values()),
    }


def _shown(changed: dict[str, Any]) -> str:
    shown = {
        name: f"tensor{tuple(v.shape)}:{v.dtype}" if torch.is_tensor(v) else repr(v)
        for name, v in changed.items()
    }
    return ", ".join(f"{name}={value}" for name, value in shown.items())
