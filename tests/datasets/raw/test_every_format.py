"""Random tables, written in every format that people have, prepare to what plain Python makes of them.

All formats must agree with the one oracle, which knows the table in memory, and so they agree with one
another: the same vocabularies, indices, lists, numbers, labels, users and times.
"""

from __future__ import annotations

import csv
import datetime as dt
import decimal
import gzip
import io
import json
import re
import tempfile
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from urllib.parse import quote

import numpy as np
import pandas as pd
import polars as pl
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import yaml
from hypothesis import HealthCheck, Phase, given, settings
from hypothesis import strategies as st

from datasets.own_table import source
from datasets.prepare.pipeline import prepare

Table = dict[str, list]  # columns in memory: int, float, str, list, datetime or None
START = dt.datetime(2024, 2, 28, 22, 15)
MOST = 2**63 - 1
PLAIN = "abz_/ é中😀"
RICH = PLAIN + "'\"|,;\n\t\\[]{}"
CODES = [
    *(
        "007",
        "7",
        "7.0",
        "7.50",
        "0",
        "-0",
        "-7",
        "00",
        "1e5",
        "+7",
        "0x1F",
        "x",
        "é",
        "e\u0301",
        "True",
        "  ",
    ),
    *(" padded ", "18446744073709551616", "9223372036854775807", "12345678901234567890.0000", "-1.0", None),
]
SHOPS = ["3", "12", "a/b", "x=y", "50%", None]


# --- a table, and what it means ----------------------------------------------------------------


@dataclass(frozen=True)
class Limits:
    """What a format can hold."""

    text: str = RICH
    most: int = MOST
    gaps_in_lists: bool = True
    step: dt.timedelta = dt.timedelta(seconds=1)
    codes: list = field(default_factory=lambda: CODES)


def tables(limits: Limits) -> st.SearchStrategy[Table]:
    text = st.text(limits.text, max_size=6)
    item = st.one_of(st.integers(-3, 9), st.integers(-limits.most, limits.most))
    number = st.one_of(st.integers(-5, 5), st.floats(width=32, allow_nan=False, allow_infinity=False))
    gap = st.none() if limits.gaps_in_lists else st.nothing()
    row = st.tuples(
        item,  # user
        st.none() | item,
        st.none() | text,
        st.sampled_from(limits.codes),
        st.none() | st.lists(item | gap, max_size=4),
        st.none() | st.lists(text.filter(str.strip) | gap, max_size=4),
        st.none() | number,
        st.sampled_from([0, 1, None]),
        st.sampled_from(SHOPS),
    )

    def table(rows: list[tuple], order: list[int]) -> Table:
        names = ["who", "item", "title", "code", "history", "tags", "price", "click", "shop"]
        columns: Table = {
            name: list(values) for name, values in zip(names, zip(*rows, strict=True), strict=True)
        }
        columns["at"] = [START + limits.step * (place + 1) for place in order]
        first, second = order.index(0), order.index(1)
        columns["click"][first], columns["click"][second] = 1, 0  # both classes in training
        columns["history"][first], columns["tags"][first] = [1, 2], ["a", "b"]  # lists are lists
        columns["title"][first], columns["title"][second] = "a", "é"
        return columns

    def table_of_length(length: int) -> st.SearchStrategy[Table]:
        rows = st.lists(row, min_size=length, max_size=length)
        return st.builds(table, rows, st.permutations(range(length)))

    return st.integers(6, 12).flatmap(table_of_length)


def category(value: object) -> str | None:
    """The text that a category is compared as."""
    text = "" if value is None else str(value).strip()
    text = re.sub(r"^(-?\d+)\.0*$", r"\1", text)
    return {"": None, "-0": "0"}.get(text, text)


def as_one_type(values: list[str | None]) -> Callable:
    """int where all categories of a vocabulary are integers of 64 bits."""
    known = [value for value in values if value is not None]
    whole = all(re.fullmatch(r"0|-?[1-9]\d*", value) and -(2**63) <= int(value) < 2**63 for value in known)
    return (lambda value: None if value is None else int(value)) if whole else (lambda value: value)


