"""Parquet: types of files side by side, ids in floats, and columns that stop only those who read them."""

from __future__ import annotations

import datetime as dt
import decimal
from pathlib import Path

import numpy as np
import polars as pl
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from datasets.own_table import source
from files.errors import InputError
from tests.datasets.raw.conftest import TAGS, columns, read, write_schema

D = decimal.Decimal
NAN = float("nan")


def put(folder, name: str = "t.parquet", **changes: object) -> None:
    pq.write_table(pa.table(columns() | changes), folder / name)


@pytest.mark.parametrize(
    ("one", "other", "expected"),
    [
        (pa.array([1, 2, 1]), pa.array([2.0, None, 1.0]), [1, 2, 1, 2, None, 1]),
        (pa.array([1, 2, 1]), pa.array([2.5, 1.0, 1.0]), ["1", "2", "1", "2.5", "1", "1"]),
        (pa.array([1, 2, 1], pa.int8()), pa.array([2, 1, 1], pa.uint64()), [1, 2, 1, 2, 1, 1]),
        (pa.array([D("1.00"), D("2.00"), D("1.00")]), pa.array([2, 1, 1]), [1, 2, 1, 2, 1, 1]),
        (pa.array([None] * 3), pa.array([2, 1, 2]), [None, None, None, 2, "unseen", 2]),
        (pa.array([b"a", b"b", b"a"]), pa.array(["a", "b", "a"]), ["a", "b", "a", "a", "b", "a"]),
        (pa.array(["a"] * 3).dictionary_encode(), pa.array(["a"] * 3, pa.string_view()), ["a"] * 6),
        (pa.array([NAN, 2.0, 1.0]), pa.array([float("inf"), 1.0, 2.0]), [None, 2, 1, None, 1, 2]),
        (pa.array([1, 2, 2**63 - 1]), pa.array([2**53 + 1, 1, 2]), [1, 2, 2**63 - 1, 2**53 + 1, 1, 2]),
    ],
)
def test_types_are_unified_where_no_value_is_lost(tmp_path, one, other, expected):
    for name, rows, items in (("a", slice(0, 3), one), ("b", slice(3, 6), other)):
        part = {key: values[rows] for key, values in columns().items()}
        pq.write_table(pa.table(part | {"item": items}), tmp_path / f"{name}.parquet")
    assert read(tmp_path)[0]["item"] == expected


def test_a_file_whose_name_looks_like_a_uri_is_read_from_its_own_folder(tmp_path, monkeypatch):
    put(tmp_path, "day-1T10:30.parquet")
    monkeypatch.chdir(tmp_path)
    schema_file = write_schema(Path())
    assert source(schema_file).frame.collect()["item"].to_list() == columns()["item"]


@pytest.mark.parametrize(
    ("one", "other", "types"),
    [
        (pa.array([1, 2, 3]), pa.array(["1", "2", "3"]), ["Int64 in a.parquet", "String in b.parquet"]),
        (pa.array([True, False, None]), pa.array([1, 0, 1]), ["Boolean in a.parquet", "Int64 in b.parquet"]),
        (pa.array([[1]] * 3), pa.array([1] * 3), ["List(Int64) in a.parquet", "Int64 in b.parquet"]),
    ],
)
def test_other_types_are_refused_with_both_files(refusal, tmp_path, one, other, types):
    for name, rows, items in (("a", slice(0, 3), one), ("b", slice(3, 6), other)):
        part = {key: values[rows] for key, values in columns().items()}
        pq.write_table(pa.table(part | {"item": items}), tmp_path / f"{name}.parquet")
    message = refusal()
    assert all(words in message for words in ["column 'item'", *types])


@pytest.mark.parametrize(
    ("items", "words"),
    [
        (pa.array([2.0**53, 1, 1, 1, 1, 1]), "Float64 and holds numbers of 9,007,199,254,740,992"),
        (pa.array([2.0**24, 1, 1, 1, 1, 1], pa.float32()), "Float32 and holds numbers of 16,777,216"),
        (pa.array(np.array([2048, 1, 1, 1, 1, 1], np.float16)), "Float16 and holds numbers of 2,048"),
        (pa.array([b"\xff"] * 6), "column 'item' holds bytes that are no UTF-8 text"),
        (pa.array([1] * 6, pa.duration("s")), "which is no category; give integers, text or booleans"),
        (pa.array([1] * 6, pa.time64("us")), "which is no category"),
        (pa.array([{"a": 1}] * 6), "which is no category"),
        (pa.array([[1]] * 6), "holds lists; make it a sequence or multi_hot"),
    ],
)
def test_ids_that_are_not_exact_are_refused(refusal, tmp_path, items, words):
    put(tmp_path, item=items)
    assert words in refusal()


def test_columns_that_the_schema_does_not_name_may_hold_anything(tmp_path):
    put(
        tmp_path,
        wide=pa.array([D(1)] * 6, pa.decimal256(60, 0)),
        mapped=pa.array([[("a", 1)]] * 6, pa.map_(pa.string(), pa.int64())),
        **{"@line": ["x"] * 6, "@file": ["x"] * 6, "^.*$": ["x"] * 6, "*": ["x"] * 6, "ITEM": ["x"] * 6},
    )
    assert read(tmp_path)[0]["item"] == [1, 2, 3, 1, 2, 3]


