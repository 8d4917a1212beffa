import functools
import math
import sys

import pyro
import pytest
import torch
from cases import CASES, DISCRETE
from parameters import equal, parameters
from pyro.infer import SVI, Trace_ELBO, TraceMeanField_ELBO
from pyro.optim import Adam, ClippedAdam, ExponentialLR
from torch.utils._python_dispatch import TorchDispatchMode

from ppl_vae import BernoulliVAE, ExponentialNormal, fit, load, load_pair
from ppl_vae.elbos import make
from ppl_vae.inference.batches import shuffled
from ppl_vae.inference.compilation.stepper import Stepper
from ppl_vae.inference.steps.deferred import deferred
from ppl_vae.inference.steps.optimizers import Updater
from ppl_vae.inference.steps.step import Step

quiet = functools.partial(fit, progress=False, device="cpu")
sgd = functools.partial(torch.optim.SGD, lr=0.1)


def test_sgd_runs_into_the_best_rate():
    pair = ExponentialNormal(prior_rate=2.0, noise_scale=0.5, guide_rate=1.5)
    x = torch.tensor([1.2, 0.7, 1.1, 2.0, 0.4])
    schedule = functools.partial(torch.optim.SGD, lr=1e-3)
    loss = Trace_ELBO(num_particles=128, vectorize_particles=True)
    quiet(pair, x, elbo=loss, optimizer=schedule, num_epochs=600)
    best = pair.exact.optimal_guide_rate(x)
    assert abs((pair.guide_rate(x) / best).item() - 1) < 0.01


@pytest.mark.parametrize("elbo", ["trace", "trace-mean-field", "exact"])
def test_exact_gradient_descent_is_what_pyro_does(elbo):
    """Without noise (the exact estimator) or with the same noise, one step equals Pyro's."""
    x = torch.tensor([1.2, 0.7, 1.1])
    ours, theirs = ExponentialNormal(guide_rate=2.0), ExponentialNormal(guide_rate=2.0)
    torch.manual_seed(5)
    SVI(theirs.model, theirs.guide, Adam({"lr": 0.1}), loss=make(elbo)).step(x)
    torch.manual_seed(5)
    step = Step(ours, make(elbo), Updater(functools.partial(torch.optim.Adam, lr=0.1), ours))
    step.gradient(x)
    step.apply()
    torch.testing.assert_close(ours.log_rate, theirs.log_rate, rtol=1e-12, atol=0)


@pytest.mark.filterwarnings("ignore:Failed to verify mean field")
@pytest.mark.parametrize("name", CASES)
@pytest.mark.parametrize("cls", [Trace_ELBO, TraceMeanField_ELBO])
def test_deferred_estimators_give_the_same_loss_and_gradient(name, cls):
    if cls is TraceMeanField_ELBO and name in DISCRETE:
        pytest.skip("the estimator does not serve this pair")
    pair = CASES[name]()
    x = pair.sample(5, seed=0)
    results = []
    for elbo in (cls(num_particles=3), deferred(cls(num_particles=3))):
        pair.zero_grad()
        torch.manual_seed(2)
        loss = torch.as_tensor(elbo.loss_and_grads(pair.model, pair.guide, x))
        results.append((loss, [p.grad.clone() for p in pair.parameters()]))
    assert float(results[0][0]) == float(results[1][0])
    assert equal(results[0][1], results[1][1])
    assert isinstance(results[1][0], torch.Tensor)
    assert type(cls()).loss_and_grads is cls.loss_and_grads


def test_a_learning_rate_means_the_same_at_every_batch_size(data):
    """The same image a hundred times is the same gradient as once."""
    image = load("digits", binarize="threshold")[:1].batch(slice(None))
    once, often = (ExponentialNormal(guide_rate=2.0) for _ in range(2))
    x = image.flatten()[:5]
    quiet(once, x[None], elbo="exact", optimizer=sgd, num_epochs=3)
    quiet(often, x.expand(100, -1), elbo="exact", optimizer=sgd, num_epochs=3)
    torch.testing.assert_close(once.log_rate, often.log_rate, rtol=1e-12, atol=0)


def test_history_is_per_example_and_counts_every_example(vae, data):
    history = quiet(vae, data, validation=data, num_epochs=2, batch_size=7)
    table = history.to_dataframe()
    measured = ["learning_rate", "kl_weight", "log_likelihood", "kl.z", "active_units"]
    assert list(table.columns) == ["objective", "train_elbo", "test_elbo", "seconds", *measured]
    assert list(table.objective) == list(table.train_elbo)
    whole = table.log_likelihood - table["kl.z"]  # of a draw, the divergence in closed form
    assert abs(whole[2] - table.test_elbo[2]) < 2.0
    assert table.index.tolist() == [1, 2]
    assert -64 * math.log(2) * 1.5 < table.train_elbo[1] < 0


