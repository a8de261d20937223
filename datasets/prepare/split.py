"""Which split a row belongs to, as a polars expression over the staged table."""

from __future__ import annotations

import re
from datetime import UTC, datetime, timedelta
from pathlib import Path

import polars as pl
import pyarrow.parquet as pq

from datasets.prepare.order import time_at
from datasets.raw.text import TextFacts
from datasets.schema import ColumnSplit, FractionSplit, Schema, TimeSplit
from files.errors import InputError

SPLITS = ("train", "valid", "test")


Bounds = tuple[int | float, int | float]
NANOSECONDS = re.compile(r"[.,][0-9]{6}[0-9]*[1-9]")  # fromisoformat cuts them off
UNITS = {"s": 1, "ms": 10**3, "us": 10**6, "ns": 10**9}  # in a second


def given_bounds(
    schema: Schema, time_type: pl.DataType | None, text: TextFacts | None = None
) -> tuple[Bounds | None, str]:
    """The bounds of a split by time, as numbers like the time column's, and the clock that they follow.

    The bounds are None for other splits; the clock is "" where there is no choice. Raises InputError where a
    bound does not fit the column's type, is finer than a microsecond, does not exist, or has no zone although
    the times have offsets, and where the bounds are out of order.
    """
    split = schema.split
    if not isinstance(split, TimeSplit) or time_type is None:
        return None, ""
    valid, test = (
        _bound(schema, getattr(split, field), time_type, f"dataset {schema.name!r}: split.{field}", text)
        for field in ("valid_from", "test_from")
    )
    if valid >= test:
        raise InputError(
            f"dataset {schema.name!r}: split.test_from ({split.test_from}) must come after "
            f"valid_from ({split.valid_from}); mend the bounds"
        )
    zone = "UTC" if schema.time_unit else getattr(time_type, "time_zone", None)
    bare = [bound for bound in (split.valid_from, split.test_from) if not _names_zone(bound)]
    return (valid, test), f"{' and '.join(map(str, bare))} by the clock of {zone}" if zone and bare else ""


def _names_zone(bound: float | str) -> bool:
    return isinstance(bound, str) and datetime.fromisoformat(bound).tzinfo is not None


def _bound(
    schema: Schema, value: float | str, dtype: pl.DataType, field: str, text: TextFacts | None
) -> int | float:
    wants_date = dtype.is_temporal() or (schema.time_unit is not None and isinstance(value, str))
    if wants_date != isinstance(value, str):
        wanted = 'a quoted ISO date such as "2022-05-02"' if dtype.is_temporal() else _wanted_number(value)
        raise InputError(f"{field} is {value!r}, but the time column holds {dtype}; give {wanted}")
    if not isinstance(value, str):
        return value
    try:
        moment = datetime.fromisoformat(value)
    except ValueError:
        raise InputError(
            f'{field} is {value!r}, which is no ISO date; write it as "2022-05-02T00:00:00"'
        ) from None
    if NANOSECONDS.search(value):
        raise InputError(f"{field} is {value!r}, but bounds are read to the microsecond; round the bound")
    if schema.time_unit is not None and not dtype.is_temporal():
        since = (moment if moment.tzinfo else moment.replace(tzinfo=UTC)) - datetime(1970, 1, 1, tzinfo=UTC)
        whole, rest = divmod(since // timedelta(microseconds=1) * UNITS[schema.time_unit], 10**6)
        if rest and not dtype.is_float():
            raise _too_fine(field, value, f"integers of {schema.time_unit}")
        return whole + rest / 10**6 if rest else whole
    zone = getattr(dtype, "time_zone", None)
    if moment.tzinfo is not None and zone is None:
        raise InputError(f"{field} names a time zone, which the time column lacks; leave it out")
    if moment.tzinfo is None and text is not None and text.time_offset is not None:
        raise InputError(
            f"{field} is {value!r} without a zone, but times carry one ({text.time_offset}); write it as "
            f'"{moment.isoformat()}{text.time_offset}" if that clock is meant'
        )
    exact = _in_zone(moment, zone, field)
    try:
        bound = exact.cast(dtype)
    except pl.exceptions.PolarsError:
        raise InputError(f"{field} is {value!r}, beyond what the time column's {dtype} can hold") from None
    if bound.cast(exact.dtype)[0] != exact[0]:
        raise _too_fine(field, value, str(dtype))
    return bound.to_physical()[0]


def _too_fine(field: str, value: str, held: str) -> InputError:
    return InputError(f"{field} is {value!r}, but the time column holds {held}, less fine; round the bound")


def _wanted_number(value: object) -> str:
    hint = " (or say time_unit: s, ms, us or ns, and it may be a date)" if isinstance(value, str) else ""
    return f"a number in the column's unit{hint}"


def _in_zone(moment: datetime, zone: str | None, field: str) -> pl.Series:
    bound = pl.Series([moment])
    if zone is None:
        return bound
    if moment.tzinfo is not None:
        return bound.dt.convert_time_zone(zone)
    try:
        return bound.dt.replace_time_zone(zone)
    except pl.exceptions.PolarsError:
        raise InputError(
            f"{field} is {moment.isoformat()}, which the clock of {zone} skips or shows twice; name the "
            'offset, as in "2024-03-10T02:30:00-05:00"'
        ) from None


def split_code(schema: Schema, bounds: tuple | None, runs: list[Path]) -> pl.Expr:
    """0 for training rows, 1 for validation, 2 for test, over a staged table, which is sorted in ``runs``."""
    if isinstance(schema.split, ColumnSplit):
        names, split = schema.split, pl.col("@split")  # another name was refused when it was staged
        training = pl.when(split == names.train).then(0)
        return training.when(split == names.valid).then(1).when(split == names.test).then(2).cast(pl.Int8)
    if isinstance(schema.split, FractionSplit):
        bounds = fraction_bounds(schema.split, runs)
    assert bounds is not None, "a split by time has bounds"
    valid, test = bounds
    return (pl.col("@time") >= valid).cast(pl.Int8) + (pl.col("@time") >= test).cast(pl.Int8)


def fraction_bounds(split: FractionSplit, runs: list[Path]) -> tuple[int | float, int | float]:
    """Times of the first row to validate and the first row to test.

    Rows that share the time at a bound all go to the later split.
    """
    rows = sum(pq.read_metadata(run).num_rows for run in runs)
    test, valid = round(rows * split.test), round(rows * split.valid)
    return time_at(runs, min(rows - test - valid, rows - 1)), time_at(runs, min(rows - test, rows - 1))
