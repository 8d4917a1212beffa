"""Cells of AnnData objects, and of what looks like one."""

import re
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pandas as pd
import pytest
import torch
from scipy import sparse

from ppl_vae import ArrayData

make = ArrayData.from_anndata
COUNTS = np.array([[2, 0, 7], [0, 1, 0], [3, 0, 0], [1, 1, 1]])
OBS = pd.DataFrame(
    {
        "total": [20.0, 11, 12, 13],
        "donor": pd.Categorical(list("abba")),
        "type": list("xyxy"),
        "plate": [3, 4, 3, 4],
        "gaps": [1, None, 2, 3],
    },
    index=list("stuv"),
)
GENES = pd.Index(["g1", "g2", "g3"])


def cells(x=None, **parts):
    """What `from_anndata` reads of an AnnData object, with log(1 + counts) as X."""
    x = np.log1p(COUNTS) if x is None else x
    parts = {"layers": {"counts": sparse.csr_matrix(COUNTS)}, "raw": None, "obs": OBS, **parts}
    return SimpleNamespace(X=x, var_names=GENES, **parts)


def test_the_arguments_are_those_that_are_asked_for():
    data = make(cells())
    assert list(data.batch(slice(None))) == ["x"]
    assert torch.equal(data["x"], torch.from_numpy(np.log1p(COUNTS)))
    assert data.features["x"] == ("g1", "g2", "g3")
    columns = {"library": "total", "batch": "donor", "labels": {"y": "type"}}
    full = make(cells(), layer="counts", **columns, name="blood", split="test")
    assert "x (3,) sparse, library (), batch () int64, y () int64" in repr(full)
    assert "blood, split=test, 4 examples" in repr(full)
    batch = full.batch(torch.tensor([1, 3]))
    assert batch["x"].tolist() == COUNTS[[1, 3]].tolist()
    assert batch["library"].tolist() == [11, 13]
    assert batch["batch"].tolist() == [1, 0]
    assert batch["y"].tolist() == [1, 1]
    assert full.categories == {"batch": ("a", "b"), "y": ("x", "y")}


def test_labels_may_lie_beside():
    data = make(cells(), labels="type", batch="plate")
    assert list(data.batch(slice(None))) == ["x", "batch"]
    assert data["labels"].tolist() == [0, 1, 0, 1]
    assert data.categories == {"labels": ("x", "y"), "batch": (3, 4)}


@pytest.mark.parametrize("x", [COUNTS, COUNTS.astype(np.uint16), sparse.csc_matrix(COUNTS)])
def test_whole_numbers_become_floats(x):
    batch = make(cells(x)).batch(slice(None), dtype=torch.float32)
    assert batch["x"].dtype is torch.float32
    assert batch["x"].tolist() == COUNTS.tolist()
    large = np.array([[2**24 + 1, 0, 0]] * 4)
    assert make(cells(large))["x"][0, 0].item() == 2**24 + 1


def test_raw_has_genes_of_its_own():
    raw = SimpleNamespace(X=COUNTS[:, :2], var_names=GENES[:2])
    data = make(cells(raw=raw), use_raw=True)
    assert data["x"].tolist() == COUNTS[:, :2].tolist()
    assert data.features["x"] == ("g1", "g2")


@pytest.mark.parametrize(
    ("call", "error", "message"),
    [
        (lambda: make(OBS), TypeError, "an AnnData object; got DataFrame"),
        (lambda: make(cells(), layer="count"), ValueError, "Did you mean 'counts'"),
        (lambda: make(cells(layers={}), layer="counts"), ValueError, "there is none"),
        (lambda: make(cells(), use_raw=True), ValueError, "a matrix in raw; got none"),
        (lambda: make(cells(), layer="counts", use_raw=True), ValueError, "a layer or raw"),
        (lambda: make(cells(), library="totals"), ValueError, "Did you mean 'total'"),
        (lambda: make(cells(), library="donor"), TypeError, "library as a column of numbers"),
        (lambda: make(cells(), batch="gaps"), ValueError, "1 of 4 missing in column 'gaps'"),
        (lambda: make(cells(), labels={"x": "type"}), ValueError, "of their own; got 'x'"),
        (lambda: make(cells(np.full((4, 3), np.nan))), ValueError, "x of finite numbers"),
    ],
)
def test_bad_input(call, error, message):
    with pytest.raises(error, match=message):
        call()


def test_a_matrix_that_is_not_there():
    empty = cells()
    empty.X = None
    with pytest.raises(ValueError, match="a matrix in X; got none. Name the layer"):
        make(empty)
    assert make(empty, layer="counts")["x"].tolist() == COUNTS.tolist()


@pytest.mark.filterwarnings("ignore")
def test_an_object_of_anndata_and_a_part_of_it():
    anndata = pytest.importorskip("anndata")
    var = pd.DataFrame(index=GENES)
    whole = anndata.AnnData(sparse.csr_matrix(COUNTS.astype("float32")), obs=OBS, var=var)
    assert make(whole, batch="donor")["x"].tolist() == COUNTS.tolist()
    part = make(whole[whole.obs["donor"] == "b", ["g3", "g1"]], library="total")
    assert part["x"].tolist() == COUNTS[1:3][:, [2, 0]].tolist()
    assert part["library"].tolist() == [11, 12]
    assert part.features["x"] == ("g3", "g1")


@pytest.mark.filterwarnings("ignore")
def test_the_example_of_the_site(capsys):
    pytest.importorskip("anndata")
    torch.set_default_dtype(torch.float32)
    page = (Path(__file__).parents[3] / "docs" / "your_own_data.md").read_text()
    block = r"```{code-block} python\n(.*?)```\n\n```text\n(.*?)```"
    ((code, output),) = re.findall(block, page, flags=re.DOTALL)
    exec(compile(code, "page", "exec"), {})
    assert capsys.readouterr().out == output
