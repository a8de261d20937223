"""Vector features: lists of a fixed number of numbers, from the raw column to normalised float32.

A vector is missing where its list is null or empty or holds no number at all; it is then zeros, which
after normalisation is the mean. Any other list must hold exactly ``length`` finite numbers.
"""

from __future__ import annotations

import numpy as np
import polars as pl
import pyarrow as pa

from datasets.raw.text import TextFacts, cell, elements, inner, number, without_missing
from datasets.schema import Feature, Schema
from files.errors import InputError


def vector_column(
    feature: Feature, dtype: pl.DataType, where: str, missing: list[str] | None, text: TextFacts | None
) -> pl.Expr:
    """The raw column as lists of float64, null where the vector is missing; lengths are not yet checked.

    Raises InputError, which starts with ``where``, if the column holds no lists of numbers.
    """
    values = pl.col(feature.source_column)
    if isinstance(dtype, pl.List | pl.Array):
        element = inner(dtype)
        values = values.cast(pl.List(element))
    elif dtype == pl.String and text is not None:
        element = pl.String()
        values = elements(cell(values, missing), text.lists[feature.name], feature.separator)
    else:
        element = dtype
    if element == pl.String and text is not None:
        values = values.list.eval(number(cell(pl.element(), missing)))
    elif element is dtype or not (element.is_numeric() or element == pl.Null):
        raise InputError(
            f"{where}: feature {feature.name!r} (vector): column {feature.source_column!r} holds {dtype}, "
            "not lists of numbers; choose another column or kind"
        )
    elif missing:
        values = values.list.eval(without_missing(pl.element(), element, missing))
    values = values.cast(pl.List(pl.Float64)).list.eval(pl.element().fill_nan(None))
    return pl.when(values.list.drop_nulls().list.len() > 0).then(values)


def check_vectors(schema: Schema, staged: pl.DataFrame, start: int, where: str) -> None:
    """InputError on the first vector with a wrong length or with a component that is no finite number.

    ``start`` is the number of the table's first row.
    """
    for feature in schema.vector_features:
        lists = staged[feature.name]
        what = f"{where}: feature {feature.name!r} (vector): column {feature.source_column!r}"
        lengths = lists.list.len()
        if (row := _first_true(lengths != feature.length)) is not None:
            raise InputError(
                f"{what} holds a list of {lengths[row]} in row {start + row} (counted from 0), not of "
                f"length {feature.length}; mend the list or the schema's length"
            )
        is_number = pl.element().cast(pl.Float32, strict=False).is_finite().fill_null(False)
        if (row := _first_true(~lists.list.eval(is_number).list.all())) is not None:
            raise InputError(
                f"{what} lacks a number or holds one too large in row {start + row} (counted from 0); "
                "mend the list, or empty it where the whole vector is missing"
            )


def _first_true(rows: pl.Series) -> int | None:
    """The index of the first true row, or None."""
    found = rows.fill_null(False).arg_true()
    return found[0] if len(found) else None


def present_rows(feature: Feature, staged: pl.Series) -> np.ndarray:
    """The vectors that are not missing, in order: (present rows, length) float64, log1p where it applies."""
    values = staged.drop_nulls().explode().rename(feature.name).to_frame()
    return values.select(transformed(feature)).to_series().to_numpy().reshape(-1, feature.length or 1)


def transformed(feature: Feature) -> pl.Expr:
    """The numbers of a feature before standardisation; log1p keeps the sign of negative numbers."""
    value = pl.col(feature.name)
    return value.sign() * value.abs().log1p() if feature.normalization == "log1p" else value


def as_array(rows: np.ndarray) -> pa.FixedSizeListArray:
    """(R, length) float32 as a column of a shard."""
    kind = pa.list_(pa.field("item", pa.float32(), nullable=False), rows.shape[1])
    return pa.FixedSizeListArray.from_arrays(pa.array(rows.ravel()), type=kind)