VOCABULARIES = {
    "item": ["item", "history"],
    "title": ["title"],
    "code": ["code"],
    "tags": ["tags"],
    "shop": ["shop"],
}


def categories(name: str, value: object) -> list[str | None]:
    if name == "history":
        return [category(one) for one in value or []][-3:]
    if name == "tags":
        return [category(one) for one in value or [] if one is not None][:3]
    return [category(value)]


def expected(table: Table) -> dict:
    order = sorted(range(len(table["at"])), key=lambda row: table["at"][row])
    found: dict = {"time": [table["at"][row] for row in order]}
    for vocabulary, names in VOCABULARIES.items():
        cells = {name: [categories(name, table[name][row]) for row in order] for name in names}
        typed = as_one_type([one for name in names for cell in cells[name] for one in cell])
        train = Counter(typed(one) for name in names for cell in cells[name][:-2] for one in cell)
        train.pop(None, None)
        ranked = sorted(train, key=lambda value: (-train[value], value))
        index = {value: number for number, value in enumerate(ranked, start=2)} | {None: 0}
        found[f"vocabulary {vocabulary}"] = ranked
        for name in names:
            indices = [[index.get(typed(one), 1) for one in cell] for cell in cells[name]]
            found[name] = indices if name in ("history", "tags") else [one for (one,) in indices]
    prices = [table["price"][row] for row in order]
    found["price"] = [float(np.float32(0 if price is None else price)) for price in prices]
    found["label_click"] = [table["click"][row] for row in order]
    users = [category(user) for user in table["who"]]
    found["users"] = sorted({as_one_type(users)(user) for user in users})
    return found


def prepared(schema_file: Path, microseconds: int | None) -> dict:
    """The same columns from a prepared folder; ``microseconds`` in a unit of times that are numbers."""
    folder = prepare(
        source(schema_file, Path(tempfile.mkdtemp(dir=schema_file.parent))), schema_file.parent / "out"
    )
    shards = [
        folder.path / s["file"]
        for split in ("train", "valid", "test")
        for s in folder.manifest["shards"][split]
    ]
    rows = pl.concat([pl.read_parquet(shard) for shard in shards])
    found = {
        name: rows[name].to_list() for name in ["item", "title", "code", "history", "tags", "shop", "price"]
    }
    found["label_click"] = [None if label != label else label for label in rows["label_click"].to_list()]
    found["users"] = pl.read_parquet(folder.path / "users.parquet")["value"].to_list()
    for name in VOCABULARIES:
        vocabulary = pl.read_parquet(folder.path / "vocabulary" / f"{name}.parquet")
        found[f"vocabulary {name}"] = vocabulary["value"].to_list()
    found["time"] = [_moment(time, microseconds) for time in rows["time"].to_list()]
    return found


def _moment(time: object, microseconds: int | None) -> dt.datetime:
    if microseconds is not None:
        return dt.datetime(1970, 1, 1) + dt.timedelta(microseconds=time * microseconds)  # type: ignore[operator]
    if isinstance(time, dt.datetime):
        return time.astimezone(dt.UTC).replace(tzinfo=None) if time.tzinfo else time
    assert isinstance(time, dt.date)
    return dt.datetime(time.year, time.month, time.day)


# --- writing it --------------------------------------------------------------------------------


def joined(values: list) -> str:
    return "|".join(str(value) for value in values if value is not None)


def as_json(values: list) -> str:
    return json.dumps(values, ensure_ascii=False)


def as_numpy(values: list) -> str:
    return str(np.array(values)) if values else "[]"


def as_spark(values: list) -> str:
    return "[" + ", ".join("null" if value is None else str(value) for value in values) + "]"


def iso(time: dt.datetime) -> str:
    return time.isoformat(sep=" ")


def epoch(time: dt.datetime, unit: int) -> int:
    return (time - dt.datetime(1970, 1, 1)) // dt.timedelta(microseconds=1) * unit // 10**6


