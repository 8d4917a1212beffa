"""What cannot be compiled is done by Pyro, with its reason and one message."""

import logging
import random

import numpy as np
import pytest
import torch
from compiled_steps import both, compiled_svi, normal
from parameters import equal, parameters
from pyro.infer import Trace_ELBO
from pyro.optim import SGD

from ppl_vae import CompiledSVI


def test_a_scale_that_changes_at_every_step_falls_back(caplog):
    now = {"scale": 1.0}
    expected, found, svi = both(
        lambda: normal(lambda: now["scale"]),
        torch.randn(5),
        num_steps=10,
        between=lambda step: now.update(scale=1 / (step + 1)),
    )
    assert found == pytest.approx(expected, rel=1e-12)
    assert "change all the time" in svi.why_eager
    assert len([r for r in caplog.records if r.levelno == logging.WARNING]) == 1


def test_a_counter_within_the_program_falls_back():
    def programs():
        count = {"steps": 0}

        def scale():
            count["steps"] += 1
            return 1 / count["steps"]

        return normal(scale)

    expected, found, svi = both(programs, torch.randn(5))
    assert found == pytest.approx(expected, rel=1e-12)
    assert "changes a Python variable" in svi.why_eager


@pytest.mark.parametrize(
    ("loc", "reason"),
    [
        (lambda x: random.random(), "from Python or NumPy"),
        (lambda x: float(np.random.rand()), "from Python or NumPy"),  # noqa: NPY002
        (lambda x: x.mean().item(), "reads a tensor's value in Python"),
        (lambda x: 1.0 if x.sum() > 0 else 2.0, "reads a tensor's value in Python"),
        (lambda x: torch.as_tensor(x.numpy().mean()), "reads a tensor's value in Python"),
        (lambda x: x[x > 0].mean(), "the size of a tensor depends on data"),
    ],
    ids=["python", "numpy", "item", "branch", "to numpy", "boolean index"],
)
def test_what_cannot_be_traced_is_done_by_pyro_after_one_message(loc, reason, caplog):
    expected, found, svi = both(lambda: normal(loc=loc), torch.randn(5))
    assert found == expected
    assert reason in svi.why_eager
    warnings = [r.getMessage() for r in caplog.records if r.levelno == logging.WARNING]
    assert warnings == [f"not compiled, Pyro does the steps: {svi.why_eager}"]


def test_an_argument_that_is_no_tensor_or_number_falls_back(pair, x):
    model, guide = normal()
    svi = CompiledSVI(
        lambda x, how: model(x),
        lambda x, how: guide(x),
        SGD({"lr": 0.01}),
        Trace_ELBO(),
        backend="eager",
    )
    for _ in range(3):
        svi.step(x[:, 0, 0, 0], how=object())
    assert svi.why_eager == "an argument is of type object, or holds it"


def test_no_compiler_falls_back_with_its_reason(pair, x, monkeypatch, caplog):
    monkeypatch.setenv("CXX", "/no/such/compiler")
    svi = compiled_svi(pair, backend="inductor")
    losses = [svi.step(x) for _ in range(3)]
    assert all(loss == loss for loss in losses)
    assert svi.why_eager == "no C++ compiler was found"
    assert len([r for r in caplog.records if r.levelno == logging.WARNING]) == 1


def test_a_graph_that_would_be_wrong_is_not_used(pair, x, monkeypatch):
    """What is compiled is compared with what is not."""
    monkeypatch.setattr(
        "ppl_vae.inference.compilation.chunk.lower",
        lambda body, given, name: lambda given: [2 * t for t in body(*given)],
    )
    svi = compiled_svi(pair, backend="inductor")
    before = [svi.step(x), parameters(pair)][1]
    svi.step(x)
    assert "other numbers" in svi.why_eager
    assert not equal(before, parameters(pair))
