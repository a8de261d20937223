"""Floats of 16 and 32 bits as the numbers that they print: 4.1 rather than 4.099999904632568.

A table that was written with fewer bits then has the categories, labels and missing values of the same table
as text or as float64.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from functools import cache

import numpy as np
import polars as pl

from datasets.raw.text import NUMBER

_NUMPY: dict[type[pl.DataType], type[np.floating]] = {pl.Float16: np.float16, pl.Float32: np.float32}


def is_narrow(dtype: pl.DataType) -> bool:
    return type(dtype) in _NUMPY


def widened(value: pl.Expr, dtype: pl.DataType, is_plain: bool, missing: Sequence[str] | None) -> pl.Expr:
    """A narrow float as Float64, null where it is one of the ``missing`` words.

    ``is_plain``: only a model reads it, for which the nearest number will do; it is the faster one.
    """
    value = _without_missing(value, dtype, missing)
    if is_plain:
        return value.cast(pl.Float64)
    if dtype == pl.Float16:  # polars prints it as a float32
        return value.map_batches(_of_halves, return_dtype=pl.Float64(), is_elementwise=True)
    return value.cast(pl.String).cast(pl.Float64)


def _without_missing(value: pl.Expr, dtype: pl.DataType, missing: Sequence[str] | None) -> pl.Expr:
    """Null where the value is what a word becomes in this type, and the word prints it, short or in full."""
    kept = value
    for word in missing or []:
        if not re.match(NUMBER, word):
            continue
        with np.errstate(over="ignore"):
            narrow = _NUMPY[type(dtype)](float(word))
        if float(word) in (float(narrow), float(str(narrow))):
            kept = pl.when(value != pl.lit(float(narrow), dtype)).then(kept)
    return kept


def _of_halves(values: pl.Series) -> pl.Series:
    bits = values.fill_null(0.0).to_numpy().view(np.uint16)
    return pl.Series(values.name, _halves()[bits], pl.Float64).set(values.is_null(), None)


@cache
def _halves() -> np.ndarray:
    """The shortest decimal of every float16, by its bits: (65536,) float64."""
    return np.array([float(str(half)) for half in np.arange(1 << 16, dtype=np.uint16).view(np.float16)])
