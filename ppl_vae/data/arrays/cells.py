"""Cells of an AnnData object as arrays; anndata itself is not imported."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
from scipy import sparse

from ppl_vae import checks
from ppl_vae.data.arrays.columns import coded, numbers

PARTS = ("X", "layers", "raw", "obs", "var_names")


def read_cells(
    adata: Any,  # noqa: ANN401
    *,
    layer: str | None,
    use_raw: bool,
    library: str | None,
    batch: str | None,
    labels: str | Mapping[str, str] | None,
) -> dict[str, Any]:
    """Return what `ArrayData` takes; see its `from_anndata`, which says what is refused."""
    if not all(hasattr(adata, part) for part in PARTS):
        raise checks.type_error(
            "an AnnData object",
            type(adata).__name__,
            "Read one, for instance by anndata.read_h5ad.",
        )
    x, genes = _matrix(adata, layer, use_raw=use_raw)
    arrays: dict[str, Any] = {"x": x}
    beside: dict[str, Any] = {}
    categories: dict[str, tuple[Any, ...]] = {}
    if library is not None:
        column = _column(adata, "library", library)
        arrays["library"] = numbers("library", column)
    wanted = {} if batch is None else {"batch": batch}
    if isinstance(labels, Mapping):
        taken = [key for key in labels if key in ("x", "library", "batch")]
        if taken:
            raise checks.value_error(
                "labels under an argument's name of their own", repr(taken[0]), "Rename it."
            )
        wanted |= labels
    elif labels is not None:
        wanted["labels"] = labels
    for key, name in wanted.items():
        codes, categories[key] = coded(key, _column(adata, key, name), None)
        if key == "labels" and isinstance(labels, str):
            beside[key] = codes
        else:
            arrays[key] = codes
    return {
        "arrays": arrays,
        "beside": beside,
        "features": {"x": [str(gene) for gene in genes]},
        "categories": categories,
    }


def _matrix(adata: Any, layer: str | None, *, use_raw: bool) -> tuple[Any, Any]:  # noqa: ANN401
    """Return the matrix, in floats, and the names of its columns."""
    if layer is not None and use_raw:
        raise checks.value_error(
            "a layer or raw", f"layer={layer!r} and use_raw=True", "Pass one of them."
        )
    found, genes, where = adata.X, adata.var_names, "X"
    if layer is not None:
        checks.name("layer", layer, list(adata.layers) or ["(there is none)"])
        found, where = adata.layers[layer], f"layer {layer!r}"
    if use_raw:
        where = "raw"
        found = None if adata.raw is None else adata.raw.X
        genes = None if adata.raw is None else adata.raw.var_names
    if found is None:
        raise checks.value_error(
            f"a matrix in {where}", "none", "Name the layer that holds the counts by layer=."
        )
    if hasattr(found, "to_memory"):  # of a file that is open
        found = found.to_memory()
    if sparse.issparse(found):
        return found, genes
    dense = np.asarray(found)
    if dense.dtype.kind in "bui":
        exact = not dense.size or np.abs(dense.astype(np.float64)).max() <= 2**24
        dense = dense.astype(np.float32 if exact else np.float64)
    return dense, genes


def _column(adata: Any, argument: str, name: str) -> Any:  # noqa: ANN401
    column = adata.obs[checks.name(f"column of obs for {argument}", name, adata.obs.columns)]
    missing = int(column.isna().sum())
    if missing:
        raise checks.value_error(
            f"{argument} without missing values",
            f"{missing} of {len(column)} missing in column {name!r}",
            "Leave those cells out: adata[adata.obs[name].notna()].",
        )
    return column
