"""A compiled function, which other parts use, draws as the function does."""

import linecache

import pyro
import pytest
import torch
from parameters import equal
from pyro.infer import Trace_ELBO
from torch._inductor import compile_fx
from torch.fx import graph_module

from ppl_vae.inference import UntraceableError, compiled
from ppl_vae.inference.compilation.inductor.lowering import BACKENDS
from ppl_vae.inference.steps.deferred import deferred


def test_a_compiled_function_draws_as_the_function_does(pair, x):
    """The tool that other parts use: gradients of an estimator as a function."""
    elbo = Trace_ELBO()

    def gradient(x):
        loss = elbo.differentiable_loss(pair.model, pair.guide, x)
        return [loss.detach(), *torch.autograd.grad(loss, list(pair.parameters()))]

    elbo = deferred(elbo)
    with pyro.validation_enabled(False):  # noqa: FBT003
        made = compiled(gradient, [x], backend="eager")
        torch.manual_seed(3)
        expected = gradient(x)
    torch.manual_seed(3)
    assert equal(expected, made(x))
    assert not equal(expected, made(x))
    with pytest.raises(UntraceableError, match="reads a tensor's value in Python"):
        compiled(lambda x: [x * x.sum().item()], [x], backend="eager")
    with pytest.raises(ValueError, match="backend as one of"):
        compiled(gradient, [x], backend="jax")


@pytest.mark.parametrize("backend", BACKENDS)
def test_compiling_leaves_no_source_in_memory(backend):
    """PyTorch keeps the text of a graph until the process ends, and a long one compiles often."""
    texts = graph_module._loader.eval_cache
    torch.fx.symbolic_trace(torch.nn.Linear(2, 2))
    before = dict(texts)
    assert before
    made = compiled(lambda x: [x.exp() + torch.randn(2)], [torch.ones(2)], backend=backend)
    assert len(made(torch.ones(2))) == 1
    assert texts == before
    assert not [name for name in linecache.cache if "eval_with_key" in name and name not in texts]


def test_the_same_operations_are_compiled_once(monkeypatch):
    """Pairs of one architecture share the code; other numbers, shapes or settings do not."""
    made, compiling = [], compile_fx.compile_fx

    def counted(module, inputs, **options):
        if "config_patches" in options:  # it calls itself without them
            made.append(module)
        return compiling(module, inputs, **options)

    monkeypatch.setattr(compile_fx, "compile_fx", counted)

    def power(exponent):
        weight = torch.randn(3)
        return weight, lambda x: [x**exponent * weight + torch.randn(3)]

    for exponent, x, count in (
        (2, torch.ones(3), 1),
        (2, torch.zeros(3), 1),
        (3, torch.ones(3), 2),
        (3, torch.ones(2, 3), 3),
        (3, torch.ones(3, 2).mT, 4),
        (3, torch.ones(2, 3, dtype=torch.float32), 5),
    ):
        weight, function = power(exponent)
        found = compiled(function, [x])
        x = x + 1.5
        torch.manual_seed(0)
        (value,) = found(x)
        torch.manual_seed(0)
        torch.testing.assert_close(value, function(x)[0])
        assert len(made) == count
    monkeypatch.setattr(torch, "get_num_threads", lambda: 64)
    compiled(function, [x])
    assert len(made) == 6
