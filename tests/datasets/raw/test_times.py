"""Times as text and as numbers: one way of writing them, one unit, and bounds that fit."""

from __future__ import annotations

import datetime as dt

import numpy as np
import polars as pl
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from datasets.raw.table import RawTable
from datasets.raw.times import time_facts
from datasets.schema import Schema
from tests.datasets.raw.conftest import BY_TIME, SCHEMA, columns, read, text

DAYS = [f"2024-03-0{day}" for day in range(1, 7)]
EPOCHS = [str(1709251200 + 86400 * day) for day in range(6)]
NOON = [dt.datetime(2024, 3, day, 12) for day in range(1, 7)]


def put(folder, times: list) -> None:
    (folder / "t.csv").write_text(text(columns(at=times)))


@pytest.mark.parametrize(
    "times",
    [
        [f"{day} 12:00:00" for day in DAYS],
        [f"{day}T12:00" for day in DAYS],
        [f"{day}T12:00:00.000" for day in DAYS],
        [f"{day}T12:00:00Z" for day in DAYS],
        [f"{day} 12:00:00 +0000" for day in DAYS],
    ],
)
def test_iso_times_are_read_as_written(tmp_path, times):
    put(tmp_path, times)
    assert [time.replace(tzinfo=None) for time in read(tmp_path, **BY_TIME)[0]["time"]] == NOON


def test_dates_epochs_and_offsets_are_compared_by_their_clock(tmp_path):
    put(tmp_path, DAYS)
    assert read(tmp_path, **BY_TIME)[0]["time"] == [dt.date(2024, 3, day) for day in range(1, 7)]
    (tmp_path / "prepared").rename(tmp_path / "dates")
    put(tmp_path, EPOCHS)
    assert read(tmp_path, **BY_TIME, time_unit="s")[0]["time"] == [int(time) for time in EPOCHS]


def test_nanoseconds_keep_rows_in_order(tmp_path):
    put(tmp_path, [f"2024-03-01 00:00:00.12345678{digit}" for digit in (6, 5, 4, 3, 2, 1)])
    found = read(tmp_path, time="at")[0]  # the split is a column's: train, train, train, train, valid, test
    assert found["item"][:4] == [1, 3, 2, 1]


@pytest.mark.parametrize(
    ("times", "words"),
    [
        (
            ["03/01/2024", *DAYS[1:]],
            "t.csv: line 2: column 'at' holds '03/01/2024', which is not in ISO form",
        ),
        (["2024-03-01 01:00 PM"] * 6, "which is not in ISO form"),
        (["\uff11"] * 6, "which is not in ISO form"),
        (["1.7E+09", *EPOCHS[1:]], "which is not in ISO form"),
        (
            [*DAYS[:5], "2024-03-06 00:00:00"],
            "line 7: column 'at' holds '2024-03-06 00:00:00', one of dates and",
        ),
        ([*DAYS[:5], "1709251200"], "write all times in the same way"),
        (
            [*DAYS[:5], "2024-02-30"],
            "line 7: column 'at' holds '2024-02-30', a day or time that does not exist",
        ),
        (
            ["0000-00-00", *DAYS[1:]],
            "line 2: column 'at' holds '0000-00-00', a day or time that does not exist",
        ),
        (["99999999999999999999", *EPOCHS[1:]], "holds '99999999999999999999', a number beyond 64 bits"),
        (["0", *EPOCHS[1:]], "line 2 holds 0: the unit differs, or a number stands for a missing time"),
        ([*EPOCHS[:5], EPOCHS[5] + "000"], "the unit differs"),
        (["1970-01-01", *DAYS[1:]], "line 2: column 'at' holds the time 1970-01-01, far from all others"),
        ([*DAYS[:5], "9999-12-31"], "line 7: column 'at' holds the time 9999-12-31, far from all others"),
        (["", *DAYS[1:]], "time: column 'at' is empty in row 0"),
    ],
)
def test_times_that_cannot_be_compared_are_refused_with_their_line(refusal, tmp_path, times, words):
    put(tmp_path, times)
    assert words in refusal(time="at")


@pytest.mark.parametrize("year", ["0001", "1500", "1677", "2262", "2600", "9999"])
@pytest.mark.parametrize("zone", ["", "Z"])
def test_a_year_beyond_64_bits_of_nanoseconds_is_refused(refusal, tmp_path, year, zone):
    """2**63 nanoseconds are 292 years."""
    fine = [f"2024-03-01 00:00:00.00000000{row}{zone}" for row in range(1, 6)]
    put(tmp_path, [*fine, f"{year}-06-01 00:00:00{zone}"])
    message = refusal(time="at")
    assert f"line 7: column 'at' holds '{year}-06-01 00:00:00{zone}', a day or time that" in message
    assert "beyond the years 1678 to 2261" in message


def test_a_timestamp_that_marks_a_missing_time_is_refused_in_parquet_too(refusal, tmp_path):
    times = pa.array([0, *(int(time) for time in EPOCHS[1:])], pa.timestamp("s"))
    pq.write_table(pa.table(columns() | {"at": times}), tmp_path / "t.parquet")
    assert "row 0 (counted from 0): column 'at' holds the time 1970-01-01 00:00:00, far from" in refusal(
        time="at"
    )


SECOND = 1_709_596_800  # in March 2024
UNITS = {"s": 1, "ms": 10**3, "us": 10**6, "ns": 10**9}
MIXED = "the unit differs, or a number stands for a missing time"
FAR = "far from all others, as if it stood for a missing time"


