"""Which split a row belongs to, as a polars expression over the staged table."""

from __future__ import annotations

from datetime import datetime

import polars as pl

from datasets.errors import InputError
from datasets.prepare_order import TimeOrder
from datasets.schema import ColumnSplit, FractionSplit, Schema, TimeSplit

SPLITS = ("train", "valid", "test")


def given_bounds(schema: Schema, time_type: pl.DataType | None) -> tuple | None:
    """The bounds of a split by time as the numbers behind the time column; None for other splits.

    Raises InputError where a bound does not fit the column's type, or the bounds are out of order.
    """
    split = schema.split
    if not isinstance(split, TimeSplit) or time_type is None:
        return None
    valid, test = (
        _bound(getattr(split, field), time_type, f"dataset {schema.name!r}: split.{field}")
        for field in ("valid_from", "test_from")
    )
    if valid >= test:
        raise InputError(
            f"dataset {schema.name!r}: split.test_from ({split.test_from}) must come after "
            f"valid_from ({split.valid_from}); mend the bounds"
        )
    return valid, test


def _bound(value: float | str, dtype: pl.DataType, field: str) -> int | float:
    temporal = dtype.is_temporal()
    if temporal != isinstance(value, str):
        wanted = 'a quoted ISO date such as "2022-05-02"' if temporal else "a number in the column's unit"
        raise InputError(f"{field} is {value!r}, but the time column holds {dtype}; give {wanted}")
    if not isinstance(value, str):
        return value
    try:
        moment = datetime.fromisoformat(value)
    except ValueError:
        raise InputError(
            f'{field} is {value!r}, which is no ISO date; write it as "2022-05-02T00:00:00"'
        ) from None
    zone = getattr(dtype, "time_zone", None)
    if moment.tzinfo is not None and zone is None:
        raise InputError(f"{field} names a time zone, which the time column lacks; leave it out")
    bound = pl.Series([moment])
    if zone is not None:
        bound = (
            bound.dt.replace_time_zone(zone) if moment.tzinfo is None else bound.dt.convert_time_zone(zone)
        )
    return bound.cast(dtype).to_physical()[0]


def split_code(schema: Schema, bounds: tuple | None, order: TimeOrder) -> pl.Expr:
    """0 for training rows, 1 for validation, 2 for test, over a staged table."""
    if isinstance(schema.split, ColumnSplit):
        names = [schema.split.train, schema.split.valid, schema.split.test]
        return pl.col("@split").replace_strict(names, [0, 1, 2], return_dtype=pl.Int8)
    if isinstance(schema.split, FractionSplit):
        bounds = fraction_bounds(schema.split, order)
    assert bounds is not None, "a split by time has bounds"
    valid, test = bounds
    return (pl.col("@time") >= valid).cast(pl.Int8) + (pl.col("@time") >= test).cast(pl.Int8)


def fraction_bounds(split: FractionSplit, order: TimeOrder) -> tuple[int | float, int | float]:
    """Times of the first row to validate and the first row to test.

    Rows that share the time at a bound all go to the later split.
    """
    test = round(order.num_rows * split.test)
    valid = round(order.num_rows * split.valid)
    last = order.num_rows - 1
    return order.time_at(min(order.num_rows - test - valid, last)), order.time_at(
        min(order.num_rows - test, last)
    )
