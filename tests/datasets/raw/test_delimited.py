"""Delimited text: records and fields against Python's csv module, and every refusal with its line."""

from __future__ import annotations

import csv
import io

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from datasets.raw import blocks
from datasets.raw.delimited import Dialect, _Reader, structure
from datasets.raw.files import TableFile
from datasets.schema import Csv
from files.errors import InputError
from tests.datasets.raw.conftest import columns, read, text

FIELD = st.text('ab,;"\n\r\\ é', max_size=4)


@st.composite
def delimited(draw: st.DrawFn) -> tuple[list[list[str]], str]:
    """Records of two fields or more, and their text by Python's own writer."""
    width = draw(st.integers(2, 3))
    records = draw(st.lists(st.lists(FIELD, min_size=width, max_size=width), min_size=1, max_size=5))
    written = io.StringIO(newline="")
    quoting = draw(st.sampled_from([csv.QUOTE_MINIMAL, csv.QUOTE_ALL]))
    if any("\r" in value for record in records for value in record):
        quoting = csv.QUOTE_ALL  # Python's writer leaves a carriage return bare
    csv.writer(written, quoting=quoting, lineterminator=draw(st.sampled_from(["\n", "\r\n"]))).writerows(
        records
    )
    return records, written.getvalue()


@given(delimited())
def test_records_are_those_of_pythons_csv_reader(case):
    records, written = case
    found = structure(np.frombuffer(written.encode(), np.uint8), Dialect(ord(","), ord('"'), None, False))
    assert found.fields.tolist() == [len(record) for record in records]
    assert found.end == len(written.encode())
    ends = [*found.starts.tolist()[1:], found.end]
    parts = [written.encode()[a:b].decode() for a, b in zip(found.starts.tolist(), ends, strict=True)]
    assert [next(csv.reader(io.StringIO(part, newline=""), strict=True)) for part in parts] == records


@settings(max_examples=40)
@given(delimited(), st.integers(1, 64))
def test_block_boundaries_do_not_matter(tmp_path_factory, case, size):
    records, written = case
    path = tmp_path_factory.mktemp("cut") / "t.csv"
    names = [f"column {number}" for number in range(len(records[0]))]
    path.write_bytes((",".join(names) + "\n" + written).encode())
    whole, blocks.BLOCK_BYTES = blocks.BLOCK_BYTES, size
    try:
        reader = _Reader(TableFile(path, "t.csv", "csv", None), Csv(escape="none"), dict.fromkeys(names, "x"))
        rows = [row for table in reader.tables() for row in table.to_pylist()]
    finally:
        blocks.BLOCK_BYTES = whole
    assert [[row[name] or "" for name in names] for row in rows] == records
    lines = [written[: _place(written, records, number)].count("\n") + 2 for number in range(len(records))]
    assert [row["@line"] for row in rows] == lines


def _place(written: str, records: list, number: int) -> int:
    """Where a record begins, by Python's reader going on from record to record."""
    stream = io.StringIO(written, newline="")
    reader = csv.reader(iter(stream.readline, ""))
    for _ in range(number):
        next(reader)
    return stream.tell()


LINES = text(columns())


@pytest.mark.parametrize(
    ("content", "words"),
    [
        (LINES.replace("b,2,", "b,2,3,"), "t.csv: line 3: has 6 fields where the header has 5"),
        (LINES.replace("b,2,", "b,"), "t.csv: line 3: has 4 fields where the header has 5"),
        (LINES + "(6 rows)\n", "t.csv: line 8: has 1 fields where the header has 5"),
        (LINES.replace("b,2,", 'b, "2",'), "t.csv: line 3: a quote stands within a field"),
        (LINES.replace("b,2,", 'b,2",'), "t.csv: line 3: a quote stands within a field"),
        (LINES.replace("b,2,", 'b,"2"x,'), "t.csv: line 3: a quote stands within a field"),
        (
            LINES.replace("b,2,", 'b,"2,', 1),
            "t.csv: line 3: a quote that opens in this record is never closed",
        ),
        (LINES.replace("b,2,", 'b,"a\\"b",'), "t.csv: line 3: a backslash stands before a quote; say csv"),
        (LINES.replace("\n", "\r"), "t.csv: line 1: a carriage return ends a line without a line feed"),
        (LINES + LINES, "t.csv: line 8: repeats the header"),
        (
            LINES.replace("item", "who"),
            "t.csv: has no column 'item', which feature 'item' needs; it has who,",
        ),
        (LINES.replace("who,item", "item,item"), "t.csv: has 2 columns named 'item'; rename others"),
        (LINES.replace("item", "Item"), "(say column: 'Item' if that is meant)"),
        (LINES.replace(",", "\t"), "if a tab separates them, say csv: {separator: '\\t'}"),
        ("\n\n", "t.csv: cannot be read: it is empty, without even a header"),
        (LINES.replace("b,2,", "b,\0,"), "t.csv: line 3: holds a zero byte"),
        ("", "t.csv: cannot be read: it is empty, without even a header"),
        (LINES.splitlines()[0] + "\n", "files: no file has any rows"),
    ],
)
def test_a_record_that_could_be_read_in_two_ways_is_refused_with_its_line(refusal, tmp_path, content, words):
    (tmp_path / "t.csv").write_text(content, encoding="utf-8", newline="")
    assert words in refusal()


