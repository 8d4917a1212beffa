"""Arrays of the same examples, and the batches that they give."""

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from scipy import sparse

from ppl_vae import ArrayData, BernoulliVAE, fit

X, Y = np.arange(15.0).reshape(5, 3), np.array([2, 0, 1, 1, 0])
EYE = sparse.csr_array(np.eye(4))
HOLES = np.where(np.eye(5, 3, dtype=bool), np.nan, X)
FORMATS = ["csr", "csc", "coo", "lil", "dok", "dia", "bsr"]
INDICES = [
    slice(1, 4),
    slice(None, None, 2),
    torch.tensor([4, 0, 0, 2]),
    torch.tensor([], dtype=torch.long),
    torch.tensor([True, False, True, True, False]),
    torch.tensor([-1]),
]


def test_a_batch_has_the_form_of_the_arrays():
    index = torch.tensor([3, 1])
    assert torch.equal(ArrayData(X).batch(index), torch.from_numpy(X[[3, 1]]))
    x, y, none = ArrayData((X, Y, None)).batch(index)
    assert torch.equal(x, torch.from_numpy(X[[3, 1]]))
    assert y.tolist() == [1, 0]
    assert none is None
    batch = ArrayData({"x": X, "library": None, "y": Y}).batch(index)
    assert list(batch) == ["x", "library", "y"]
    assert torch.equal(batch["x"], x)
    assert batch["library"] is None
    assert torch.equal(batch["y"], y)


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64, torch.bfloat16])
def test_only_floats_take_the_dtype(dtype):
    data = ArrayData((X.astype(np.float32), Y, Y > 0, Y.astype(np.uint8), EYE.todense()[[0] * 5]))
    found = [entry.dtype for entry in data.batch(slice(0, 2), dtype=dtype)]
    assert found == [dtype, torch.int64, torch.bool, torch.uint8, dtype]
    assert data.batch(slice(0, 2))[0].dtype is torch.get_default_dtype()


@pytest.mark.parametrize("index", INDICES, ids=str)
@pytest.mark.parametrize("form", FORMATS)
def test_sparse_rows_become_dense_in_batches(form, index):
    matrix = sparse.random(5, 4, 0.4, format=form, rng=np.random.default_rng(1))
    whole = torch.from_numpy(matrix.toarray())
    data = ArrayData(matrix)
    assert torch.equal(data.batch(index), whole[index])
    assert torch.equal(data[index]["x"], whole[index])
    assert torch.equal(data.to("cpu")["x"], whole)


@given(st.data())
def test_any_sparse_matrix_is_its_dense_one(draw):
    rows, columns = draw.draw(st.integers(1, 6)), draw.draw(st.integers(1, 5))
    numbers = st.lists(
        st.sampled_from([0, 0, 1, 7]), min_size=rows * columns, max_size=rows * columns
    )
    dense = np.array(draw.draw(numbers)).reshape(rows, columns)
    index = torch.tensor(draw.draw(st.lists(st.integers(-rows, rows - 1))), dtype=torch.long)
    batch = ArrayData(sparse.coo_array(dense)).batch(index)
    assert torch.equal(batch, torch.from_numpy(dense).double()[index])


def test_sparse_entries_given_twice_add_up_and_whole_numbers_become_floats():
    twice = sparse.coo_array(([2, 3, 1], ([0, 0, 1], [1, 1, 0])), shape=(2, 2))
    assert ArrayData(twice)["x"].tolist() == [[0, 5], [1, 0]]
    assert ArrayData(twice)["x"].dtype is torch.float32
    large = sparse.coo_array(([2**24 + 1], ([0], [0])), shape=(1, 1))
    assert ArrayData(large)["x"].item() == 2**24 + 1
    assert ArrayData(EYE > 0)["x"].tolist() == np.eye(4).tolist()


@pytest.mark.filterwarnings("ignore:Sparse CS. tensor support is in beta")
@pytest.mark.parametrize("make", ["to_sparse", "to_sparse_csr", "to_sparse_csc"])
def test_sparse_tensors_of_torch(make):
    dense = torch.eye(4)[[0, 2, 2, 1]]
    assert torch.equal(ArrayData(getattr(dense, make)())["x"], dense)
    assert torch.equal(ArrayData(getattr(dense.long(), make)())["x"], dense.double())


def test_arrays_that_torch_does_not_take_as_they_are():
    kept = X.copy()
    kept.flags.writeable = False
    for array in (X[::-1], X.astype(">f8"), kept, X.astype(np.longdouble), X.astype(np.float16)):
        assert np.array_equal(ArrayData(array)["x"].numpy(), array.astype(np.float64))
    for dtype in (np.uint16, np.uint32, np.uint64):
        assert ArrayData(Y.astype(dtype)).batch(slice(None)).tolist() == Y.tolist()
    assert not ArrayData(torch.rand(3, requires_grad=True))["x"].requires_grad


