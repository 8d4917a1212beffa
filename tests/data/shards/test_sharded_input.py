"""What is wrong with files, columns and numbers of `ShardedData`."""

import sys

import numpy as np
import pytest

from ppl_vae import LinearGaussian, ShardedData, fit

pa = pytest.importorskip("pyarrow")
parquet = pytest.importorskip("pyarrow.parquet")


@pytest.fixture
def write(tmp_path):
    def of(name="a", **columns):
        parquet.write_table(pa.table(columns), tmp_path / f"{name}.parquet")
        return tmp_path

    return of


def test_paths(tmp_path, write):
    for path in (tmp_path, tmp_path / "none.parquet"):
        with pytest.raises(FileNotFoundError, match=r"with \*.parquet in it; got .*Write"):
            ShardedData(path)
    with pytest.raises(TypeError, match="paths as a path; got int"):
        ShardedData(3)
    with pytest.raises(ValueError, match="at least one file; got none"):
        ShardedData([])
    (tmp_path / "bad.parquet").write_text("no table")
    with pytest.raises(ValueError, match=r"a Parquet file at .*bad.parquet; got .*Restore or"):
        ShardedData(tmp_path)


def test_no_rows(write):
    with pytest.raises(ValueError, match="at least one row; got none. Pass data."):
        ShardedData(write(x=np.zeros(0)))


def test_columns(write):
    folder = write(length=np.ones(3), title=list("abc"), when=pa.array([1, 2, 3], pa.date32()))
    with pytest.raises(ValueError, match="column as one of .* 'lenth'. Did you mean 'length'?"):
        ShardedData(folder, columns={"x": "lenth"})
    with pytest.raises(TypeError, match="columns as a mapping from a program's arguments"):
        ShardedData(folder, columns=["length"])
    with pytest.raises(TypeError, match="every entry of columns as the name of a column, or a"):
        ShardedData(folder, columns={"x": 3})
    for columns in ({}, {"x": []}):
        with pytest.raises(ValueError, match="at least one column for each argument"):
            ShardedData(folder, columns=columns)
    for name, kind in (("title", "string"), ("when", "date32")):
        with pytest.raises(TypeError, match=f"in the column '{name}'; got {kind}.*Leave it out"):
            ShardedData(folder, columns={"x": name})
    assert len(ShardedData(folder, columns={"x": "length"})) == 3


def test_files_that_differ(write):
    write("a", x=np.ones(3))
    folder = write("b", x=np.ones(3, dtype=np.float32))
    with pytest.raises(ValueError, match=r"in every file, double; got float in .*b.parquet"):
        ShardedData(folder)
    with pytest.raises(ValueError, match=r"in every file, double; got none in .*b.parquet"):
        ShardedData(write("b", y=np.ones(3)))


def test_values(write):
    for values in ([1.0, None], [[1.0], None], [[1.0, None], [2.0, 3.0]]):
        with pytest.raises(ValueError, match="no missing values in the column 'x'; got 1. Fill"):
            next(iter(ShardedData(write(x=values)).loader()))
    with pytest.raises(ValueError, match="lists of the same length .* got lengths from 1 to 2"):
        next(iter(ShardedData(write(x=[[1.0], [1.0, 2.0]])).loader()))
    pair = LinearGaussian(2, 1)
    with pytest.raises(ValueError, match="x: finite numbers only"):
        fit(pair, ShardedData(write(x=[[1.0, float("nan")]])), device="cpu")


def test_numbers(write):
    folder = write(x=np.ones(5))
    with pytest.raises(ValueError, match="buffer of at least 1; got 0"):
        ShardedData(folder, buffer=0)
    with pytest.raises(ValueError, match="rank and world_size together; got rank=0 and world_siz"):
        ShardedData(folder, rank=0)
    with pytest.raises(ValueError, match="rank below world_size=2; got 2. Ranks count from 0."):
        ShardedData(folder, rank=2, world_size=2)
    with pytest.raises(ValueError, match="batch_size for each of 3 processes; got 2. Start fewer"):
        ShardedData(folder, rank=0, world_size=3).loader(2)
    with pytest.raises(ValueError, match="rows for each of 6 processes; got 5"):
        ShardedData(folder, rank=0, world_size=6).loader(10)
    with pytest.raises(TypeError, match="seed as an int; got str"):
        ShardedData(folder, seed="0")


def test_the_extra(write, monkeypatch):
    folder = write(x=np.ones(5))
    monkeypatch.setitem(sys.modules, "pyarrow.parquet", None)
    with pytest.raises(ImportError, match=r"library pyarrow; .* pip install 'ppl_vae\[parquet\]'"):
        ShardedData(folder)


@pytest.mark.parametrize("epoch", [0, 1])
def test_lists_of_another_length_in_another_file(write, epoch):
    write("a", x=[[1.0, 2.0, 3.0]] * 20)
    loader = ShardedData(write("b", x=[[4.0]] * 20), buffer=10).loader(8)
    loader.dataset.set_epoch(epoch)
    with pytest.raises(ValueError, match=r"same length in the column 'x'; got some of shape \("):
        list(loader)


def test_columns_of_several_shapes(write):
    folder = write(a=[[1.0, 2.0]] * 3, b=[1.0] * 3)
    data = ShardedData(folder, columns={"x": ["a", "b"]})
    with pytest.raises(ValueError, match=r"one shape, for 'x'; got a: \(2,\), b: \(\)\. Give"):
        next(iter(data.loader()))


def test_numbers_that_no_int64_holds(write):
    data = ShardedData(write(x=pa.array([1, 2**63], pa.uint64())))
    with pytest.raises(ValueError, match=r"below 2\*\*63 in the column 'x'; got 9223372036854775"):
        next(iter(data.loader()))


def test_columns_of_one_name(tmp_path):
    table = pa.Table.from_arrays([pa.array([1.0]), pa.array([2.0])], names=["x", "x"])
    parquet.write_table(table, tmp_path / "a.parquet")
    with pytest.raises(ValueError, match=r"one column 'x' in .*; got several of this name"):
        ShardedData(tmp_path)


def test_a_folder_that_is_called_like_a_file(tmp_path, write):
    (tmp_path / "a.parquet").mkdir()
    folder = write("a.parquet/part-0", x=[1.0, 2.0])
    assert len(ShardedData(folder)) == 2


@pytest.mark.parametrize(
    "then", [{"x": np.zeros(9)}, {"x": np.ones(30)}, {"y": np.ones(20)}, None]
)
def test_a_file_that_is_replaced(tmp_path, write, then):
    loader = ShardedData(write(x=np.ones(20))).loader(5)
    write(**then) if then else (tmp_path / "a.parquet").unlink()
    with pytest.raises(ValueError, match="as it was when the data were made; got a file that was"):
        list(loader)