@pytest.mark.parametrize("name", ["@line", "@file", "^.*$", "*"])
def test_columns_whose_names_have_a_special_meaning_are_refused(refusal, tmp_path, name):
    put(tmp_path, **{name: ["x"] * 6})
    more = [{"name": "x", "kind": "categorical", "group": "item", "column": name}]
    assert f"feature 'x' needs column {name!r}, a name that has another meaning" in refusal(more)


def test_an_unknown_zone_is_refused_before_polars_panics(refusal, tmp_path):
    put(tmp_path, seen=pa.array([0] * 6, pa.timestamp("us", tz="Mars/Base")))
    assert "column 'seen' has the time zone 'Mars/Base', which is unknown; write it in UTC" in refusal()


@pytest.mark.parametrize("cut", [4, 40])
def test_a_file_that_was_cut_short_is_refused(refusal, tmp_path, cut):
    put(tmp_path)
    path = tmp_path / "t.parquet"
    path.write_bytes(path.read_bytes()[:-cut])
    assert "t.parquet: cannot be read as a parquet table" in refusal()


@pytest.mark.parametrize(
    "tags",
    [
        pa.array([[1, 2], [2], None, [1, None], [], [1]], pa.large_list(pa.int64())),
        pa.array([[1.0, 2.0], [2.0], None, [1.0, NAN], [], [1.0]]),
        pa.array([["1", " 2"], ["2.0"], None, ["1", ""], [], ["1"]], pa.list_(pa.string_view())),
        pa.array([[D("1.00"), D("2.00")], [D("2.00")], None, [D("1.00"), None], [], [D("1.00")]]),
    ],
)
def test_lists_of_any_type_hold_the_same_ids(tmp_path, tags):
    put(tmp_path, tags=tags)
    assert read(tmp_path, [TAGS])[0]["tags"] == [[1, 2], [2], [], [1, None], [], [1]]


def test_missing_words_that_are_numbers_also_apply_to_numeric_columns(tmp_path):
    put(
        tmp_path,
        item=pa.array([-1, 2, 3, -1, 2, 3]),
        price=pa.array([-1.0, 2, 3, 4, 5, 6]),
        click=pa.array([-1, 0, 1, 0, 1, 0], pa.int8()),
        tags=pa.array([[-1, 5], [5], [], [], [], []]),
    )
    found = read(tmp_path, [TAGS], missing=["-1"])[0]
    assert found["item"] == [None, 2, 3, None, 2, 3]
    assert found["price"] == [0, 2, 3, 4, 5, 6]
    assert [label != label for label in found["label_click"]] == [True] + [False] * 5
    assert found["tags"][:2] == [[None, 5], [5]]


@pytest.mark.parametrize(
    ("dtype", "words"),
    [
        (pa.date32(), ["1970-01-01"]),
        (pa.timestamp("us"), ["1970-01-01"]),
        (pa.timestamp("ns"), ["1970-01-01 00:00:00"]),
        (pa.timestamp("ms", "UTC"), ["1970-01-01T00:00:00"]),
        (pa.timestamp("us", "Asia/Shanghai"), ["1970-01-01T00:00:00Z"]),
        (pa.timestamp("us", "Asia/Shanghai"), ["1970-01-01 08:00:00"]),
        (pa.bool_(), ["false"]),
    ],
)
def test_missing_words_are_found_among_dates_and_booleans(refusal, tmp_path, dtype, words):
    moments = [dt.datetime(1970, 1, 1), *(dt.datetime(2024, 3, day) for day in (1, 2, 1, 1, 2))]
    items = [moment.year > 1970 for moment in moments] if dtype == pa.bool_() else moments
    naive = dtype if not pa.types.is_timestamp(dtype) else pa.timestamp(dtype.unit)
    put(tmp_path, item=pa.array(items, naive).cast(dtype))
    found = read(tmp_path, missing=words)[0]["item"]
    assert found[0] is None
    assert None not in found[1:]
    if dtype != pa.bool_():
        (tmp_path / "prepared").rename(tmp_path / "categories")
        put(tmp_path, at=pa.array(items, naive).cast(dtype))
        assert "time: column 'at' is empty in row 0" in refusal(time="at", missing=words)


def test_times_of_spark_keep_their_order_and_bounds(tmp_path):
    times = [dt.datetime(2024, 3, day, 5) for day in (1, 2, 3, 4, 5, 6)]
    pq.write_table(
        pa.table(columns() | {"at": times}), tmp_path / "t.parquet", use_deprecated_int96_timestamps=True
    )
    by_time = {"by": "time", "valid_from": "2024-03-05T05:00:00", "test_from": "2024-03-06T05:00:00"}
    assert read(tmp_path, time="at", split=by_time)[0]["time"] == times


def test_a_damaged_file_on_which_polars_panics_is_named(tmp_path, monkeypatch):
    def panics(*arguments: object, **options: object) -> None:
        raise pl.exceptions.PanicException("called `Option::unwrap()` on a `None` value")

    pq.write_table(pa.table(columns()), tmp_path / "t.parquet")
    monkeypatch.setattr("datasets.raw.parquet.pl.scan_parquet", panics)
    with pytest.raises(InputError, match=r"t\.parquet: cannot be read as a parquet table .*mend the file"):
        read(tmp_path)
