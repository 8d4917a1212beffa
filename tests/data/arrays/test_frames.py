"""Columns of a table as a program's arguments."""

import datetime
import decimal

import numpy as np
import pandas as pd
import pytest
import torch

from ppl_vae import ArrayData

make = ArrayData.from_dataframe
FRAME = pd.DataFrame(
    {
        "height": [1.5, 1.7, 1.6],
        "age": [30, 40, 50],
        "smokes": [True, False, True],
        "kind": ["u", "v", "u"],
        "site": pd.Categorical(["k", "l", "k"], categories=["l", "k", "m"]),
        "day": pd.to_datetime(["2020-01-01"] * 3),
        "gaps": [1.0, np.nan, 3.0],
        "unsure": ["u", None, "v"],
    }
)
TWICE = pd.DataFrame([[1, 2, 3]], columns=["a", "a", "b"])
LEVELS = pd.DataFrame(
    np.arange(6.0).reshape(2, 3),
    columns=pd.MultiIndex.from_tuples([("g", "a"), ("g", "b"), ("h", "a")]),
)


def test_each_keyword_is_an_argument():
    data = make(FRAME, x=["height", "age", "smokes"], y="kind", z=None, name="people")
    assert repr(data) == "ArrayData(people, split=all, 3 examples of x (3,), y () int64, z None)"
    assert data["x"].tolist() == [[1.5, 30, 1], [1.7, 40, 0], [1.6, 50, 1]]
    assert data["y"].tolist() == [0, 1, 0]
    assert data.categories == {"y": ("u", "v")}
    assert data.features == {"x": ("height", "age", "smokes"), "y": ("kind",)}


@pytest.mark.parametrize(
    ("column", "values", "categories"),
    [
        ("height", [1.5, 1.7, 1.6], None),
        ("age", [30, 40, 50], None),
        ("smokes", [1, 0, 1], (False, True)),
        ("kind", [0, 1, 0], ("u", "v")),
        ("site", [1, 0, 1], ("l", "k", "m")),
    ],
)
def test_a_lone_column(column, values, categories):
    data = make(FRAME, x="height", y=column)
    assert data["y"].tolist() == values
    assert data["y"].dtype is (torch.float64 if column == "height" else torch.int64)
    assert data.categories.get("y") == categories


@pytest.mark.parametrize("column", ["age", "smokes"])
def test_whole_numbers_and_booleans_of_x_are_floats(column):
    data = make(FRAME, x=column)
    assert data["x"].dtype is torch.float64
    assert data["x"].tolist() == FRAME[column].astype(float).tolist()


def test_a_list_of_categories_is_a_matrix_of_codes():
    data = make(FRAME, x=["kind", "site"])
    assert data["x"].tolist() == [[0, 1], [1, 0], [0, 1]]
    assert data["x"].dtype is torch.int64
    assert data.categories["x"] == (("u", "v"), ("l", "k", "m"))
    again = make(FRAME, x=["kind", "site"], categories={"x": [["v", "u"], ["k", "l"]]})
    assert again["x"].tolist() == [[1, 0], [0, 1], [1, 0]]


def test_another_table_is_coded_alike():
    first = make(FRAME, x="height", y="kind")
    other = make(FRAME[1:2], x="height", y="kind", categories=first.categories)
    assert other["y"].tolist() == [1]
    assert other.categories == first.categories
    assert make(FRAME[1:2], x="height", y="kind")["y"].tolist() == [0]
    numbered = make(FRAME, x="height", y="age", categories={"y": [50, 40, 30]})
    assert numbered["y"].tolist() == [2, 1, 0]


def test_a_mask_says_what_of_x_is_present():
    data = make(FRAME, x=["age", "gaps"], y="kind", mask="mask")
    assert data["x"].tolist() == [[30, 1], [40, 0], [50, 3]]
    assert data["mask"].tolist() == [[True, True], [True, False], [True, True]]
    names = make(FRAME, x="unsure", mask="seen")
    assert names["x"].tolist() == [0, 0, 1]
    assert names["seen"].tolist() == [True, False, True]
    assert bool(make(FRAME, x="age", mask="mask")["mask"].all())


@pytest.mark.parametrize(
    ("values", "dtype", "expected"),
    [
        ([1, None, 2], "Int64", [1, 0, 2]),
        ([1.5, None, 2], "Float64", [1.5, 0, 2]),
        ([True, None, False], "boolean", [1, 0, 0]),
        ([True, None, False], object, [1, 0, 0]),
        ([1, None, 2.5], object, [1, 0, 2.5]),
        ([decimal.Decimal("1.5"), None, decimal.Decimal(2)], object, [1.5, 0, 2]),
        (["b", None, "a"], "string", [1, 0, 0]),
        (["b", None, "a"], object, [1, 0, 0]),
        (["b", None, "a"], "category", [1, 0, 0]),
        ([None, None, None], object, [0, 0, 0]),
    ],
)
def test_nullable_columns(values, dtype, expected):
    frame = pd.DataFrame({"a": pd.Series(values, dtype=dtype), "b": [1, 2, 3]})
    data = make(frame, x="a", mask="mask")
    assert data["x"].tolist() == expected
    assert data["mask"].tolist() == frame["a"].notna().tolist()
    with pytest.raises(ValueError, match="x without missing values.*mask='mask'"):
        make(frame, x="a")
    with pytest.raises(ValueError, match=r"y without missing values; got \d of 3.*in column 'a'"):
        make(frame, x="b", y="a", mask="mask")


