"""What a compiled step survives and notices; never a wrong answer."""

import copy
import linecache
import logging
import pickle
import threading
import unittest
from pathlib import Path

import pyro
import pytest
import torch
from cases import CASES
from compiled_steps import both, compiled_svi, normal
from parameters import equal, parameters
from pyro.infer import Trace_ELBO, TraceMeanField_ELBO
from pyro.optim import SGD, Adam

from ppl_vae import CompiledSVI


def test_a_scale_that_a_closure_changes_is_noticed():
    now = {"scale": 1.0}
    expected, found, svi = both(
        lambda: normal(lambda: now["scale"]),
        torch.randn(5),
        between=lambda step: now.update(scale=1.0 if step < 3 else 0.25),
    )
    assert found == pytest.approx(expected, rel=1e-12)
    assert svi.is_compiled


class TestOfACase(unittest.TestCase):
    """Programs that refer to ``self``, and so to whatever runs the tests."""

    def test_what_a_runner_holds_is_not_watched(self):
        self.scale = 1.0
        model, guide = normal(lambda: self.scale + 0 * pytest.approx(1.0).expected)
        svi = CompiledSVI(model, guide, SGD({"lr": 0.0}), Trace_ELBO(), backend="eager")
        x = torch.randn(5)
        losses = []
        files = Path(torch.__file__).parent.glob("*.py")
        for scale, file in zip((1.0, 1.0, 1.0, 2.0, 2.0, 2.0), files, strict=False):
            self.scale = scale
            torch.manual_seed(0)
            losses.append(svi.step(x))
            linecache.updatecache(str(file))  # as a traceback does
        assert svi.is_compiled, svi.why_eager
        assert losses[1] == losses[2] != losses[4] == losses[5]


@pytest.mark.parametrize("kind", [list, lambda values: dict(enumerate(values))])
@pytest.mark.parametrize("new", [2.0, 1])
def test_a_long_list_is_watched_to_its_end(kind, new):
    weights = kind([1.0] * 20_000)

    def change(step):
        weights[19_999] = 1.0 if step < 3 else new

    expected, found, svi = both(
        lambda: normal(lambda: 1.0 / weights[19_999]), torch.randn(5), between=change
    )
    assert found == pytest.approx(expected, rel=1e-12)
    assert svi.is_compiled


def test_more_than_can_be_watched_is_left_to_pyro():
    weights = [{"weight": 1.0} for _ in range(6000)]

    def change(step):
        weights[-1]["weight"] = 1.0 if step < 3 else 2.0

    expected, found, svi = both(
        lambda: normal(lambda: weights[-1]["weight"]), torch.randn(5), between=change
    )
    assert found == expected
    assert "more than 5000 Python values; keep numbers in tensors" in svi.why_eager


def test_shapes_and_dtypes_are_traced_once_each(pair, caplog):
    small, large = pair.sample(3, seed=0), pair.sample(6, seed=0)
    svi = compiled_svi(pair)
    with caplog.at_level(logging.INFO, logger="ppl_vae.inference"):
        for _ in range(4):
            svi.step(small)
            svi.step(large)
    assert len(svi._graphs) == 2
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
