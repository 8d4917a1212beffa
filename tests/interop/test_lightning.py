"""Pairs that Lightning's Trainer trains, in one process and in two."""

import json
import os
import subprocess
import sys
from functools import partial
from pathlib import Path

import pyro
import pytest
import torch
from cases import batch_case
from torch.utils.data import DataLoader, TensorDataset

from ppl_vae import LinearGaussian, elbos, fit

pytest.importorskip("lightning")
parquet = pytest.importorskip("pyarrow.parquet")

import lightning_run as run  # noqa: E402
import pyarrow as pa  # noqa: E402
from lightning.pytorch import Trainer  # noqa: E402

from ppl_vae.lightning import PairModule  # noqa: E402


def trained(pair, data, *, validation=None, epochs=run.EPOCHS, seed=0, elbo=None, **options):
    module = PairModule(pair, elbo=elbo, optimizer=run.OPTIMIZER, seed=seed)
    trainer = Trainer(**{**run.QUIET, "max_epochs": epochs}, **options)
    trainer.fit(module, data, validation)
    return trainer, module


def fitted(data, **options):
    pair = run.pair()
    fixed = {"optimizer": run.OPTIMIZER, "num_epochs": run.EPOCHS, "progress": False}
    history = fit(pair, data, device="cpu", compile=False, **fixed, **options)
    return pair, history


def loader(x=None, size=run.BATCH):
    return DataLoader(TensorDataset(run.truth() if x is None else x), size)


def test_one_process_is_what_fit_is():
    pair, history = fitted(loader(), elbo="exact", validation=run.truth())
    found = run.pair()
    trainer, _ = trained(found, loader(), validation=loader(), elbo="exact")
    assert torch.allclose(run.flat(found), run.flat(pair), rtol=0, atol=1e-14)
    metrics = trainer.callback_metrics
    assert metrics["train_elbo"].item() == pytest.approx(history.train_elbo[-1], rel=1e-6)
    assert metrics["val_elbo"].item() == pytest.approx(history.test_elbo[-1], rel=1e-6)


def test_accumulation_and_clipping_are_lightnings():
    # Four batches of 8 behind each other are one of 32; Lightning takes their mean.
    pair, _ = fitted(loader(size=32), elbo="exact", clip_norm=0.5)
    found = run.pair()
    options = {"accumulate_grad_batches": 4, "gradient_clip_val": 0.5}
    trained(found, loader(size=8), elbo="exact", **options)
    assert torch.allclose(run.flat(found), run.flat(pair), rtol=0, atol=1e-6)


def test_weights_and_auxiliary_losses_are_in_the_objective():
    twice = elbos.make("analytic-kl", kl_weight=2.0)
    module = PairModule(run.pair(), elbo=twice, seed=1)
    x = run.truth()[:5]
    loss = module.training_step([x], 0)
    loss.backward()
    other = run.pair()
    step, _ = PairModule(other, elbo=twice, seed=1)._on([x])
    with module._noise("train", 0):
        expected = step.gradient(x)
    assert loss.item() == expected[0].item() != expected[1].item()
    for p, q in zip(module.pair.parameters(), other.parameters(), strict=True):
        assert torch.equal(p.grad, q.grad)


@pytest.mark.parametrize("name", ["conditional-vae", "semi-supervised-vae, some labels"])
def test_batches_of_several_arguments(name):
    pair, x = batch_case(name)
    before = run.flat(pair).clone()
    entries = x.values() if isinstance(x, dict) else x
    trained(pair, DataLoader(TensorDataset(*entries), 3), epochs=1)
    assert not torch.equal(before, run.flat(pair))


def test_the_noise_is_of_seed_step_and_process():
    def loss(seed, batch, rank=0):
        module = PairModule(run.pair(), elbo="trace", seed=seed)
        type(module).global_rank = property(lambda self: rank)
        return module.training_step([run.truth()], batch).item()

    plain = PairModule.global_rank
    try:
        assert loss(0, 0) == loss(0, 0)
        assert len({loss(0, 0), loss(1, 0), loss(0, 1), loss(0, 0, rank=1)}) == 4
    finally:
        del PairModule.global_rank
    assert PairModule.global_rank is plain


@pytest.fixture(scope="module")
def two(tmp_path_factory):
    """What two processes found."""
    folder = tmp_path_factory.mktemp("two")
    torch.set_default_dtype(torch.float64)
    rows = run.truth().tolist()
    parquet.write_table(pa.table({"x": rows}), folder / "x.parquet", row_group_size=10)
    root = Path(run.__file__).parents[1]
    paths = os.pathsep.join([str(root), os.environ.get("PYTHONPATH", "")])
    subprocess.run(
        [sys.executable, "-W", "ignore", run.__file__, str(folder)],
        check=True,
        timeout=240,
        env={**os.environ, "PYTHONPATH": paths},
        capture_output=True,
    )
    return [json.loads((folder / f"found-{rank}.json").read_text()) for rank in (0, 1)]


def test_two_processes_are_one_where_nothing_is_drawn(two):
    pair, _ = fitted(loader(), elbo="exact")
    for found in two:
        assert torch.allclose(torch.tensor(found["exact"]), run.flat(pair), rtol=0, atol=1e-12)


def test_two_processes_are_one_within_error_where_noise_is_drawn(two):
    x = run.truth()
    ours = [fitted(loader(), elbo="trace", seed=s)[0].exact.elbo(x).mean() for s in range(6)]
    ours, theirs = torch.stack(ours).detach(), torch.tensor(two[0]["noisy"])
    error = torch.hypot(ours.std(), theirs.std()) / 6**0.5
    assert (ours.mean() - theirs.mean()).abs() < 4.5 * error
    assert two[0]["noisy"] == two[1]["noisy"]


def test_two_processes_read_shards_of_their_own(two):
    assert two[0]["sizes"] == two[1]["sizes"] == [8] * 4
    rows = torch.tensor(two[0]["rows"] + two[1]["rows"])
    assert torch.equal(rows, run.truth())
    assert two[0]["shards"] == two[1]["shards"]


def test_bad_input(monkeypatch):
    with pytest.raises(TypeError, match="pair as a ppl_vae.Pair; got tuple. Train a model"):
        PairModule((1, 2))
    with pytest.raises(ValueError, match="got 'trac'. Did you mean 'trace'?"):
        PairModule(run.pair(), elbo="trac")
    adam = pyro.optim.Adam({"lr": 0.1})
    with pytest.raises(NotImplementedError, match="Lightning drives; got one of Pyro"):
        PairModule(run.pair(), optimizer=adam)
    other = partial(torch.optim.SGD, lr=0.1)(LinearGaussian(4, 2).parameters())
    with pytest.raises(ValueError, match="an optimizer over the pair's parameters"):
        PairModule(run.pair(), optimizer=other)
    with pytest.raises(ValueError, match=r"x of shape \(batch, 4\)"):
        PairModule(run.pair()).training_step([torch.zeros(3, 5)], 0)
    pair, x = batch_case("semi-supervised-vae, some labels")
    with pytest.raises(NotImplementedError):
        PairModule(pair, elbo="trace-mean-field").training_step(list(x), 0)
    monkeypatch.delitem(sys.modules, "ppl_vae.lightning")
    monkeypatch.setitem(sys.modules, "lightning.pytorch", None)
    with pytest.raises(ImportError, match=r"lightning; .* pip install 'ppl_vae\[lightning\]'"):
        import ppl_vae.lightning  # noqa: F401
