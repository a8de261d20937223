"""Times as text: all rows must write them in one way, which decides their type."""

from __future__ import annotations

import polars as pl

from datasets.raw.table import RawTable
from datasets.raw.text import NANOSECOND_YEARS, time, without_missing
from files.errors import InputError

ZONE = r"(Z|[+-][0-9]{2}:?[0-9]{2})$"
CLOCK = r"^[0-9]{4}-[0-9]{2}-[0-9]{2}[T ][0-9]{2}:[0-9]{2}(:[0-9]{2}(\.[0-9]{1,9})?)?"
WRITTEN = {
    "integers": r"^[+-]?[0-9]+$",
    "numbers": r"^[+-]?[0-9]+\.[0-9]*$",
    "dates": r"^[0-9]{4}-[0-9]{2}-[0-9]{2}$",
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
NANOSECONDS = r"\.[0-9]{6}[0-9]*[1-9]"
EPOCH_LIKE, UNITS_APART = 1e8, 300
UNITS = {"s": 1, "ms": 10**3, "us": 10**6, "ns": 10**9}  # in a second
# Seconds at which these years begin.
IN_1971, IN_1975, IN_1993, IN_2200 = 31_536_000, 157_766_400, 725_846_400, 7_258_118_400
GAP = 10  # the year 1993 times this is 2200, so no log of one unit has such a gap


def time_facts(table: RawTable) -> tuple[pl.DataType | None, str | None]:
    """The type of the time column's text (None if it is no text), and an offset in it other than UTC.

    Raises InputError where times are written in several ways or in an unknown one, and where a time seems to
    stand for a missing one.
    """
    column = table.schema.time
    if column is None:
        return None, None
    if table.types[column] != pl.String:
        value = without_missing(pl.col(column), table.types[column], table.schema.missing)
        _check_range(table, column, value, table.types[column])
        return None, None
    value = table.cell(column)
    way = _way(table, column, value)
    if way is None:
        return pl.Int64(), None  # every time is missing, which staging refuses
    dtype = TYPES[way]
    if isinstance(dtype, pl.Datetime) and _any(table, value.str.contains(NANOSECONDS)):
        dtype = pl.Datetime("ns", dtype.time_zone)
    moment = time(value, dtype)
    impossible = value.is_not_null() & moment.is_null()
    if _any(table, impossible):
        place, held = table.example(column, impossible)
        what = "a number beyond 64 bits" if dtype.is_numeric() else "a day or time that does not exist"
        if isinstance(dtype, pl.Datetime) and dtype.time_unit == "ns":
            what += (
                f", or beyond the years {' to '.join(map(str, NANOSECOND_YEARS))} that nanoseconds can count"
            )
        raise InputError(f"{place}: column {column!r} holds {held!r}, {what}; mend it")
    _check_range(table, column, moment, dtype)
    return dtype, _offset(table, column, value) if way.endswith("zone") else None


def _any(table: RawTable, condition: pl.Expr) -> bool:
    return table.counts({"rows": condition})["rows"] > 0


def _way(table: RawTable, column: str, value: pl.Expr) -> str | None:
    """The way in ``WRITTEN`` in which all times are written; None where every time is missing."""
    counts = table.counts({name: value.str.contains(pattern) for name, pattern in WRITTEN.items()})
    known = pl.any_horizontal(value.str.contains(pattern) for pattern in WRITTEN.values())
    unknown = value.is_not_null() & ~known
    if _any(table, unknown):
        place, held = table.example(column, unknown)
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
            f"{ways[0]}; write all times in the same way"
        )
    return ways[0] if ways else None


def _offset(table: RawTable, column: str, value: pl.Expr) -> str | None:
    """The first offset other than UTC, as +08:00."""
    elsewhere = value.is_not_null() & ~value.str.contains(r"(Z|[+-]00:?00)$")
    if not _any(table, elsewhere):
        return None
    held = str(table.example(column, elsewhere)[1]).strip().replace(":", "")
    return f"{held[-5:-2]}:{held[-2:]}"


