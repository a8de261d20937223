"""Times that are text: one way of writing them in all rows, and which type they then have."""

from __future__ import annotations

from typing import TYPE_CHECKING

import polars as pl

from datasets.errors import InputError
from datasets.text import time

if TYPE_CHECKING:
    from datasets.tables.facts import RawTable

ZONE = r"(Z|[+-]\d\d:?\d\d)$"
CLOCK = r"^\d{4}-\d\d-\d\d[T ]\d\d:\d\d(:\d\d(\.\d{1,9})?)?"
WRITTEN = {
    "integers": r"^[+-]?\d+$",
    "numbers": r"^[+-]?\d+\.\d*$",
    "dates": r"^\d{4}-\d\d-\d\d$",
    "dates and times": CLOCK + "$",
    "dates and times with a zone": CLOCK + r" ?" + ZONE,
}
TYPES: dict[str, pl.DataType] = {
    "integers": pl.Int64(),
    "numbers": pl.Float64(),
    "dates": pl.Date(),
    "dates and times": pl.Datetime("us"),
    "dates and times with a zone": pl.Datetime("us", "UTC"),
}
EPOCH_LIKE, UNITS_APART = 1e8, 300


def time_facts(table: RawTable) -> tuple[pl.DataType | None, str | None]:
    """The type of the time column's text, and an offset other than UTC that it carries; None of no text.

    Raises InputError where rows write times in several ways, or in none that can be read.
    """
    column = table.schema.time
    if column is None:
        return None, None
    if table.types[column] != pl.String:
        _check_one_unit(table, column, pl.col(column))
        return None, None
    value = table.cell(column)
    counts = table.counts({name: value.str.contains(pattern) for name, pattern in WRITTEN.items()})
    total = table.counts({"all": value.is_not_null()})["all"]
    if sum(counts.values()) < total:
        known = pl.any_horizontal(value.str.contains(pattern) for pattern in WRITTEN.values())
        place, held = table.example(column, value.is_not_null() & ~known)
        raise InputError(
            f"{place}: column {column!r} holds {held!r}, which is not in ISO form; write times such "
            "as 2022-05-31 or 2022-05-31T10:00:00+08:00, or numbers"
        )
    ways = [name for name, count in counts.items() if count]
    if ways == ["integers", "numbers"]:
        ways = ["numbers"]
    if len(ways) > 1:
        place, held = table.example(column, value.str.contains(WRITTEN[ways[1]]))
        first, _ = table.example(column, value.str.contains(WRITTEN[ways[0]]))
        raise InputError(
            f"{place}: column {column!r} holds {held!r}, one of {ways[1]}, but {first} holds one of "
            f"{ways[0]}; write all times alike"
        )
    if not ways:
        return pl.Int64(), None  # every time is missing, which staging refuses
    dtype, zone = TYPES[ways[0]], None
    if dtype.is_numeric():
        _check_one_unit(table, column, value.cast(dtype, strict=False))
        return dtype, zone
    impossible = value.is_not_null() & time(value, dtype).is_null()
    if table.counts({"impossible": impossible})["impossible"]:
        place, held = table.example(column, impossible)
        raise InputError(
            f"{place}: column {column!r} holds {held!r}, a day or time that does not exist; mend it"
        )
    if ways[0].endswith("zone"):
        elsewhere = value.is_not_null() & ~value.str.contains(r"(Z|[+-]00:?00)$")
        if table.counts({"elsewhere": elsewhere})["elsewhere"]:
            zone = str(table.example(column, elsewhere)[1])[-6:].strip()
    return dtype, zone


def _check_one_unit(table: RawTable, column: str, value: pl.Expr) -> None:
    """Numbers of seconds beside numbers of milliseconds would put one file behind all others."""
    dtype = table.types[column]
    if not (dtype.is_numeric() or dtype == pl.String):
        return
    value = value.cast(pl.Float64)
    range_ = table.frame.select(value.min().alias("low"), value.max().alias("high"))
    low, high = range_.collect(engine="streaming").row(0)
    if low is None or not low < high or high < EPOCH_LIKE or high < UNITS_APART * max(low, 1.0):
        return
    between = value.is_between(max(low, 1.0) * 10, high / 10)
    if table.counts({"between": between})["between"] == 0:
        place, held = table.example(column, value > high / 10)
        other, small = table.example(column, value < max(low, 1.0) * 10)
        raise InputError(
            f"{place}: column {column!r} holds the time {held}, but {other} holds {small}: the unit differs, "
            "or a number stands for a missing time; write all times in one unit"
        )