def test_exact_history_is_the_exact_elbo():
    pair = ExponentialNormal()
    x = torch.tensor([[1.2, 0.7], [2.0, 3.0], [0.1, 0.2]])
    value = pair.exact.elbo(x).mean().item()
    history = quiet(pair, x, elbo="exact", num_epochs=1, batch_size=3, validation=x)
    assert history.train_elbo[0] == pytest.approx(value, rel=1e-14)
    assert history.test_elbo[0] == pytest.approx(pair.exact.elbo(x).mean().item(), rel=1e-14)


def test_same_seed_same_run_and_the_global_state_is_left(vae, data):
    twin = BernoulliVAE((1, 8, 8), latent_dim=2, hidden=(16,), seed=0)
    state = torch.get_rng_state()
    first = quiet(vae, data, num_epochs=2, seed=3)
    assert torch.equal(state, torch.get_rng_state())
    torch.rand(7)
    assert quiet(twin, data, num_epochs=2, seed=3).train_elbo == first.train_elbo
    assert equal(parameters(vae), parameters(twin))


OPTIMIZERS = {
    "default": lambda pair: None,
    "torch instance": lambda pair: torch.optim.AdamW(pair.parameters(), lr=1e-2),
    "torch factory": lambda pair: functools.partial(torch.optim.SGD, lr=1e-2, momentum=0.9),
    "pyro": lambda pair: ClippedAdam({"lr": 1e-2}),
    "pyro schedule": lambda pair: ExponentialLR(
        {"optimizer": torch.optim.Adam, "optim_args": {"lr": 1e-2}, "gamma": 0.5}
    ),
}


@pytest.mark.parametrize("make", OPTIMIZERS.values(), ids=OPTIMIZERS)
def test_resuming_equals_never_stopping(make, data, tmp_path):
    def run(folder, epochs, *, resume=False):
        pyro.clear_param_store()
        pair = BernoulliVAE((1, 8, 8), latent_dim=2, hidden=(16,), seed=0)
        history = quiet(
            pair, data, optimizer=make(pair), num_epochs=epochs, run_dir=folder, resume=resume
        )
        return history, parameters(pair)

    whole, expected = run(tmp_path / "whole", 4)
    run(tmp_path / "parts", 2)
    parts, found = run(tmp_path / "parts", 4, resume=True)
    assert parts.train_elbo == whole.train_elbo
    assert equal(expected, found)
    assert equal(found, parameters(load_pair(tmp_path / "parts")))


@pytest.mark.parametrize("stop", [1, 2, 3])
@pytest.mark.parametrize(("hidden", "unrolled"), [(200, False), (4, True)])
def test_resuming_before_at_and_after_the_first_compiled_epoch(
    hidden, unrolled, stop, data, tmp_path, monkeypatch
):
    """Of four epochs the third is the first compiled one; tiny steps are taken two at once."""
    lowered = []

    def as_traced(body, given, name):
        lowered.append(name)
        return lambda given: body(*given)

    monkeypatch.setattr("ppl_vae.inference.compilation.chunk.lower", as_traced)
    monkeypatch.setattr(sys.modules["ppl_vae.inference.fit"], "draw_run", lambda *_: None)
    monkeypatch.setattr("ppl_vae.inference.compilation.epoch.can_compile", lambda device: True)
    monkeypatch.setattr("ppl_vae.inference.compilation.epoch.WORTH_TRACING", 0)
    monkeypatch.setattr(Stepper, "steps_to_repay", lambda self, share: 30)

    def run(folder, epochs, *, resume=False, compile="auto"):
        lowered.clear()
        pair = BernoulliVAE((1, 8, 8), latent_dim=2, hidden=(hidden,), seed=0)
        history = quiet(
            pair,
            data,
            elbo="trace",
            num_epochs=epochs,
            batch_size=4,
            run_dir=folder,
            resume=resume,
            compile=compile,
        )
        return history.train_elbo, parameters(pair), list(lowered)

    whole, expected, names = run(tmp_path / "whole", 4)
    assert names == (["2 steps"] if unrolled else ["a step"])
    run(tmp_path / "parts", stop)
    assert bool(lowered) == (stop == 3)
    parts, found, _ = run(tmp_path / "parts", 4, resume=True)
    assert parts == whole
    assert equal(expected, found)
    eager, _, names = run(tmp_path / "eager", 4, compile=False)
    assert not names
    assert eager[:2] == whole[:2]
    if unrolled:  # each site's noise is drawn for ten steps at once
        assert eager[2] != whole[2]
    else:
        assert eager == pytest.approx(whole, rel=1e-12)


