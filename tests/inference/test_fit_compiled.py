"""Steps that `fit` compiles from the first one on: the same numbers, or refused."""

import collections
import functools
import itertools
import logging
import random

import numpy as np
import pyro
import pytest
import torch
from torch.utils.data import DataLoader, TensorDataset

from ppl_vae import BernoulliVAE, BinaryLatentVAE, fit
from ppl_vae.elbos import TraceEnumerate_ELBO
from ppl_vae.inference.compilation import epoch, stepper
from ppl_vae.inference.compilation.tracing.constants import UntraceableError
from ppl_vae.inference.compilation.tracing.graph import trace
from ppl_vae.inference.compilation.tracing.watch import Watch

SHAPE = (1, 4, 4)


def images(count=64):
    return torch.rand(count, *SHAPE, generator=torch.Generator().manual_seed(0)).round()


def trained(pair, data=None, elbo="trace", **options):
    data = images() if data is None else data
    return fit(pair, data, elbo=elbo, num_epochs=2, batch_size=16, progress=False, **options)


@pytest.mark.parametrize(
    ("cls", "elbo"),
    [
        (BernoulliVAE, "analytic-kl"),
        (BernoulliVAE, "enumerate"),
        (BinaryLatentVAE, "trace"),
        (BinaryLatentVAE, "vimco"),
    ],
)
def test_compiling_from_the_first_step_gives_the_same_elbos(cls, elbo):
    found = [
        trained(cls(SHAPE, 3, (8,), seed=0), elbo=elbo, compile=how).train_elbo
        for how in (False, True)
    ]
    assert found[1] == pytest.approx(found[0], rel=1e-11)


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
@pytest.mark.parametrize("size", [(1,), (17,), (100, 30)])
@pytest.mark.parametrize("layout", ["plain", "transposed", "expanded"])
def test_bits_are_traced_as_the_noise_that_torch_compares(dtype, size, layout):
    p = torch.rand(size, dtype=dtype)
    if layout != "plain":
        p = p.mT if layout == "transposed" and p.ndim > 1 else p.expand(7, *size)
    graph = trace(lambda p: [torch.bernoulli(p)], [p])
    assert len(graph.draws) == 1
    torch.manual_seed(1)
    expected, after = torch.bernoulli(p), torch.get_rng_state()
    torch.manual_seed(1)
    assert torch.equal(graph(p)[0], expected)
    assert torch.equal(torch.get_rng_state(), after)


class Remembering(BernoulliVAE):
    """Makes a number for each size of batch when it is first seen, or one in every call."""

    def __init__(self, number):
        super().__init__(SHAPE, 3, (8,), seed=0)
        self.number, self.calls, self.cache = number, 0, {}

    def decode(self, z):
        if self.number == "counter":
            self.calls += 1
            return self.decoder(z) / self.calls
        if len(z) not in self.cache:
            self.cache[len(z)] = torch.rand(()) if self.number == "random" else torch.tensor(0.5)
        return self.decoder(z) * self.cache[len(z)]


def test_a_cache_that_the_first_run_fills_is_no_obstacle():
    plain, fast = (trained(Remembering("cached"), compile=how) for how in (False, True))
    assert fast.train_elbo == pytest.approx(plain.train_elbo, rel=1e-11)


@pytest.mark.parametrize(
    ("number", "reason"),
    [("random", "first run gives other numbers"), ("counter", r"Python variable \(calls\)")],
)
def test_what_differs_between_runs_is_refused_and_left_as_it_was(number, reason):
    pair = Remembering(number)
    with pytest.raises(NotImplementedError, match=reason):
        trained(pair, compile=True)
    assert pair.calls == 0
    assert 16 not in pair.cache


STEPS = (0.5 if step < 5 else 1.0 for step in range(10**6))
COUNT = itertools.count()


class Keeping(BernoulliVAE):
    """Keeps something from its first call, or from all of them, in a way of its own."""

    def __init__(self, how):
        super().__init__(SHAPE, 3, (8,), seed=0)
        self.how, self.factor, self.seen = how, None, {}
        self.ring, self.queue = {0: 1.0, 1: 1.0}, collections.deque(maxlen=3)
        self.stream = random.Random(0)
        self.array = np.zeros(1)
        self.average = torch.ones(())

    def encode(self, x):
        return super().encode(x) if self.how != "data" else super().encode(self.centred(x))

    def centred(self, x):
        if self.factor is None:
            self.factor = float(x.mean())
        return x - self.factor

    def decode(self, z):
        return self.decoder(z) * getattr(self, "by_" + self.how, lambda _: 1.0)(z)

    def by_draws(self, z):
        return self.seen.setdefault(len(z), z.detach().std())

    def by_monitor(self, z):
        total = self.seen.setdefault("total", torch.zeros(()))
        total += z.detach().sum()
        return 1.0

    def by_average(self, z):
        self.average = 0.9 * self.average + 0.1 * z.detach().mean()
        return self.average

    def by_ring(self, z):
        self.ring[max(self.ring) + 1] = self.ring.pop(min(self.ring)) / 2
        return 1.0

    def by_queue(self, z):
        self.queue.append(1)
        return 1 / len(self.queue)

    def by_array(self, z):
        self.array += 1
        return 0.5 if self.array[0] < 5 else 1.0

    def by_stream(self, z):
        return self.stream.random()

    def by_iterator(self, z):
        return 0.5 if next(COUNT) < 5 else 1.0

    def by_generator(self, z):
        return next(STEPS)

    def by_reading(self, z):
        self.seen["half"] = 0.5
        return 2.0 if z[0, 0] > 0 else self.seen["half"]

    def state(self):
        kept = (self.factor, self.seen, list(self.ring.items()), list(self.queue))
        return repr((*kept, self.array, self.average, self.stream.getstate()))


