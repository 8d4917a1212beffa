"""One array of the examples, checked: a tensor, the rows of a sparse matrix, or None."""

from __future__ import annotations

from typing import Any

import numpy as np
import torch
from torch import Tensor

from ppl_vae import checks
from ppl_vae.data.arrays.sparse_rows import Index, SparseRows

Entry = Tensor | SparseRows | None

KINDS = "a NumPy array, a torch tensor or a sparse matrix of SciPy, of numbers"
WIDE = {torch.uint16: torch.int64, torch.uint32: torch.int64, torch.uint64: torch.int64}


def as_entry(name: str, value: Any) -> Entry:  # noqa: ANN401
    """Return one array as it is kept; its values are looked at by `require_finite`.

    Raises:
        TypeError: it is no array of real numbers.
        ValueError: it has no examples, or no dimension to count them by.
    """
    if value is None:
        return None
    entry = _converted(name, value)
    if entry.dtype.is_complex:
        raise checks.type_error(
            f"{name} of real numbers",
            f"dtype {entry.dtype}",
            "Pass the real and the imaginary parts as columns.",
        )
    if not entry.shape:
        raise checks.value_error(
            f"{name} with a first dimension that counts the examples",
            "a single number",
            "What is not per example is for functools.partial, or an attribute of the pair.",
        )
    if 0 in entry.shape:
        raise checks.value_error(
            f"{name} with at least one entry", f"shape {tuple(entry.shape)}", "Pass data."
        )
    return entry


def _converted(name: str, value: Any) -> Tensor | SparseRows:  # noqa: ANN401
    if isinstance(value, Tensor):
        if value.layout != torch.strided:
            return _from_torch(name, value.detach())
        return value.detach().to(WIDE.get(value.dtype, value.dtype))
    if isinstance(value, np.ma.MaskedArray):
        raise checks.type_error(
            f"{name} as {KINDS}",
            "a masked array, whose mask is True where a value is missing",
            "Pass value.filled(0), and ~numpy.ma.getmaskarray(value) as the mask.",
        )
    if isinstance(value, np.ndarray):
        return _from_numpy(name, value)
    from scipy import sparse

    if sparse.issparse(value):
        return _from_scipy(name, value)
    if hasattr(value, "columns"):
        remedy = "Use ArrayData.from_dataframe, or pass its to_numpy()."
    else:
        remedy = "Pass numpy.asarray of it."
    raise checks.type_error(f"{name} as {KINDS}", type(value).__name__, remedy)


def _from_numpy(name: str, value: np.ndarray[Any, Any]) -> Tensor:
    if value.dtype.kind not in "buifc":
        raise checks.type_error(
            f"{name} of numbers",
            f"dtype {value.dtype}",
            "Number the categories, for instance with numpy.unique(values, return_inverse=True), "
            "or use ArrayData.from_dataframe.",
        )
    if value.dtype == np.uint64 and value.size and value.max() > np.iinfo(np.int64).max:
        raise checks.value_error(f"{name} below 2 ** 63", str(value.max()), "Use smaller numbers.")
    if value.dtype.kind == "f" and value.dtype.itemsize > 8:
        value = value.astype(np.float64)
    elif value.dtype in (np.uint16, np.uint32, np.uint64):
        value = value.astype(np.int64)
    # A copy of its own: torch takes no foreign byte order, no negative stride, no read-only array.
    return torch.from_numpy(np.array(value, dtype=value.dtype.newbyteorder("="), order="C"))


def _from_scipy(name: str, value: Any) -> SparseRows:  # noqa: ANN401
    if value.ndim != 2:
        raise checks.value_error(
            f"{name} as a sparse matrix of two dimensions", f"{value.ndim}", "Pass a matrix."
        )
    if value.dtype.kind not in "buif":
        raise checks.type_error(
            f"{name} of real numbers", f"dtype {value.dtype}", "Convert it with astype."
        )
    return SparseRows.from_scipy(value)


def _from_torch(name: str, value: Tensor) -> SparseRows:
    if value.dim() != 2 or value.dtype.is_complex:
        raise checks.value_error(
            f"{name}, if sparse, as a matrix of real numbers",
            f"shape {tuple(value.shape)} and dtype {value.dtype}",
            "Pass value.to_dense().",
        )
    rows = value.to_sparse_coo().coalesce()
    index, values = rows.indices(), rows.values()
    lengths = torch.bincount(index[0], minlength=len(value))
    starts = torch.cat([lengths.new_zeros(1), lengths.cumsum(0)])
    floats = values if values.is_floating_point() else values.double()
    return SparseRows(starts, index[1].to(torch.int32), floats, value.shape[1])


def require_finite(name: str, entry: Entry) -> None:
    """Raise ValueError if an array of floats holds a NaN or an infinity."""
    values = entry.values if isinstance(entry, SparseRows) else entry
    if values is None or not values.is_floating_point():
        return
    bad = ~values.isfinite()
    if bool(bad.any()):
        first = values[bad][0].item()
        remedy = "Leave those examples out, or fill the entries in"
        if name == "x" and first != first and isinstance(entry, Tensor):
            remedy += ", or name the program's mask, for instance mask='mask'"
        raise checks.value_error(
            f"{name} of finite numbers",
            f"{int(bad.sum())} of {values.numel()} entries otherwise, the first {first}",
            f"{remedy}.",
        )


def taken(entry: Entry, index: Index, dtype: torch.dtype) -> Tensor | None:
    """Return the examples at `index` for a program: floats as `dtype`, others as they are."""
    if entry is None:
        return None
    if isinstance(entry, SparseRows):
        return entry.dense(index, dtype)
    found = entry[index]
    return found.to(dtype) if found.is_floating_point() else found


def described(name: str, entry: Entry) -> str:
    """Return an array's name and the shape of one example, with its dtype unless it is floats."""
    if entry is None:
        return f"{name} None"
    shape = tuple(entry.shape[1:])
    if isinstance(entry, SparseRows):
        return f"{name} {shape} sparse"
    kind = "" if entry.is_floating_point() else f" {str(entry.dtype).removeprefix('torch.')}"
    return f"{name} {shape}{kind}"