def test_arrays_of_numpy_are_copied():
    array = X.copy()
    data = ArrayData(array)
    array[:] = 0
    assert data["x"].tolist() == X.tolist()


def test_parts_carry_what_lies_beside():
    data = ArrayData(
        {"x": X},
        beside={"labels": Y},
        categories={"labels": "abc"},
        features={"x": ["u", "v", "w"]},
    )
    part = data[torch.tensor([0, 4])]
    assert part["labels"].tolist() == [2, 0]
    assert list(part.batch(slice(None))) == ["x"]
    assert part.categories == {"labels": ("a", "b", "c")}
    assert part.features == {"x": ("u", "v", "w")}
    assert len(data) == 5
    assert len(part) == 2
    assert len(data[:0]) == 0


def test_a_mask_is_made_where_x_is_missing():
    batch = ArrayData(HOLES, mask="mask").batch(slice(None))
    assert torch.equal(batch["mask"], torch.from_numpy(~np.isnan(HOLES)))
    assert torch.equal(batch["x"], torch.from_numpy(np.nan_to_num(HOLES)))


def test_a_mask_that_is_given_also_hides_numbers():
    shown = X > 4
    batch = ArrayData({"x": X, "seen": shown}, mask="seen").batch(slice(None))
    assert torch.equal(batch["x"], torch.from_numpy(X * shown))
    assert torch.equal(batch["seen"], torch.from_numpy(shown))


@pytest.mark.parametrize(
    ("train", "sizes"), [(0.8, (80, 20)), ((30, 70), (30, 70)), (0.001, (1, 99))]
)
def test_two_parts_make_up_the_whole(train, sizes):
    data = ArrayData({"x": np.arange(100.0)}, beside={"i": np.arange(100)}, name="d")
    state = torch.get_rng_state()
    parts = data.train_test_split(train, seed=1)
    assert torch.equal(torch.get_rng_state(), state)
    assert tuple(map(len, parts)) == sizes
    assert [part.split for part in parts] == ["train", "test"]
    rows = [part["i"].tolist() for part in parts]
    assert sorted(rows[0] + rows[1]) == list(range(100))
    assert rows == [sorted(part) for part in rows]
    assert rows[0] == data.train_test_split(train, seed=1)[0]["i"].tolist()
    assert rows[0] != data.train_test_split(train, seed=2)[0]["i"].tolist()
    assert data.split == "all"
    assert max(parts, key=len).train_test_split()[1].split.endswith(", test")


def test_training_on_an_array_is_training_on_its_tensor():
    torch.set_default_dtype(torch.float32)
    x = (torch.rand(60, 1, 4, 4) > 0.5).float()
    losses = []
    for data in (x, ArrayData(x), ArrayData(x.numpy())):
        pair = BernoulliVAE((1, 4, 4), hidden=(8,), seed=0)
        options = {"num_epochs": 2, "batch_size": 32, "progress": False, "device": "cpu"}
        losses.append(fit(pair, data, validation=data, **options).train_elbo)
    assert losses[0] == losses[1] == losses[2]


def test_what_it_prints():
    data = ArrayData({"x": EYE, "y": Y[:4], "z": None, "m": X[:4] > 1}, name="d", split="train")
    expected = "4 examples of x (4,) sparse, y () int64, z None, m (3,) bool"
    assert repr(data) == f"ArrayData(d, split=train, {expected})"