def _check_range(table: RawTable, column: str, value: pl.Expr, dtype: pl.DataType) -> None:
    if dtype == pl.Date or dtype == pl.Datetime:
        years = value.dt.year()
        groups = {
            "early": years <= 1970,
            "between": years.is_between(1971, 1974),
            "ordinary": years.is_between(1975, 2199),
            "late": years >= 2200,
        }
        _check_no_date_for_missing(table, column, groups)
    elif dtype.is_numeric():
        _check_numbers(table, column, value.cast(pl.Float64))


def _check_no_date_for_missing(table: RawTable, column: str, groups: dict[str, pl.Expr]) -> None:
    """A date such as 1970-01-01 or 9999-12-31 among ordinary ones stands for a missing time."""
    counts = table.counts(groups)
    wrong = "late" if counts["late"] else "early" if counts["early"] and not counts["between"] else None
    if wrong and counts["ordinary"]:
        place, held = table.example(column, groups[wrong])
        raise InputError(
            f"{place}: column {column!r} holds the time {held}, far from all others, as if it stood for a "
            "missing time; drop the row or give it a time"
        )


def _check_numbers(table: RawTable, column: str, value: pl.Expr) -> None:
    """Numbers are of one unit, and none stands for a missing time."""
    range_ = table.frame.select(value.min().alias("low"), value.max().alias("high"))
    low, high = range_.collect(engine="streaming").row(0)
    if low is None or not low < high or high < EPOCH_LIKE:
        return
    # Of a log of one unit, this is all: its times lie too close together for what follows.
    if high >= UNITS_APART * max(low, 1.0):
        _check_one_unit(table, column, value, low, high)
    if high >= GAP * max(low, 1.0):
        _check_no_gap(table, column, value, high)
    second = UNITS.get(table.schema.time_unit or "")
    if second is not None and (low < IN_1971 * second or high >= IN_2200 * second):
        since = value / second
        groups = {
            "early": since < IN_1971,
            "between": (since >= IN_1971) & (since < IN_1975),
            "ordinary": (since >= IN_1975) & (since < IN_2200),
            "late": since >= IN_2200,
        }
        _check_no_date_for_missing(table, column, groups)


def _check_one_unit(table: RawTable, column: str, value: pl.Expr, low: float, high: float) -> None:
    """Refuses seconds mixed with milliseconds, which would put one file's rows after all others."""
    between = value.is_between(max(low, 1.0) * 10, high / 10)
    if table.counts({"between": between})["between"] == 0:
        raise _two_units(table, column, value > high / 10, value < max(low, 1.0) * 10)


def _check_no_gap(table: RawTable, column: str, value: pl.Expr, high: float) -> None:
    """Refuses the highest unit of several, and a number such as 253402300799 (9999-12-31) among seconds.

    Below the gap, all times above 10 must lie in 1993 to 2199 in some unit: those of another clock, which
    begins with the log, do not. Above it lies one number that is repeated, or lie times of another unit.
    """
    rest, top = value <= high / GAP, value > high / GAP
    found = table.frame.select(
        value.filter(rest).max().alias("below"),
        value.filter(top).min().alias("above"),
        (rest & (value > 10) & ~_since_1970(value, IN_1993)).sum().alias("others"),
    )
    below, above, others = found.collect(engine="streaming").row(0)
    if below is None or below <= 10 or above < GAP * below or others:
        return
    if above == high or pl.select(_since_1970(pl.lit(above), IN_1975)).item():
        raise _two_units(table, column, top, rest & (value > 10))


def _since_1970(value: pl.Expr, first: int) -> pl.Expr:
    """Whether it is a time from the second ``first`` up to 2199 in some unit."""
    return pl.any_horizontal((value >= first * unit) & (value < IN_2200 * unit) for unit in UNITS.values())


def _two_units(table: RawTable, column: str, one: pl.Expr, other: pl.Expr) -> InputError:
    place, held = table.example(column, one)
    second_place, small = table.example(column, other)
    return InputError(
        f"{place}: column {column!r} holds the time {held}, but {second_place} holds {small}: the unit "
        "differs, or a number stands for a missing time; write all times in one unit"
    )
