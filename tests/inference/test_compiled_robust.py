"""What a compiled step survives, notices and refuses; never a wrong answer."""

import copy
import logging
import pickle
import random
import threading

import numpy as np
import pyro
import pyro.distributions as dist
import pytest
import torch
from cases import CASES
from parameters import equal, parameters
from pyro.infer import SVI, Trace_ELBO, TraceMeanField_ELBO
from pyro.optim import SGD, Adam

from ppl_vae import CompiledSVI
from ppl_vae.inference import UntraceableError, compiled
from ppl_vae.inference.deferred import deferred


def compiled_svi(pair, optim=None, **options):
    optim = optim or Adam({"lr": 0.01})
    return CompiledSVI(
        pair.model, pair.guide, optim, Trace_ELBO(), **{"backend": "eager", **options}
    )


@pytest.fixture
def pair():
    return CASES["bernoulli-vae"]()


@pytest.fixture
def x(pair):
    return pair.sample(5, seed=0)


def normal(scale=lambda: 1.0, loc=lambda x: 0.0):
    """A model and a guide of one latent, with what differs between the tests."""

    def model(x):
        with pyro.plate("data", len(x)), pyro.poutine.scale(scale=scale()):
            z = pyro.sample("z", dist.Normal(loc(x), 1.0))
            pyro.sample("x", dist.Normal(z, 1.0), obs=x)

    def guide(x):
        mean = pyro.param("mean", torch.tensor(0.3))
        with pyro.plate("data", len(x)), pyro.poutine.scale(scale=scale()):
            pyro.sample("z", dist.Normal(mean * x, 1.0))

    return model, guide


def both(make_programs, x, num_steps=6, between=lambda step: None):
    """Losses by Pyro and by a graph, from the same seed, and the compiled one."""
    losses = []
    for cls, options in ((SVI, {}), (CompiledSVI, {"backend": "eager"})):
        pyro.clear_param_store()
        random.seed(0)
        np.random.seed(0)  # noqa: NPY002
        svi = cls(*make_programs(), SGD({"lr": 0.01}), Trace_ELBO(), **options)
        torch.manual_seed(1)
        losses.append([])
        for step in range(num_steps):
            between(step)
            losses[-1].append(svi.step(x))
    return *losses, svi


def test_a_scale_that_a_closure_changes_is_noticed():
    now = {"scale": 1.0}
    expected, found, svi = both(
        lambda: normal(lambda: now["scale"]),
        torch.randn(5),
        between=lambda step: now.update(scale=1.0 if step < 3 else 0.25),
    )
    assert found == pytest.approx(expected, rel=1e-12)
    assert svi.is_compiled


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
    assert svi.why_eager == "an argument is of type object"


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


def test_shapes_and_dtypes_are_traced_once_each(pair, caplog):
    small, large = pair.sample(3, seed=0), pair.sample(6, seed=0)
    svi = compiled_svi(pair)
    with caplog.at_level(logging.INFO, logger="ppl_vae.inference"):
        for _ in range(4):
            svi.step(small)
            svi.step(large)
    assert len(svi._steppers) == 2
    assert caplog.text.count("tracing again: arguments of a new shape, dtype or value") == 1


def test_it_survives_a_cleared_param_store(pair, x):
    svi = compiled_svi(pair)
    for _ in range(3):
        svi.step(x)
    pyro.clear_param_store()
    before = parameters(pair)
    svi.step(x)
    assert not equal(before, parameters(pair))
    assert len(pyro.get_param_store()) == len(before)
    svi.step(x)
    assert svi.is_compiled


def test_fresh_parameters_after_clearing_are_trained():
    expected, found, svi = both(
        normal,
        torch.randn(5),
        num_steps=8,
        between=lambda step: pyro.clear_param_store() if step == 4 else None,
    )
    assert found == pytest.approx(expected, rel=1e-12)
    assert svi.is_compiled