@pytest.mark.parametrize(
    ("how", "reason"),
    [
        ("data", "keeps depends on the data"),
        ("draws", "keeps depends on the data or draws"),
        ("monitor", "changes in place a tensor that its first run makes"),
        ("average", r"\(average\)"),
        ("ring", "Python variable"),
        ("queue", "an entry of a deque"),
        ("array", "an entry of an array"),
        ("stream", "a random stream of its own"),
        ("iterator", "the place of an iterator"),
        ("generator", "the place of an iterator"),
        ("reading", "reads a tensor's value"),
    ],
)
def test_what_is_kept_from_other_examples_or_calls_is_refused_and_put_back(how, reason):
    """The trial's first batch is not that of the first step, nor is its noise."""
    pair, before = Keeping(how), Keeping(how).state()
    with pytest.raises(NotImplementedError, match=reason):
        trained(pair, compile=True)
    assert pair.state() == before


def test_a_watch_puts_back_caches_and_entries_under_any_key():
    cached, numbers = functools.lru_cache(lambda size: 2 * size), {None: 1.0, "b": [1, 2]}
    places, stream = {3}, torch.Generator().manual_seed(0)

    def program():
        return cached(3), numbers[None], places, stream

    watch, state = Watch([program]), stream.get_state()
    assert watch.changed() is None
    torch.rand((), generator=stream)
    assert watch.changed(by_a_run=False) is None
    assert watch.changed() == "a random stream of its own"
    cached(3)
    assert watch.changed(by_a_run=False) == "what functools.lru_cache keeps"
    numbers["b"].pop()
    numbers["a"] = numbers.pop(None)
    places.add(4)
    watch.restore()
    assert watch.changed() is None
    assert list(numbers.items()) == [(None, 1.0), ("b", [1, 2])]
    assert (places, cached.cache_info().currsize) == ({3}, 0)
    assert torch.equal(stream.get_state(), state)


@pytest.mark.parametrize("loads", [False, True])
def test_a_compiled_step_that_is_wrong_leaves_the_epoch_to_the_program(loads, monkeypatch, caplog):
    """By `auto` nothing is lost, and the numbers are those without a compiler."""

    def refuse(*_):
        raise UntraceableError("compiled, it gives other numbers than uncompiled")

    def elbos(*, compile):
        data = DataLoader(TensorDataset(images()), batch_size=16) if loads else images()
        return trained(BernoulliVAE(SHAPE, 3, (8,), seed=0), data, compile=compile).train_elbo

    expected = elbos(compile=False)
    monkeypatch.setattr(stepper.Stepper, "_compare", refuse)
    monkeypatch.setattr(epoch, "WORTH_TRACING", 0)
    monkeypatch.setattr(epoch, "SHARE", 1e9)
    with caplog.at_level(logging.WARNING):
        assert elbos(compile="auto") == expected
    assert [r.getMessage() for r in caplog.records if r.levelno == logging.WARNING] == [
        "not compiled: compiled, it gives other numbers than uncompiled"
    ]
    with pytest.raises(NotImplementedError, match=r"other numbers.*compile='auto'"):
        elbos(compile=True)


@pytest.mark.parametrize("kl_weight", [1.0, 0.5])
@pytest.mark.parametrize(
    "elbo",
    [
        TraceEnumerate_ELBO,
        lambda: pyro.infer.Trace_ELBO(num_particles=3, vectorize_particles=True),
    ],
    ids=["enumerate", "vectorised"],
)
def test_resuming_equals_never_stopping_where_pyro_guesses_the_plates(elbo, kl_weight, tmp_path):
    """The guess draws from the same stream as the steps do."""
    whole, stopped = (BernoulliVAE(SHAPE, 3, (8,), seed=0) for _ in range(2))
    expected = trained(whole, elbo=elbo(), kl_weight=kl_weight)
    options = {"batch_size": 16, "progress": False, "kl_weight": kl_weight, "run_dir": tmp_path}
    fit(stopped, images(), elbo=elbo(), num_epochs=1, **options)
    found = fit(stopped, images(), elbo=elbo(), num_epochs=2, resume=True, **options)
    assert found.train_elbo == expected.train_elbo