def test_run_folder_holds_what_it_should(vae, data, tmp_path):
    quiet(vae, data, validation=data, num_epochs=2, run_dir=tmp_path / "run")
    names = {path.name for path in (tmp_path / "run").iterdir()}
    assert names == {
        "config.json",
        "metrics.csv",
        "pair.json",
        "pair.safetensors",
        "checkpoint.json",
        "checkpoint.safetensors",
        "checkpoint-previous.json",
        "checkpoint-previous.safetensors",
        ".lock",
        "elbo.png",
        "inputs.png",
        "reconstructions.png",
        "samples.png",
        "latent_walk.png",
        "latent_scatter.png",
    }
    lines = (tmp_path / "run" / "metrics.csv").read_text().splitlines()
    assert lines[0].startswith("epoch,objective,train_elbo,test_elbo,seconds,learning_rate,")
    assert len(lines) == 3


def test_a_folder_with_a_run_is_not_overwritten_unless_told(vae, data, tmp_path):
    quiet(vae, data, num_epochs=1, run_dir=tmp_path)
    kept = (tmp_path / "pair.safetensors").read_bytes()
    with pytest.raises(FileExistsError, match="resume=True or overwrite=True"):
        quiet(vae, data, num_epochs=1, run_dir=tmp_path)
    assert (tmp_path / "pair.safetensors").read_bytes() == kept
    quiet(vae, data, num_epochs=1, run_dir=tmp_path, overwrite=True)
    assert (tmp_path / "pair.safetensors").read_bytes() != kept


def test_resuming_another_run_is_refused(vae, data, tmp_path):
    quiet(vae, data, num_epochs=1, run_dir=tmp_path)
    with pytest.raises(ValueError, match="the settings of the run"):
        quiet(vae, data, num_epochs=2, run_dir=tmp_path, resume=True, batch_size=13)
    with pytest.raises(FileNotFoundError, match="config.json"):
        quiet(vae, data, num_epochs=2, run_dir=tmp_path / "none", resume=True)


def test_progress_is_plain_lines_off_a_terminal(vae, data, capsys):
    fit(vae, data, num_epochs=2, device="cpu")
    lines = capsys.readouterr().err.splitlines()
    assert [line[:9] for line in lines] == ["epoch 1/2", "epoch 2/2"]


@pytest.mark.cuda
@pytest.mark.skipif(not torch.cuda.is_available(), reason="no CUDA device")
def test_cuda(vae, data):
    history = fit(vae, data, num_epochs=2, device="cuda", progress=False)
    assert len(history) == 2
    assert all(p.is_cuda for p in vae.parameters())


class _NoReading(TorchDispatchMode):
    """Refuses to read a number from a tensor, which on a GPU is a wait for it."""

    def __torch_dispatch__(self, func, types, args=(), kwargs=None):
        assert func is not torch.ops.aten._local_scalar_dense.default, "a tensor was read"
        return func(*args, **(kwargs or {}))


@pytest.mark.parametrize("elbo", ["trace", "trace-mean-field", "analytic-kl", "dreg"])
def test_nothing_is_read_from_the_device_within_an_epoch(elbo, vae, data):
    step = Step(vae, make(elbo), Updater(None, vae))
    step.gradient(data.batch(slice(None)))  # decides what is decided once
    with _NoReading(), pyro.validation_enabled(False):  # noqa: FBT003
        for x in shuffled(data, 20, vae):
            step.gradient(x)
            step.apply()
    assert all(p.isfinite().all() for p in vae.parameters())


def test_pyros_store_keeps_no_pair_but_for_pyros_optimisers(data):
    """Every pair that was ever trained would stay in memory."""
    pyro.clear_param_store()
    kept = pyro.param("kept", torch.tensor(1.0))
    pair = BernoulliVAE((1, 8, 8), latent_dim=2, hidden=(4,), seed=0)
    pair.decoder.again = pair.encoder.net[0]  # a parameter with two names
    quiet(pair, data, elbo="trace", num_epochs=1)
    assert dict(pyro.get_param_store().items()) == {"kept": kept}
    adam = Adam({"lr": 1e-3})
    quiet(pair, data, elbo="trace", num_epochs=1, optimizer=adam)
    assert len(adam.get_state()) == len(list(pair.parameters()))