def test_a_converted_pair_is_traced_again(pair, x):
    svi = compiled_svi(pair, SGD({"lr": 0.01}))
    for _ in range(3):
        svi.step(x)
    pair.float()
    for _ in range(3):
        svi.step(x.float())
    assert svi.is_compiled
    assert all(p.dtype is torch.float32 for p in pair.parameters())


@pytest.mark.parametrize("how", [copy.deepcopy, lambda pair: pickle.loads(pickle.dumps(pair))])
def test_copies_of_a_trained_pair_are_independent(pair, x, how):
    svi = compiled_svi(pair)
    svi.step(x)
    svi.step(x)
    twin = how(pair)
    before = parameters(twin)
    assert equal(before, parameters(pair))
    svi.step(x)
    assert equal(before, parameters(twin))
    other = compiled_svi(twin)
    moved = parameters(pair)
    other.step(x)
    other.step(x)
    assert other.is_compiled
    assert equal(moved, parameters(pair))


def test_an_error_in_the_model_changes_nothing():
    model, guide = normal()
    raising = {"now": False}

    def failing(x):
        if raising["now"]:
            raise KeyError("in the model")
        return model(x)

    svi = CompiledSVI(failing, guide, SGD({"lr": 0.01}), Trace_ELBO(), backend="eager")
    x = torch.randn(5)
    svi.step(x)
    svi.step(x)
    mean = pyro.param("mean").clone()
    raising["now"] = True
    with pytest.raises(KeyError, match="in the model"):
        svi.step(x)
    assert torch.equal(mean, pyro.param("mean"))
    raising["now"] = False
    svi.step(x)
    assert svi.is_compiled
    assert not torch.equal(mean, pyro.param("mean"))


def test_two_compiled_steps_in_turn_and_in_threads():
    pairs = [CASES["linear-gaussian"]() for _ in range(4)]
    xs = [pair.sample(5, seed=0) for pair in pairs]
    stepped = [
        CompiledSVI(p.model, p.guide, SGD({"lr": 0.01}), TraceMeanField_ELBO(), backend="eager")
        for p in pairs
    ]
    for _ in range(3):
        for svi, x in zip(stepped, xs, strict=True):
            svi.step(x)
    assert all(svi.is_compiled for svi in stepped)
    before = [parameters(pair) for pair in pairs]
    threads = [
        threading.Thread(target=svi.run, args=(x,), kwargs={"num_steps": 20})
        for svi, x in zip(stepped, xs, strict=True)
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    for old, pair in zip(before, pairs, strict=True):
        assert not equal(old, parameters(pair))
        assert all(p.isfinite().all() for p in pair.parameters())


def test_building_a_graph_leaves_random_streams_and_gradients(pair, x):
    svi = compiled_svi(pair, SGD({"lr": 0.0}))
    svi.step(x)
    torch.manual_seed(9)
    first = svi.step(x)
    state = torch.get_rng_state()
    torch.manual_seed(9)
    assert svi.step(x) == first
    assert torch.equal(state, torch.get_rng_state())


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


@pytest.mark.slow
@pytest.mark.timeout(1200)
def test_memory_does_not_grow_over_a_hundred_thousand_steps():
    import resource

    pair = CASES["exponential-normal"]()
    x = pair.sample(5, seed=0)
    svi = compiled_svi(pair, SGD({"lr": 1e-6}), backend="inductor")
    svi.run(x, num_steps=1000)
    for _ in range(100):
        svi.step(x)
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    svi.run(x, num_steps=50_000)
    for _ in range(50_000):
        svi.step(x)
    assert svi.is_compiled
    assert resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before < 20_000  # kilobytes


@pytest.mark.cuda
@pytest.mark.skipif(not torch.cuda.is_available(), reason="no CUDA device")
def test_cuda():
    pair = CASES["bernoulli-vae"]().to("cuda")
    x = pair.sample(5, seed=0)
    svi = CompiledSVI(pair.model, pair.guide, Adam({"lr": 0.01}), Trace_ELBO())
    losses = svi.run(x, num_steps=5)
    assert svi.is_compiled, svi.why_eager
    assert losses.isfinite().all()