@pytest.mark.parametrize(
    ("make", "error", "message"),
    [
        (lambda: ArrayData([X, Y]), TypeError, "got a list. Pass a tuple"),
        (lambda: ArrayData(X.tolist()[0]), TypeError, "got a list"),
        (lambda: ArrayData(3.0), TypeError, "got float. Pass numpy.asarray"),
        (lambda: ArrayData({1: X}), TypeError, "names of a program's arguments; got the key 1"),
        (lambda: ArrayData({"a b": X}), TypeError, "got the key 'a b'"),
        (lambda: ArrayData((X, Y[:3])), ValueError, "got 0: 5, 1: 3"),
        (lambda: ArrayData((X, EYE)), ValueError, "got 0: 5, 1: 4"),
        (lambda: ArrayData(X[:0]), ValueError, r"at least one entry; got shape \(0, 3\)"),
        (lambda: ArrayData(sparse.csr_array((0, 3))), ValueError, "at least one entry"),
        (lambda: ArrayData(()), ValueError, "at least one array"),
        (lambda: ArrayData({"x": None}), ValueError, "at least one array"),
        (lambda: ArrayData(np.array(["a"], dtype=object)), TypeError, "dtype object. Number"),
        (lambda: ArrayData(np.array(["a"])), TypeError, "use ArrayData.from_dataframe"),
        (lambda: ArrayData(np.array(["2020"], dtype="M8[D]")), TypeError, "x of numbers"),
        (lambda: ArrayData(X * 1j), TypeError, "x of real numbers; got dtype torch.complex128"),
        (lambda: ArrayData(EYE * 1j), TypeError, "x of real numbers; got dtype complex128"),
        (lambda: ArrayData(np.array(1.0)), ValueError, "a single number"),
        (lambda: ArrayData(torch.rand(2, 3, 4).to_sparse()), ValueError, "as a matrix of real"),
        (lambda: ArrayData(sparse.coo_array(np.ones(3))), ValueError, "two dimensions"),
        (lambda: ArrayData(np.array([2**64 - 1], dtype=np.uint64)), ValueError, "below 2 .. 63"),
        (lambda: ArrayData(np.ma.array(X, mask=X > 1)), TypeError, "Pass value.filled"),
        (lambda: ArrayData(HOLES), ValueError, "3 of 15 entries otherwise, the first nan.*mask="),
        (
            lambda: ArrayData((Y, HOLES)),
            ValueError,
            "argument 1 of finite.*or fill the entries in.$",
        ),
        (lambda: ArrayData(X / 0.0), ValueError, "finite numbers; got .* or fill the entries in"),
        (lambda: ArrayData(HOLES, mask="a b"), ValueError, "name of a program's argument"),
        (lambda: ArrayData((HOLES, Y), mask="m"), ValueError, "got the arguments 0, 1"),
        (lambda: ArrayData(EYE, mask="m"), ValueError, "got a sparse x"),
        (lambda: ArrayData({"x": HOLES, "m": Y > 1}, mask="m"), ValueError, "of the shape of x"),
        (lambda: ArrayData({"x": HOLES, "m": X}, mask="m"), ValueError, "m as booleans"),
        (lambda: ArrayData({"x": HOLES, "m": X >= 0}, mask="m"), ValueError, "got 3 NaN there"),
        (lambda: ArrayData(X, beside={"x": Y}), ValueError, "names of their own; got 'x'"),
        (lambda: ArrayData(X, beside={"y": Y[:2]}), ValueError, "got x: 5, y: 2"),
        (lambda: ArrayData(X, features={"x": ["a"]}), ValueError, "3 names of the columns of x"),
        (lambda: ArrayData(X, features={"z": ["a"]}), ValueError, "got 'z'"),
        (lambda: ArrayData((X, Y), categories={"1": "ab"}), ValueError, "codes from 0 to 2"),
        (lambda: ArrayData(X)[1], TypeError, r"Use data\[1:2\]"),
        (lambda: ArrayData(X)[np.int64(1)], TypeError, r"Use data\[1:2\]"),
        (lambda: ArrayData(X)["y"], ValueError, "array as one of x; got 'y'"),
        (lambda: ArrayData(X).train_test_split(1.0), ValueError, "above 0 and below 1"),
        (lambda: ArrayData(X).train_test_split((2, 2)), ValueError, "make up all 5"),
        (lambda: ArrayData(X).train_test_split((6, -1)), ValueError, "size of at least 1"),
        (lambda: ArrayData(X)[:1].train_test_split(), ValueError, "make up all 1"),
        (lambda: ArrayData(X).train_test_split(3), TypeError, "fraction for training, or two"),
    ],
)
@pytest.mark.filterwarnings(
    "ignore:.*divide by zero:RuntimeWarning", "ignore:invalid value:RuntimeWarning"
)
def test_bad_input(make, error, message):
    with pytest.raises(error, match=message):
        make()


@pytest.mark.cuda
@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA device")
def test_batches_are_the_same_on_the_device():
    data = ArrayData({"x": EYE, "y": Y[:4], "z": None}, beside={"i": np.arange(4)})
    moved, index = data.to("cuda"), torch.tensor([3, 0])
    there, index_there = moved.batch(index.cuda()), index.cuda()
    torch.cuda.set_sync_debug_mode("error")
    try:
        moved.batch(index_there)  # nothing waits for the device
    finally:
        torch.cuda.set_sync_debug_mode("default")
    here = data.batch(index)
    assert there["x"].device.type == "cuda"
    assert torch.equal(there["x"].cpu(), here["x"])
    assert torch.equal(there["y"].cpu(), here["y"])
    assert moved["i"].device.type == "cuda"
    mixed = ArrayData((torch.rand(4).cuda(), Y[:4]))
    assert mixed.batch(slice(None))[1].device.type == "cuda"
