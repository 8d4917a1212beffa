"""How a run of `fit` is judged, stopped and told of; clipping, parts, precision, skipped steps."""

import functools
import math

import pytest
import torch
from pyro.optim import Adam
from small_vae import vae, values
from torch.optim.lr_scheduler import ExponentialLR, OneCycleLR, ReduceLROnPlateau, StepLR

from ppl_vae import (
    BernoulliVAE,
    EachStep,
    EarlyStopping,
    ExponentialNormal,
    fit,
    load,
    load_pair,
    log_evidence,
)
from ppl_vae.elbos import make
from ppl_vae.inference.batches import TensorBatches
from ppl_vae.inference.monitoring.measures import elbos_of_examples
from ppl_vae.inference.steps.failure import NonFiniteLossError

QUIET = {"progress": False, "device": "cpu", "compile": False}
adam = functools.partial(torch.optim.Adam, lr=0.02)


def test_training_stops_when_the_validation_elbo_gets_no_better(digits, tmp_path):
    train, test = digits[:8], digits[8:]  # eight images are soon learnt by heart
    options = {"validation": test, "optimizer": adam, "num_epochs": 400, **QUIET}
    pair = vae()
    history = fit(
        pair, train, stop=EarlyStopping(patience=20), keep="best", run_dir=tmp_path, **options
    )
    assert history.stopped_early
    assert len(history) == history.best_epoch + 20 < 400
    twin = vae()
    fit(twin, train, **{**options, "num_epochs": history.best_epoch})
    assert torch.equal(values(pair), values(twin))
    assert torch.equal(values(load_pair(tmp_path)), values(pair))
    again = vae()
    resumed = fit(
        again,
        train,
        stop=EarlyStopping(patience=20),
        keep="best",
        run_dir=tmp_path,
        resume=True,
        **options,
    )
    assert len(resumed) == len(history)
    assert torch.equal(values(again), values(pair))


def test_the_best_is_kept_without_a_rule_to_stop(digits):
    train, test = digits[:8], digits[8:]
    pair = vae()
    history = fit(
        pair, train, validation=test, keep="best", optimizer=adam, num_epochs=150, **QUIET
    )
    assert len(history) == 150
    assert not history.stopped_early
    assert history.best_epoch < 150


def test_elbos_of_examples_add_up_to_the_elbo(digits):
    pair = vae()
    torch.manual_seed(0)
    found = elbos_of_examples(pair, TensorBatches(digits, whole=False))
    torch.manual_seed(0)
    assert found.shape == (60,)
    assert float(found.sum()) == pytest.approx(-make("trace").loss(pair.model, pair.guide, digits))


def test_judging_needs_validation_data(digits):
    for asked in ({"stop": EarlyStopping(patience=2)}, {"keep": "best"}):
        with pytest.raises(ValueError, match="validation data"):
            fit(vae(), digits, **asked, **QUIET)


@pytest.mark.parametrize(
    ("schedule", "rates"),
    [
        (functools.partial(StepLR, step_size=2, gamma=0.1), [0.02, 0.02, 0.002, 0.002]),
        (functools.partial(ExponentialLR, gamma=0.5), [0.02, 0.01, 0.005, 0.0025]),
        (
            EachStep(functools.partial(ExponentialLR, gamma=0.5)),
            [0.02 / 8**n for n in (1, 2, 3, 4)],
        ),
        (
            functools.partial(ReduceLROnPlateau, patience=0, threshold=1e3, threshold_mode="abs"),
            [0.02, 0.02, 0.002, 0.0002],
        ),
    ],
    ids=["step", "exponential", "each step", "plateau"],
)
def test_learning_rates_follow_a_schedule_and_resume(digits, schedule, rates, tmp_path):
    options = {"optimizer": adam, "schedule": schedule, "batch_size": 20, **QUIET}
    pair = vae()
    history = fit(pair, digits, num_epochs=4, **options)
    assert history.columns["learning_rate"] == pytest.approx(rates)
    fit(vae(), digits, num_epochs=2, run_dir=tmp_path, **options)
    resumed = vae()
    again = fit(resumed, digits, num_epochs=4, run_dir=tmp_path, resume=True, **options)
    assert again.columns["learning_rate"] == history.columns["learning_rate"]
    assert torch.equal(values(pair), values(resumed))