def as_text(
    table: Table, lists: Callable[[list], str], time: Callable[[dt.datetime], object]
) -> list[list[str]]:
    """Rows of text, as all kinds of delimited files hold them."""

    def cell(value: object) -> str:
        if isinstance(value, list):
            return lists(value)
        return "" if value is None else str(time(value) if isinstance(value, dt.datetime) else value)

    return [[cell(value) for value in row] for row in zip(*table.values(), strict=True)]


def delimited(
    table: Table, lists: Callable, time: Callable = iso, header: bool = True, **dialect: object
) -> str:
    text = io.StringIO(newline="")
    writer = csv.writer(text, **({"lineterminator": "\n"} | dialect))  # type: ignore[arg-type]
    writer.writerows([list(table)] * header + as_text(table, lists, time))
    return text.getvalue()


def frame(table: Table, **types: pa.DataType) -> pa.Table:
    """An Arrow table; without a stated type, the widest common one."""
    own = {
        **{name: pa.int64() for name in ("who", "item")},
        **{name: pa.string() for name in ("title", "code", "shop")},
        **{"history": pa.list_(pa.int64()), "tags": pa.list_(pa.string()), "price": pa.float64()},
        **{"click": pa.int8(), "at": pa.timestamp("us")},
    } | types
    return pa.table(
        {name: pa.array(_fitting(values, own[name]), own[name]) for name, values in table.items()}
    )


def _fitting(values: list, dtype: pa.DataType) -> list:
    if pa.types.is_floating(dtype):
        return [None if value is None else float(value) for value in values]
    if pa.types.is_decimal(dtype):
        return [None if value is None else decimal.Decimal(value) for value in values]
    if pa.types.is_boolean(dtype):
        return [None if value is None else bool(value) for value in values]
    if pa.types.is_binary(dtype):
        return [None if value is None else value.encode() for value in values]
    return values


def rows_of(table: Table, rows: list[int]) -> Table:
    return {name: [values[row] for row in rows] for name, values in table.items()}


def csv_plain(folder: Path, table: Table) -> dict:
    text = as_text(table, joined, iso)
    pd.DataFrame(text, columns=list(table)).to_csv(folder / "t.csv", index=False)
    return {}


def csv_all_quoted(folder: Path, table: Table) -> dict:
    (folder / "t.csv").write_text(delimited(table, as_json, quoting=csv.QUOTE_ALL), "utf-8", newline="")
    return {"csv": {"escape": "none"}}


def csv_semicolon(folder: Path, table: Table) -> dict:
    text = delimited(table, repr, lambda time: time.date().isoformat(), delimiter=";")
    (folder / "t.csv").write_text(text, "utf-8", newline="")
    return {"csv": {"separator": ";", "escape": "none"}}


def tsv(folder: Path, table: Table) -> dict:
    (folder / "t.tsv").write_text(delimited(table, as_numpy, delimiter="\t"), "utf-8", newline="")
    return {}


def csv_crlf_bom(folder: Path, table: Table) -> dict:
    (folder / "t.csv").write_text(delimited(table, as_spark, lineterminator="\r\n"), "utf-8-sig", newline="")
    return {}


def csv_gzip_epoch(folder: Path, table: Table) -> dict:
    text = delimited(table, as_json, lambda time: epoch(time, 1)).encode()
    cut = text.index(b"\n") + 1
    (folder / "t.csv.gz").write_bytes(gzip.compress(text[:cut]) + gzip.compress(text[cut:]))  # two members
    return {"time_unit": "s", "csv": {"escape": "none"}}


def csv_zstd_milliseconds(folder: Path, table: Table) -> dict:
    with pa.output_stream(str(folder / "t.csv.zst"), compression="zstd") as stream:
        stream.write(delimited(table, repr, lambda time: epoch(time, 1000)).encode())
    return {"time_unit": "ms", "csv": {"escape": "none"}}