def test_sparse_and_narrow_columns():
    columns = {
        "whole": pd.arrays.SparseArray([0, 1]),
        "floats": pd.arrays.SparseArray([0.0, 2.5]),
        "byte": np.array([3, 4], dtype=np.int8),
        "half": np.array([1, 2], dtype=np.float16),
        "own": pd.Series([1, 2], dtype=object),
    }
    data = make(pd.DataFrame(columns), x=list(columns), y="byte")
    assert data["x"].tolist() == [[0, 0, 3, 1, 1], [1, 2.5, 4, 2, 2]]
    assert data["y"].dtype is torch.int64


def test_columns_by_any_name():
    assert make(LEVELS, x=[("g", "a"), ("h", "a")])["x"].tolist() == [[0, 2], [3, 5]]
    assert make(LEVELS, x=("g", "b"))["x"].tolist() == [1, 4]
    assert make(LEVELS, x=("g", "b")).features == {"x": ("('g', 'b')",)}
    assert make(pd.DataFrame(np.eye(2)), x=[1, 0])["x"].tolist() == [[0, 1], [1, 0]]
    assert make(TWICE, x="b")["x"].tolist() == [3]
    assert make(FRAME, x=FRAME.columns[:2])["x"].shape == (3, 2)


def _one(values, **options):
    return make(pd.DataFrame({"a": values, "b": 1.0}), **options)


@pytest.mark.parametrize(
    ("call", "error", "message"),
    [
        (lambda: make({"a": [1]}, x="a"), TypeError, "a pandas DataFrame; got dict"),
        (lambda: make(FRAME), ValueError, "columns of each argument; got none"),
        (lambda: make(FRAME[:0], x="age"), ValueError, r"one row; got shape \(0, 8\)"),
        (lambda: make(FRAME, x="hieght"), ValueError, "x as one of the columns.*'height'"),
        (
            lambda: make(FRAME, x=("age", "gaps")),
            ValueError,
            "x as one of the columns height, age",
        ),
        (lambda: make(FRAME, x=[]), ValueError, "an empty list"),
        (lambda: make(FRAME, x=FRAME["age"]), TypeError, "Pass the name, not the column"),
        (lambda: make(TWICE, x="a"), ValueError, "one column 'a' for x; got 2 columns. Rename"),
        (lambda: make(LEVELS, x="g"), ValueError, "got 2 columns. Name one by all its levels"),
        (lambda: make(LEVELS, x=("g", "c")), ValueError, r"Did you mean \('g', 'b'\)"),
        (lambda: make(pd.DataFrame(np.eye(2)), x="1"), ValueError, r"Did you mean 1\?"),
        (lambda: make(pd.DataFrame(np.eye(1, 30)), x="a"), ValueError, "19 and 10 more; got 'a'"),
        (
            lambda: make(FRAME, x=["age", "kind"]),
            TypeError,
            "one kind; got columns of strings, who",
        ),
        (lambda: make(FRAME, x="day"), TypeError, "column 'day' of datetime64.*total_seconds"),
        (lambda: _one([datetime.date(2020, 1, 1)], x="a"), TypeError, "of date .*total_seconds"),
        (lambda: _one(pd.to_timedelta([1]), x="a"), TypeError, "timedelta64.*total_seconds"),
        (lambda: _one([[1]], x="a"), TypeError, "of mixed values.*Make it one kind"),
        (lambda: _one([1, "a"], x="a"), TypeError, "of mixed-integer values.*Make it one kind"),
        (lambda: _one([1j], x="b", y="a"), TypeError, "of complex values"),
        (lambda: _one([np.inf], x="a"), ValueError, "x of finite numbers.*fill the entries in.$"),
        (lambda: _one([2**70], x="b", y="a"), ValueError, "y of 64 bits"),
        (lambda: make(FRAME, x="gaps"), ValueError, "got 1 of 3 missing in column 'gaps'"),
        (lambda: make(FRAME, x="age", mask="x"), ValueError, "mask as a new argument's name"),
        (lambda: make(FRAME, y="age", mask="m"), ValueError, "mask as a new argument's name"),
        (
            lambda: make(FRAME, y="kind", categories={"y": ["v"]}),
            ValueError,
            "among its 1 different categories; got the value 'u'",
        ),
        (
            lambda: make(FRAME, y="kind", categories={"y": ["v", "u", "u"]}),
            ValueError,
            "got a category twice",
        ),
        (
            lambda: make(FRAME, y="kind", categories={"z": "uv"}),
            ValueError,
            "as one of y; got 'z'",
        ),
        (
            lambda: make(FRAME, x=["age", "gaps"], categories={"x": [[1], [2]]}),
            ValueError,
            "categories of x, which holds numbers",
        ),
        (
            lambda: make(FRAME, x=["kind", "site"], categories={"x": ["u"]}),
            ValueError,
            "for each of its 2 columns; got 1",
        ),
    ],
)
def test_bad_input(call, error, message):
    with pytest.raises(error, match=message):
        call()


def test_a_table_of_polars_is_pointed_to_pandas():
    class Frame:
        def to_pandas(self):
            return FRAME

    with pytest.raises(TypeError, match=r"Pass frame.to_pandas\(\)"):
        make(Frame(), x="age")
