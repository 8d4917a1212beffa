"""Parquet files that are trained on without being in memory."""

import json
import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import distributed

import ppl_vae
from ppl_vae import LinearGaussian, ShardedData, evaluate, fit, log_evidence
from ppl_vae.data.shards.division import place, share, steps
from ppl_vae.models import ConditionalVAE

pa = pytest.importorskip("pyarrow")
parquet = pytest.importorskip("pyarrow.parquet")

X = torch.randn(53, 4, generator=torch.Generator().manual_seed(0), dtype=torch.float64)


def written(folder, tables, groups=5):
    for number, table in enumerate(tables):
        parquet.write_table(pa.table(table), folder / f"{number}.parquet", row_group_size=groups)
    return folder


@pytest.fixture
def folder(tmp_path):
    parts = (X[:20], X[20:21], X[21:])
    return written(tmp_path, [{"x": list(part.numpy())} for part in parts])


def rows(loader, epoch=0):
    loader.dataset.set_epoch(epoch)
    return torch.cat(list(loader))


def test_without_an_epoch_rows_come_as_they_stand(folder):
    data = ShardedData(folder, buffer=7)
    loader = data.loader(10)
    assert [len(batch) for batch in loader] == [10] * 5 + [3]
    assert len(loader) == 6
    assert len(data) == 53
    assert torch.equal(rows(loader), X)
    files = ["0.parquet", "1.parquet", "2.parquet"]
    assert torch.equal(rows(ShardedData([folder / f for f in files]).loader()), X)
    assert torch.equal(rows(ShardedData(str(folder / files[0])).loader()), X[:20])


@pytest.mark.parametrize("buffer", [1, 7, 20, 1000])
def test_each_epoch_holds_every_row_once_in_an_order_of_its_own(folder, buffer):
    loader = ShardedData(folder, buffer=buffer).loader(10)
    found = [rows(loader, epoch) for epoch in (1, 2, 1)]
    assert torch.equal(found[0], found[2])
    assert not torch.equal(found[0], found[1])
    for each in found:
        assert sorted(each.tolist()) == sorted(X.tolist())
    other = ShardedData(folder, buffer=buffer, seed=1).loader(10)
    assert not torch.equal(rows(other, 1), found[0])


def test_a_buffer_of_all_rows_puts_each_row_anywhere(tmp_path):
    count = 20
    written(tmp_path, [{"x": np.arange(count, dtype=float)}])
    loader = ShardedData(tmp_path, buffer=count).loader(count)
    places = torch.stack([rows(loader, epoch).argsort() for epoch in range(1, 1001)]).double()
    # A uniform place has mean 9.5 and standard deviation 5.77.
    error = (places.mean(0) - (count - 1) / 2).abs() / (5.77 / 1000**0.5)
    assert error.max() < 4.5
    rows_after = (places[:, 1:] - places[:, :-1] == 1).double().mean()
    assert rows_after < 0.07  # by chance 1 in 20; as they stand 1


