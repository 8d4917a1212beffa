"""Arrays of the same examples, as a program's arguments."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from ppl_vae.data.arrays import forms
from ppl_vae.data.arrays.entries import as_entry, require_finite
from ppl_vae.data.arrays.examples import Examples


class ArrayData(Examples):
    """Arrays of the same examples, kept on a device; `batch` gives a program its arguments.

    What a batch is, by what `arrays` is:

    * ``x``: a tensor, for ``model(x)``;
    * ``(x, y)``: a tuple, for ``model(x, y)``;
    * ``{"x": x, "library": l}``: a dict, for ``model(x=x, library=l)``.

    An array is of NumPy, a torch tensor or a sparse matrix of SciPy or torch, and its first
    dimension counts the examples. An entry of a tuple or a mapping may be None, and is then None
    in every batch. In batches floats have the dtype that is asked for; whole numbers and booleans
    keep theirs, so a program that scores counts wants them as floats. A sparse matrix stays sparse
    in memory; its rows become dense floats batch by batch.

    Args:
        arrays: one array, a tuple of them, or a mapping from names of arguments.
        mask: the argument of the program that says which entries of `x` are present, a tensor of
            booleans of the shape of `x`. Where it is False `x` is 0. If `arrays` has no such entry
            it is made, and is False where `x` is NaN.
        beside: further arrays of the same examples, by name, which batches leave out: labels to
            colour a plot by.
        features: names of the columns of an argument.
        categories: names of the codes 0, 1, ... of an argument.
        name: what to call the data.
        split: which part of it this is.

    Attributes:
        arrays: the arguments by name; a lone array is ``x``, those of a tuple are ``0``, ``1``.
        beside, features, categories, name, split: as given.

    Raises:
        TypeError: not arrays of real numbers, or a mapping whose keys are not names of arguments.
        ValueError: no examples, or not as many in every array; NaN or infinities (without `mask`);
            a mask that does not fit `x`; not a name per column.

    Example:
        >>> data = ArrayData({"x": torch.rand(5, 3), "y": torch.arange(5)}, name="noise")
        >>> data
        ArrayData(noise, split=all, 5 examples of x (3,), y () int64)
        >>> {key: tuple(value.shape) for key, value in data.batch(slice(0, 2)).items()}
        {'x': (2, 3), 'y': (2,)}
    """

    def __init__(
        self,
        arrays: Any,  # noqa: ANN401
        *,
        mask: str | None = None,
        beside: Mapping[str, Any] | None = None,
        features: Mapping[str, Sequence[str]] | None = None,
        categories: Mapping[str, Sequence[Any]] | None = None,
        name: str = "arrays",
        split: str = "all",
    ) -> None:
        self.form, named = forms.named(arrays)
        a = "argument " if self.form is tuple else ""
        entries = {key: as_entry(a + key, value) for key, value in named.items()}
        if mask is not None:
            entries, self.form = forms.with_mask(entries, mask), dict
        for key, entry in entries.items():
            require_finite(a + key, entry)
        others = forms.beside_them(beside, entries)
        self.arrays = forms.on_one_device(entries)
        self.beside = forms.on_one_device(others, self.arrays)
        every = {**self.arrays, **self.beside}
        forms.require_one_length(every)
        self.features = forms.names_by_array("features", features)
        self.categories = forms.names_by_array("categories", categories)
        forms.require_names(self.features, self.categories, every)
        self.name, self.split = name, split

    @classmethod
    def from_dataframe(
        cls,
        frame: Any,  # noqa: ANN401
        *,
        mask: str | None = None,
        categories: Mapping[str, Sequence[Any]] | None = None,
        name: str = "table",
        split: str = "all",
        **arguments: Any,  # noqa: ANN401
    ) -> ArrayData:
        """Return columns of a pandas DataFrame; each keyword is an argument of the program.

        Its value is a column's name, which gives a tensor (n,), or a list of names, which gives
        (n, k), or None:

        * numbers become floats, except that a lone column of whole numbers stays so unless it is
          `x`: it holds labels or codes;
        * booleans, categories and strings become codes, whole numbers that count from 0 in the
          order of the categories, which `categories` then names. In `x` and in a list of columns
          booleans are numbers instead, and a list holds either numbers or categories.

        Args:
            frame: the table, one example a row.
            mask: the argument that says which entries of `x` are present, in the shape of `x`;
                where one is missing, `x` is 0 and the mask False. Without it missing values are
                refused.
            categories: of an argument, the categories in the order of their codes; so that another
                table is coded alike, pass the `categories` of the first. Else a categorical
                column's own, or the values that occur, sorted.
            name: what to call the data.
            split: which part of it this is.
            **arguments: columns.

        Raises:
            TypeError: not a DataFrame; columns of dates, of lists, or otherwise not of numbers,
                booleans, categories or strings; kinds that do not go into one tensor.
            ValueError: an unknown column (the nearest is suggested) or one of several of its name;
                missing or infinite values; no rows; a value that is none of the categories.

        Example:
            >>> import pandas as pd
            >>> frame = pd.DataFrame({"a": [1, 2], "b": [0.5, 1.5], "kind": ["red", "blue"]})
            >>> data = ArrayData.from_dataframe(frame, x=["a", "b"], y="kind")
            >>> data["x"].tolist(), data["y"].tolist(), data.categories["y"]
            ([[1.0, 0.5], [2.0, 1.5]], [1, 0], ('blue', 'red'))
        """
        from ppl_vae.data.arrays.frames import read_frame

        found = read_frame(frame, arguments, mask=mask, categories=categories or {})
        return cls(**found, mask=mask, name=name, split=split)

    @classmethod
    def from_anndata(
        cls,
        adata: Any,  # noqa: ANN401
        *,
        layer: str | None = None,
        use_raw: bool = False,
        library: str | None = None,
        batch: str | None = None,
        labels: str | Mapping[str, str] | None = None,
        name: str = "cells",
        split: str = "all",
    ) -> ArrayData:
        """Return the cells of an AnnData object, as arguments `x`, `library` and `batch`.

        Args:
            adata: the cells.
            layer: which layer is `x`, (cells, genes), if not ``adata.X``. Whole numbers become
                floats; a sparse matrix stays sparse in memory.
            use_raw: take `x` from ``adata.raw``.
            library: the column of ``obs`` with the total count of each cell, (cells,); None leaves
                it to the program.
            batch: the column of ``obs`` whose values become codes, (cells,); None likewise. To
                have training and test cells coded alike, split by `train_test_split` afterwards.
            labels: a column of ``obs``, which is kept beside the arguments as ``data["labels"]``
                and named by ``data.categories["labels"]``; or ``{"y": column}``, which makes it
                the argument `y` of the program.
            name: what to call the data.
            split: which part of it this is.

        Raises:
            TypeError: not an AnnData object, or a column of another kind.
            ValueError: an unknown layer or column (the nearest is suggested); both a layer and
                raw, or no such matrix; missing values.
        """
        from ppl_vae.data.arrays.cells import read_cells

        found = read_cells(
            adata, layer=layer, use_raw=use_raw, library=library, batch=batch, labels=labels
        )
        return cls(**found, name=name, split=split)