def csv_without_header_zoned(folder: Path, table: Table) -> dict:
    china = dt.timezone(dt.timedelta(hours=8))

    def time(moment: dt.datetime) -> str:
        return moment.replace(tzinfo=dt.UTC).astimezone(china).isoformat()

    (folder / "t.csv").write_text(delimited(table, as_json, time, header=False), "utf-8", newline="")
    return {"csv": {"columns": list(table), "escape": "none"}, "zone": "+00:00"}


def csv_backslash(folder: Path, table: Table) -> dict:
    text = delimited(table, joined, doublequote=False, escapechar="\\")
    (folder / "t.csv").write_text(text, "utf-8", newline="")
    return {"csv": {"escape": "backslash"}}


def csv_latin_1(folder: Path, table: Table) -> dict:
    (folder / "t.csv").write_text(delimited(table, as_json), "latin-1", newline="")
    return {"csv": {"encoding": "latin-1", "escape": "none"}}


def json_lines(folder: Path, table: Table) -> dict:
    rows = [dict(zip(table, row, strict=True)) for row in zip(*table.values(), strict=True)]
    (folder / "t.jsonl").write_text("".join(json.dumps(row, default=iso) + "\n" for row in rows), "utf-8")
    return {}


def json_lines_gzip_without_nulls(folder: Path, table: Table) -> dict:
    names = list(table)
    rows = [
        {n: v for n, v in zip(names, row, strict=True) if v is not None}
        for row in zip(*table.values(), strict=True)
    ]
    rows[0] = {name: values[0] for name, values in table.items()}  # every column is known
    text = "".join(json.dumps(row, default=iso, ensure_ascii=False) + "\n" for row in rows)
    (folder / "t.jsonl.gz").write_bytes(gzip.compress(text.encode()))
    return {}


def parquet_pandas(folder: Path, table: Table) -> dict:
    data = pd.DataFrame({name: pd.Series(values, dtype=object) for name, values in table.items()})
    for name in ("who", "item", "price", "click"):
        data[name] = data[name].astype(float)  # as pandas holds integers with missing values
    data = data.astype({"code": "category", "title": "category", "shop": "string"})
    data["at"] = pd.to_datetime(data["at"])
    data.to_parquet(folder / "t.parquet")
    return {}


def parquet_arrow(folder: Path, table: Table) -> dict:
    text = pa.dictionary(pa.int32(), pa.large_string())
    whole = pa.decimal128(22, 1)
    arrow = frame(
        {name: values for name, values in table.items() if name not in ("title", "shop")},
        **{"item": whole, "who": pa.decimal128(38, 0), "code": pa.string_view(), "price": pa.float32()},
        **{"history": pa.large_list(whole), "tags": pa.list_(pa.large_string()), "click": pa.float32()},
    )
    arrow = arrow.append_column("title", pa.array(table["title"], pa.large_string()).cast(text))
    pq.write_table(
        arrow.append_column("shop", pa.array(table["shop"]).dictionary_encode()), folder / "t.parquet"
    )
    return {}


def parquet_spark(folder: Path, table: Table) -> dict:
    """Hive folders, times as INT96, and text stored as plain bytes."""
    for shop in set(table["shop"]):
        rows = [row for row, value in enumerate(table["shop"]) if value == shop]
        part = {name: values for name, values in rows_of(table, rows).items() if name != "shop"}
        name = "__HIVE_DEFAULT_PARTITION__" if shop is None else quote(shop, safe="")
        (folder / "t" / f"shop={name}").mkdir(parents=True)
        arrow = frame(part, title=pa.binary(), code=pa.binary())
        path = folder / "t" / f"shop={name}" / "part-0.snappy.parquet"
        pq.write_table(arrow, path, use_deprecated_int96_timestamps=True)
    return {"files": ["t/**/*.parquet"]}