def test_a_small_buffer_mixes_rows_of_several_groups(tmp_path):
    written(tmp_path, [{"x": np.arange(1000, dtype=float)}], groups=50)
    first = rows(ShardedData(tmp_path, buffer=200).loader(1000), 1)
    groups = {int(value) // 50 for value in first[:100]}
    assert len(groups) >= 4


@pytest.mark.parametrize(
    ("world", "batch"), [(1, 10), (2, 10), (3, 10), (4, 26), (2, 52), (53, 53)]
)
@pytest.mark.parametrize("epoch", [0, 3])
def test_processes_share_the_rows_and_take_as_many_steps(folder, world, batch, epoch):
    parts = [ShardedData(folder, rank=r, world_size=world).loader(batch) for r in range(world)]
    batches = []
    for part in parts:
        part.dataset.set_epoch(epoch)
        batches.append(list(part))
    assert len({len(each) for each in batches}) == 1 == len({len(part) for part in parts})
    sizes = [sum(map(len, step)) for step in zip(*batches, strict=True)]
    assert sizes == steps(53, batch, world)
    assert sizes[0] == (batch if batch != 52 else 53)
    assert max(map(len, batches[0])) - min(len(b[0]) for b in batches) in (0, 1)
    found = torch.cat([torch.cat(each) for each in batches])
    if epoch == 0:
        assert torch.equal(found, X)
    assert sorted(found.tolist()) == sorted(X.tolist())


@pytest.mark.parametrize("num_rows", [7, 12, 13, 100])
@pytest.mark.parametrize("world", [1, 2, 3, 7])
def test_steps_leave_no_process_without_a_row(num_rows, world):
    for batch in range(world, num_rows + 3):
        sizes = steps(num_rows, batch, world)
        assert sum(sizes) == num_rows
        assert all(share(size, r, world) >= 1 for size in sizes for r in range(world))
        assert all(sum(share(s, r, world) for r in range(world)) == s for s in sizes)


def trained(data, *, epochs=4, **options):
    pair = LinearGaussian(4, 2, seed=1)
    options = {"batch_size": 10, "seed": 3, "progress": False, "device": "cpu", **options}
    history = fit(pair, data, num_epochs=epochs, **options)
    return history, torch.cat([p.detach().flatten() for p in pair.parameters()])


def test_resuming_is_bit_by_bit_what_was_never_stopped(folder, tmp_path):
    history, whole = trained(ShardedData(folder, buffer=7))
    run = tmp_path / "run"
    trained(ShardedData(folder, buffer=7), epochs=2, run_dir=run)
    # Another process would describe its data in the same words.
    config = json.loads((run / "config.json").read_text())
    assert config["data"] == "ShardedData(shards, 53 rows of x in 3 files, buffer=7, seed=0)"
    again, resumed = trained(ShardedData(folder, buffer=7), run_dir=run, resume=True)
    assert again.train_elbo == history.train_elbo
    assert torch.equal(whole, resumed)
    with pytest.raises(ValueError, match="the settings of the run"):
        trained(ShardedData(folder, buffer=8), run_dir=run, resume=True)


def test_evaluation_is_in_the_order_of_the_files_also_after_training(folder):
    data, pair = ShardedData(folder, buffer=7), LinearGaussian(4, 2, seed=1)
    options = {"method": "exact", "device": "cpu"}
    fit(pair, data, num_epochs=1, progress=False, device="cpu")
    expected = pair.exact.log_evidence(X)
    assert torch.allclose(log_evidence(pair, data, **options).mean, expected, rtol=1e-12)
    found = evaluate(pair, data, num_elbo_samples=1000, **options)
    assert torch.allclose(found.evidence.mean, expected, rtol=1e-12)
    error = (found.elbo.mean - pair.exact.elbo(X)).abs()
    assert bool((error < 4.5 * found.elbo.standard_error).all())


def test_columns_become_the_arguments(tmp_path):
    table = {
        "a": np.arange(6, dtype=np.int32),
        "b": np.linspace(0, 1, 6),
        "bytes": list(np.arange(24, dtype=np.uint8).reshape(6, 4)),
        "grid": np.arange(24, dtype=float).reshape(6, 2, 2).tolist(),
        "fixed": pa.FixedSizeListArray.from_arrays(pa.array(np.arange(12.0)), 2),
        "kind": np.array([0, 1, 2] * 2, dtype=np.uint16),
        "seen": [True, False] * 3,
    }
    written(tmp_path, [table], groups=4)
    columns = {"x": ["a", "b"], "bytes": "bytes", "grid": "grid", "fixed": "fixed"}
    (found,) = ShardedData(tmp_path, columns={**columns, "y": "kind", "mask": "seen"}).loader(6)
    assert found["x"].tolist() == np.stack([table["a"], table["b"]], 1).tolist()
    assert found["bytes"].dtype == torch.uint8
    assert found["grid"].tolist() == table["grid"]
    assert found["fixed"].tolist() == np.arange(12.0).reshape(6, 2).tolist()
    assert (found["y"].dtype, found["y"].tolist()) == (torch.int64, [0, 1, 2] * 2)
    assert found["mask"].tolist() == [True, False] * 3
    (whole,) = ShardedData(tmp_path).loader(6)
    assert list(whole) == list(table)
    (pixels,) = ShardedData(tmp_path, columns={"x": "bytes"}).loader(6)
    assert pixels["x"].dtype == torch.float64


def test_a_pair_of_two_arguments(tmp_path):
    pair = ConditionalVAE((1, 2, 2), 3, 2, (4,), seed=0)
    labels = torch.arange(30) % 3
    images = pair.sample(30, y=labels, seed=0)
    written(tmp_path, [{"pixels": list(images.flatten(1).numpy()), "label": labels.numpy()}])
    data = ShardedData(tmp_path, columns={"x": "pixels", "y": "label"})
    assert len(fit(pair, data, num_epochs=2, progress=False, device="cpu").train_elbo) == 2
    found = log_evidence(pair, data, num_samples=20, device="cpu")
    expected = log_evidence(pair, (images, labels), num_samples=20, device="cpu")
    assert torch.equal(found.mean, expected.mean)


def test_where_a_process_is(monkeypatch):
    for name in ("RANK", "WORLD_SIZE"):
        monkeypatch.delenv(name, raising=False)
    assert place(None, None) == (0, 1)
    monkeypatch.setenv("WORLD_SIZE", "4")
    with pytest.raises(ValueError, match="RANK beside WORLD_SIZE; got none. Start by torchrun"):
        place(None, None)
    monkeypatch.setenv("RANK", "2")
    assert place(None, None) == (2, 4)
    monkeypatch.setattr(distributed, "is_initialized", lambda: True)
    monkeypatch.setattr(distributed, "get_rank", lambda: 1)
    monkeypatch.setattr(distributed, "get_world_size", lambda: 3)
    assert place(None, None) == (1, 3)
    assert place(0, 2) == (0, 2)
    monkeypatch.setattr(distributed, "is_initialized", lambda: False)
    monkeypatch.setenv("RANK", "one")
    with pytest.raises(ValueError, match="variable RANK as a whole number; got 'one'"):
        place(None, None)


SCRIPT = """
import sys
from pathlib import Path
import numpy as np, pyarrow as pa, pyarrow.parquet as parquet
from ppl_vae import LinearGaussian, ShardedData, fit, log_evidence

ROWS, SIZE = 500_000, 64
path = Path(sys.argv[1]) / "large.parquet"
kind = pa.list_(pa.float32(), SIZE)
rng = np.random.default_rng(0)
options = {"use_dictionary": False, "write_statistics": False, "compression": "none"}
with parquet.ParquetWriter(path, pa.schema({"x": kind}), **options) as writer:
    for _ in range(25):
        x = rng.standard_normal(ROWS // 25 * SIZE, dtype=np.float32)
        writer.write_table(pa.table({"x": pa.FixedSizeListArray.from_arrays(pa.array(x), SIZE)}))

def kilobytes(name):
    lines = Path("/proc/self/status").read_text().splitlines()
    return int(next(line for line in lines if line.startswith(name)).split()[1])

pair = LinearGaussian(SIZE, 2, seed=0)
options = {"batch_size": 2000, "device": "cpu", "progress": False, "compile": False}
options |= {"num_epochs": 1, "elbo": "trace"}
fit(pair, pair.sample(4000, seed=0), **options)  # what training takes anyway
Path("/proc/self/clear_refs").write_text("5")  # the highest mark begins anew
before = kilobytes("VmRSS")
data = ShardedData(path, buffer=20_000)
fit(pair, data, **options)
assert len(log_evidence(pair, data, method="exact", device="cpu")) == ROWS
print(path.stat().st_size, 1024 * (kilobytes("VmHWM") - before))
"""


@pytest.mark.skipif(not os.access("/proc/self/clear_refs", os.W_OK), reason="not on Linux")
def test_data_larger_than_the_memory_they_take(tmp_path):
    """122 MiB of rows, for which 64 MiB are to be enough."""
    root = Path(ppl_vae.__file__).parents[1]
    paths = os.pathsep.join([str(root), os.environ.get("PYTHONPATH", "")])
    done = subprocess.run(
        [sys.executable, "-c", SCRIPT, str(tmp_path)],
        check=True,
        timeout=240,
        env={**os.environ, "PYTHONPATH": paths},
        capture_output=True,
        text=True,
    )
    size, taken = map(int, done.stdout.split())
    assert size > 120 * 2**20
    assert taken < 64 * 2**20