def accept(times: np.ndarray, **changes: object) -> None:
    """Raises InputError unless these times of a table of one file are accepted."""
    schema = Schema.model_validate(SCHEMA | {"time": "at"} | changes)
    rows = pl.DataFrame({"at": times})
    time_facts(RawTable(schema, [], rows.lazy(), dict(rows.schema), []))


@pytest.mark.parametrize(
    ("times", "unit", "words"),
    [
        ([SECOND, SECOND + 60, SECOND * 10**3, SECOND * 10**3 + 1, SECOND * 10**6, 7], None, MIXED),
        ([SECOND, SECOND + 60, SECOND * 10**3, SECOND * 10**3 + 1, SECOND * 10**6, -1], None, MIXED),
        ([SECOND, SECOND + 60, SECOND * 10**3, SECOND * 10**3 + 1, SECOND * 10**6, SECOND], "s", MIXED),
        ([0, SECOND, SECOND + 60, SECOND * 10**3, SECOND * 10**3 + 1, SECOND], None, MIXED),
        ([*range(SECOND, SECOND + 5), 253_402_300_799], None, MIXED),
        ([*range(SECOND, SECOND + 4), 32_503_680_000, 253_402_300_799], "s", FAR),
        ([0, 86_400, *range(SECOND, SECOND + 4)], "s", FAR),
        ([*(1000 * SECOND + row for row in range(5)), 253_402_300_799_000], None, MIXED),
        ([*(1000 * SECOND + row for row in range(5)), 9_000_000_000_000], "ms", FAR),
    ],
)
def test_numbers_of_several_units_or_for_a_missing_time_are_refused(refusal, tmp_path, times, unit, words):
    put(tmp_path, times)
    assert words in refusal(time="at", time_unit=unit)


@pytest.mark.parametrize("unit", UNITS)
@pytest.mark.parametrize("days", [30, 365, 3650])
@pytest.mark.parametrize("rows", [7, 2000])
def test_a_log_of_one_unit_raises_no_alarm(unit, days, rows):
    rng = np.random.default_rng(days + rows)
    moments = SECOND - 86_400 * days + np.sort(rng.uniform(0, 86_400 * days, rows))
    for seconds in (moments, np.concatenate((moments[: rows // 3], moments[-rows // 3 :]))):
        times = (seconds * UNITS[unit]).astype(np.int64)
        accept(times)
        accept(times, time_unit=unit)


@pytest.mark.parametrize("unit", UNITS)
@pytest.mark.parametrize("days", [30, 365, 3650])
def test_a_clock_that_begins_with_the_log_raises_no_alarm(unit, days):
    end, rng = 86_400 * days, np.random.default_rng(days)
    trial = np.concatenate((np.arange(0, 3600, 10.0), rng.uniform(end / 10, end, 2000)))
    for seconds in (rng.uniform(0, end, 2000), trial):
        accept((np.sort(seconds) * UNITS[unit]).astype(np.int64))


@pytest.mark.parametrize(
    ("times", "valid_from", "more", "words"),
    [
        (["20240301"] * 6, "2024-03-05", {}, "the time column holds Int64; give a number"),
        (DAYS, "2024-03-05T12:00:00", {}, "the time column holds Date, less fine; round the bound"),
        (EPOCHS, "2024-03-05T00:00:00.5", {"time_unit": "s"}, "holds integers of s, less fine; round"),
        (DAYS, "2024-03-05T00:00:00.000000001", {}, "bounds are read to the microsecond; round the bound"),
        (EPOCHS, "2024-03-05T00:00:00,0000000010", {"time_unit": "ns"}, "to the microsecond; round"),
        (DAYS, 5, {}, "give a quoted ISO date"),
        (DAYS, "2024-02-30", {}, "which is no ISO date"),
        (DAYS, "2024-03-05T00:00:00+08:00", {}, "names a time zone, which the time column lacks"),
        (
            [f"{day}T12:00:00+0800" for day in DAYS], "2024-03-05", {},
            'times carry one (+08:00); write it as "2024-03-05T00:00:00+08:00"',
        ),
    ],
)  # fmt: skip
def test_a_bound_that_does_not_fit_the_times_is_refused(refusal, tmp_path, times, valid_from, more, words):
    put(tmp_path, times)
    split = {"by": "time", "valid_from": valid_from, "test_from": "2024-03-06"}
    if valid_from == 5:
        split["test_from"] = 6
    message = refusal(time="at", split=split, **more)
    assert "split.valid_from" in message
    assert words in message


def test_zeros_beyond_the_microsecond_are_no_finer_bound(tmp_path):
    put(tmp_path, [f"2024-03-01 00:00:00.00000{row}500" for row in range(1, 7)])
    bounds = {
        f"{split}_from": f"2024-03-01T00:00:00.00000{row}000" for split, row in (("valid", 5), ("test", 6))
    }
    prepared_rows = read(tmp_path, time="at", split={"by": "time", **bounds})[0]["item"]
    assert prepared_rows == [1, 2, 3, 1, 2, 3]


def test_a_bound_within_a_second_holds_for_floats(tmp_path):
    put(tmp_path, [f"{1709251200 + second}.25" for second in range(6)])
    split = {"by": "time", "valid_from": "2024-03-01T00:00:04.25", "test_from": "2024-03-01T00:00:05.25"}
    assert read(tmp_path, time="at", time_unit="s", split=split)[0]["item"] == [1, 2, 3, 1, 2, 3]