def parquet_several_types(folder: Path, table: Table) -> dict:
    """A file without rows, an empty column, integers and floats, and several units of time."""
    half = len(table["at"]) // 2
    one, other = (rows_of(table, list(part)) for part in (range(half), range(half, len(table["at"]))))
    pq.write_table(
        frame(one, item=pa.float64(), click=pa.bool_(), at=pa.timestamp("ms")), folder / "a.parquet"
    )
    types = {"price": pa.null()} if not any(price is not None for price in other["price"]) else {}
    if all(title is None for title in other["title"]):
        types["title"] = pa.null()
    pq.write_table(frame(other, history=pa.list_(pa.decimal128(20, 0)), **types), folder / "b.parquet")
    pq.write_table(frame(rows_of(table, [])), folder / "c.parquet")
    return {}


DAY, MILLISECOND = dt.timedelta(days=1), dt.timedelta(milliseconds=1)
EXACT = 2**53 - 1  # in a float
LATIN = Limits(text="abé'\";\n\\", codes=[code for code in CODES if code is None or code.isascii()])
FORMATS = [
    (csv_plain, Limits(text=PLAIN + "',\n", gaps_in_lists=False, step=dt.timedelta(microseconds=7)), None),
    (csv_all_quoted, Limits(step=dt.timedelta(hours=7)), None),
    (csv_semicolon, Limits(step=DAY), None),
    (tsv, Limits(text=PLAIN + ",;", gaps_in_lists=False), None),
    (csv_crlf_bom, Limits(text=PLAIN.replace(" ", "") + ";"), None),
    (csv_gzip_epoch, Limits(), 10**6),
    (csv_zstd_milliseconds, Limits(step=MILLISECOND), 10**3),
    (csv_without_header_zoned, Limits(), None),
    (csv_backslash, Limits(text=PLAIN + "'\",\n", gaps_in_lists=False), None),
    (csv_latin_1, LATIN, None),
    (json_lines, Limits(step=dt.timedelta(microseconds=1)), None),
    (json_lines_gzip_without_nulls, Limits(step=MILLISECOND), None),
    (parquet_pandas, Limits(most=EXACT), None),
    (parquet_arrow, Limits(), None),
    (parquet_spark, Limits(), None),
    (parquet_several_types, Limits(most=EXACT, step=MILLISECOND), None),
]


def schema_of(table: Table, changes: dict, days: bool) -> dict:
    zone = changes.pop("zone", "")
    valid, test = (f"{time.isoformat()}{zone}" for time in sorted(table["at"])[-2:])
    if days:
        valid, test = valid[:10], test[:10]
    kinds = {"item": "categorical", "title": "categorical", "code": "categorical", "shop": "categorical"}
    kinds |= {"history": "sequence", "tags": "multi_hot", "price": "numeric"}
    own = {
        "history": {"vocabulary": "item", "max_length": 3, "separator": "|"},
        "tags": {"max_length": 3, "separator": "|"},
        "price": {"normalization": "none"},
    }
    return {
        "name": "table",
        "features": [
            {"name": name, "kind": kind, "group": "item"} | own.get(name, {}) for name, kind in kinds.items()
        ],
        "tasks": [{"name": "click"}],
        "user_id": "who",
        "time": "at",
        "split": {"by": "time", "valid_from": valid, "test_from": test},
    } | changes


@pytest.mark.parametrize(("write", "limits", "microseconds"), FORMATS, ids=[f[0].__name__ for f in FORMATS])
@settings(
    max_examples=3,
    derandomize=True,
    database=None,
    phases=[Phase.generate],
    suppress_health_check=list(HealthCheck),
)
@given(data=st.data())
def test_a_table_means_the_same_in_every_format(write, limits, microseconds, data):
    table = data.draw(tables(limits))
    days = limits.step == DAY
    if days:
        table["at"] = [dt.datetime(time.year, time.month, time.day) for time in table["at"]]
    with tempfile.TemporaryDirectory() as folder:
        schema_file = Path(folder) / "schema.yaml"
        changes = write(Path(folder), table)
        schema_file.write_text(yaml.safe_dump(schema_of(table, changes, days)), "utf-8")
        assert prepared(schema_file, microseconds) == expected(table)