def test_the_first_line_is_a_header_unless_the_schema_names_the_columns(refusal, tmp_path):
    header, rows = LINES.split("\n", 1)
    (tmp_path / "t.csv").write_text(LINES)
    assert "its first line is a header; remove csv.columns" in refusal(csv={"columns": header.split(",")})
    (tmp_path / "t.csv").write_text(rows)
    assert read(tmp_path, csv={"columns": header.split(",")})[0]["item"] == [1, 2, 3, 1, 2, 3]


def test_mixed_line_ends_empty_lines_and_no_last_line_end_are_read(tmp_path):
    lines = LINES.splitlines()
    (tmp_path / "t.csv").write_text("\r\n".join(lines[:3]) + "\n\n\r\n" + "\n".join(lines[3:]), newline="")
    assert read(tmp_path)[0]["price"] == [1, 2, 3, 4, 5, 6]


@pytest.mark.parametrize("separator", ["|", "^", ".", "$", " ", "*", "\x01", "\t", ";"])
def test_any_character_may_be_the_separator_even_one_of_regular_expressions(tmp_path, separator):
    (tmp_path / "t.csv").write_text(text(columns(), separator))
    assert read(tmp_path, csv={"separator": separator})[0]["item"] == [1, 2, 3, 1, 2, 3]


@pytest.mark.parametrize(
    ("setting", "words"),
    [
        ({"separator": "||"}, "csv: separator '||' must be one character"),
        ({"separator": '"'}, "must be one character of ASCII and no quote"),
        ({"encoding": "rot13"}, "csv: encoding 'rot13' is unknown"),
        ({"encoding": "base64"}, "csv: encoding 'base64' is unknown"),
        ({"encoding": "no-such"}, "csv: encoding 'no-such' is unknown"),
    ],
)
def test_contradictory_csv_settings_are_refused(refusal, tmp_path, setting, words):
    (tmp_path / "t.csv").write_text(LINES)
    assert words in refusal(csv=setting)


def test_files_without_rows_are_noted(tmp_path):
    (tmp_path / "a.csv").write_text(LINES.splitlines()[0] + "\n")
    (tmp_path / "b.csv").write_text(LINES)
    table, notes = read(tmp_path)
    assert table["item"] == [1, 2, 3, 1, 2, 3]
    assert notes["files without rows"] == "a.csv"


def test_a_record_as_long_as_many_blocks_is_refused_only_beyond_the_limit(tmp_path, monkeypatch):
    monkeypatch.setattr(blocks, "BLOCK_BYTES", 64)
    monkeypatch.setattr("datasets.raw.delimited.MOST_RECORD_BYTES", 4000)
    for length, is_read in ((3000, True), (5000, False)):
        (tmp_path / "t.csv").write_text(LINES.replace("b,2,", "b," + "2" * length + ","))
        path = TableFile(tmp_path / "t.csv", "t.csv", "csv", None)
        reader = _Reader(path, Csv(), {"item": "feature 'item'"})
        if is_read:
            assert sum(table.num_rows for table in reader.tables()) == 6
        else:
            with pytest.raises(InputError, match="line 3: a quote that opens in this record is never closed"):
                list(reader.tables())