def test_a_schedule_of_steps_compiles(digits):
    options = {"optimizer": adam, "batch_size": 20, "num_epochs": 3}
    cycle = functools.partial(OneCycleLR, max_lr=0.02, total_steps=100)
    still = functools.partial(cycle, cycle_momentum=False)
    found = []
    for how in (False, True):
        pair = vae()
        fit(pair, digits, schedule=EachStep(still), **options, **{**QUIET, "compile": how})
        found.append(values(pair))
    torch.testing.assert_close(*found, rtol=1e-8, atol=1e-8)
    with pytest.raises(NotImplementedError, match="momentum"):
        fit(vae(), digits, schedule=EachStep(cycle), **options, **{**QUIET, "compile": True})


def test_schedules_that_do_not_fit(digits):
    other = torch.optim.Adam([torch.zeros(1, requires_grad=True)])
    with pytest.raises(ValueError, match="one of another optimizer"):
        fit(vae(), digits, schedule=lambda _: StepLR(other, 2), **QUIET)
    with pytest.raises(ValueError, match="one of another optimizer"):
        fit(vae(), digits, schedule=StepLR(other, 2), **QUIET)
    with pytest.raises(TypeError, match="makes a torch scheduler"):
        fit(vae(), digits, schedule=lambda _: None, **QUIET)
    by_epoch = functools.partial(StepLR, step_size=1)
    with pytest.raises(NotImplementedError, match="a torch optimiser"):
        fit(vae(), digits, optimizer=Adam({"lr": 0.1}), schedule=by_epoch, **QUIET)


def test_the_gradient_is_clipped_to_its_length(digits):
    lengths = []

    class Watching(torch.optim.SGD):
        def step(self, closure=None):
            held = [p.grad.flatten() for g in self.param_groups for p in g["params"]]
            lengths.append(float(torch.cat(held).norm()))
            return super().step(closure)

    sgd = functools.partial(Watching, lr=0.1)
    fit(vae(), digits, optimizer=sgd, num_epochs=2, batch_size=20, **QUIET)
    free = list(lengths)
    lengths.clear()
    limit = 0.5 * min(free)
    fit(vae(), digits, optimizer=sgd, clip_norm=limit, num_epochs=2, batch_size=20, **QUIET)
    assert lengths == pytest.approx([limit] * 6, rel=1e-4)
    found = []
    for how in (False, True):
        pair = vae()
        fit(pair, digits, clip_norm=limit, num_epochs=2, **{**QUIET, "compile": how})
        found.append(values(pair))
    torch.testing.assert_close(*found, rtol=1e-8, atol=1e-8)


@pytest.mark.parametrize("how", [False, True])
def test_parts_of_a_batch_add_up(digits, how):
    """With no noise from the guide, the gradient in parts is that of the whole batch."""
    found = []
    for parts in (1, 3) if how else (1, 3, 7):
        pair = vae()
        for parameter in pair.encoder.parameters():
            parameter.requires_grad_(requires_grad=False)
        with torch.no_grad():
            pair.encoder.net[-1].bias[3:] = -60.0  # scales near zero
            pair.encoder.net[-1].weight[3:] = 0.0
        options = {"accumulate": parts, "num_epochs": 2, "batch_size": 20}
        fit(pair, digits, elbo="trace-mean-field", **options, **{**QUIET, "compile": how})
        found.append(values(pair))
    for other in found[1:]:
        torch.testing.assert_close(found[0], other, rtol=1e-6, atol=1e-6)


