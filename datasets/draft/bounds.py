"""Bounds of a split by time: midnights near the 80 % and 90 % quantiles, or the moments themselves."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import UTC, date, datetime, timedelta

import polars as pl

from datasets.draft.profile import EPOCHS, Column, typed_values

TRAIN, VALID = 0.8, 0.9
LEAST_SHARE = 0.02  # of the rows, in validation and in test; training needs ten times that
MOST_TIMES = 50_000_000  # with more, quantiles come from the sample
EPOCH = datetime(1970, 1, 1, tzinfo=UTC)


@dataclass(frozen=True)
class TimeBounds:
    """The two bounds as a schema states them, and the shares of rows that they make."""

    valid_from: str | int | float
    test_from: str | int | float
    shares: tuple[float, float, float]


def bounds(frame: pl.LazyFrame, column: Column) -> TimeBounds | None:
    """The roundest bounds among days, minutes and exact times; None where too few times differ."""
    if column.rows <= MOST_TIMES:
        times = frame.select(typed_values(column).alias("t")).collect(engine="streaming")["t"].sort()
    else:
        times = column.sample.drop_nulls().sort()
    if not len(times):
        return None
    at = [times[min(int(len(times) * share), len(times) - 1)] for share in (TRAIN, VALID)]
    for candidate in _candidates(column, at):
        shares = _shares(times, [_as_value(bound, column) for bound in candidate])
        if shares[0] >= 10 * LEAST_SHARE and min(shares) >= LEAST_SHARE:
            return TimeBounds(_as_written(candidate[0], column), _as_written(candidate[1], column), shares)
    return None


def training_rows(column: Column, found: TimeBounds) -> pl.Expr:
    """Whether a row of the raw table is before validation."""
    bound: object = found.valid_from
    if isinstance(bound, str):
        moment = datetime.fromisoformat(bound)
        bound = _as_value(moment if moment.tzinfo else moment.replace(tzinfo=UTC), column)
    return typed_values(column) < pl.lit(bound)


def _candidates(column: Column, at: list) -> list[list]:
    """Pairs of bounds, the roundest first."""
    if column.form != "time" and column.unit is None:
        return [at]
    moments = [_moment(value, column) for value in at]
    days = [moment.replace(hour=0, minute=0, second=0, microsecond=0) for moment in moments]
    day = timedelta(days=1)
    by_day = [[days[0] + a * day, days[1] + b * day] for a, b in ((0, 0), (0, 1), (1, 1))]
    by_day.sort(key=lambda pair: abs(pair[0] - moments[0]) + abs(pair[1] - moments[1]))
    minutes = [moment.replace(second=0, microsecond=0) for moment in moments]
    seconds = [moment.replace(microsecond=0) for moment in moments]
    return [pair for pair in (*by_day, minutes, seconds) if pair[0] < pair[1]]


def _moment(value: object, column: Column) -> datetime:
    """A time as a datetime; one without a zone, as UTC, is returned unchanged in the end."""
    if isinstance(value, datetime):
        return value.astimezone(UTC) if value.tzinfo else value.replace(tzinfo=UTC)
    if isinstance(value, date):
        return datetime(value.year, value.month, value.day, tzinfo=UTC)
    assert column.unit is not None, "a number is a moment by its unit"
    return EPOCH + timedelta(seconds=float(value) / EPOCHS[column.unit])  # type: ignore[arg-type]


def _as_value(bound: object, column: Column) -> object:
    """A bound as a value of the column."""
    if not isinstance(bound, datetime):
        return bound
    if column.unit is not None:
        return (bound - EPOCH) / timedelta(seconds=1) * EPOCHS[column.unit]
    if column.time_type == pl.Date():
        return bound.date()
    return bound if getattr(column.time_type, "time_zone", None) else bound.replace(tzinfo=None)


def _shares(times: pl.Series, values: list) -> tuple[float, float, float]:
    valid, test = (float((times < value).sum()) / len(times) for value in values)
    return valid, test - valid, 1 - test


def _as_written(bound: object, column: Column) -> str | int | float:
    if not isinstance(bound, datetime):
        assert isinstance(bound, int | float), "a time without a unit is a number"
        return int(bound) if float(bound).is_integer() else float(bound)
    has_zone = getattr(column.time_type, "time_zone", None) is not None
    if column.time_type == pl.Date() or (bound.time() == datetime.min.time() and not has_zone):
        return bound.date().isoformat()
    return bound.isoformat() if has_zone else bound.replace(tzinfo=None).isoformat()