def test_bfloat16_trains_as_float32_does():
    test = load("digits", split="test", binarize="static").batch(slice(0, 360))
    found, histories = [], []
    for precision in ("float32", "bf16"):
        pair = BernoulliVAE((1, 8, 8), latent_dim=8, hidden=(64,), seed=1).float()
        options = {"precision": precision, "num_epochs": 40, "seed": 1}
        histories.append(fit(pair, load("digits"), **options, **QUIET).train_elbo)
        assert pair.dtype == torch.float32
        evidence = log_evidence(pair, test.float(), num_samples=500, device="cpu")
        found.append(evidence.mean.mean().item())
    assert histories[0] != histories[1]
    assert abs(found[0] - found[1]) < 0.1


class Breaking(torch.nn.Linear):
    """Gives NaN at some of the calls that are differentiated."""

    calls, breaks = 0, ()

    def forward(self, x):
        self.calls += torch.is_grad_enabled()
        return super().forward(x) * (math.nan if self.calls in self.breaks else 1.0)


def broken(breaks):
    pair = vae()
    last = pair.decoder.net[-1]
    module = Breaking(last.in_features, last.out_features).double()
    module.load_state_dict(last.state_dict())
    module.breaks = breaks
    pair.decoder.net[-1] = module
    return pair


def test_steps_that_are_not_finite_are_skipped_and_counted(digits):
    options = {"batch_size": 20, "num_epochs": 3, **QUIET}
    with pytest.raises(NonFiniteLossError, match="step 3 of epoch 1"):
        fit(broken([3, 5]), digits, **options)
    pair = broken([3, 5])
    history = fit(pair, digits, on_nan="skip", **options)
    assert history.columns["skipped"] == [1, 1, 0]
    assert all(map(math.isfinite, history.train_elbo))
    assert bool(values(pair).isfinite().all())


def test_an_epoch_without_one_finite_step_is_an_error_all_the_same(digits):
    with pytest.raises(NonFiniteLossError):
        fit(broken(range(1, 100)), digits, on_nan="skip", num_epochs=2, **QUIET)


def test_logs_are_told_and_closed(digits):
    told, closed = [], []

    class Log:
        def __call__(self, epoch, numbers):
            told.append((epoch, dict(numbers)))

        def close(self):
            closed.append(len(told))

    history = fit(vae(), digits, log=[Log(), lambda *_: None], num_epochs=3, **QUIET)
    assert [epoch for epoch, _ in told] == [1, 2, 3]
    assert told[2][1]["train_elbo"] == history.train_elbo[2]
    assert {"objective", "kl.z", "log_likelihood", "learning_rate"} <= told[0][1].keys()
    assert closed == [3]

    def fail(*_):
        raise RuntimeError("full")

    with pytest.raises(RuntimeError, match="full"):
        fit(vae(), digits, log=[Log(), fail], num_epochs=3, **QUIET)
    assert closed == [3, 4]


@pytest.mark.parametrize(
    ("options", "error", "message"),
    [
        ({"precision": "fp8"}, ValueError, "precision"),
        ({"clip_norm": 0.0}, ValueError, "clip_norm"),
        ({"clip_norm": "1"}, TypeError, "clip_norm"),
        ({"accumulate": 0}, ValueError, "accumulate"),
        ({"stop": 3}, TypeError, "EarlyStopping"),
        ({"keep": "worst"}, ValueError, "keep"),
        ({"on_nan": "ignore"}, ValueError, "on_nan"),
        ({"log": [3]}, TypeError, "log"),
        ({"log": 3}, TypeError, "log"),
    ],
)
def test_options_that_are_none(digits, options, error, message):
    with pytest.raises(error, match=message):
        fit(vae(), digits, **options, **QUIET)


def test_one_data_set_cannot_be_judged_or_cut():
    x = torch.tensor([1.2, 0.7, 1.1])
    with pytest.raises(ValueError, match="more examples"):
        fit(ExponentialNormal(), x, validation=x, stop=EarlyStopping(patience=2), **QUIET)
    with pytest.raises(ValueError, match="accumulate"):
        fit(ExponentialNormal(), x, accumulate=2, **QUIET)
