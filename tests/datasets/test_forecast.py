"""What preparing will take, against the files themselves."""

from __future__ import annotations

import gzip
import random
import re
from pathlib import Path

import polars as pl
import pytest

from datasets import forecast as module
from datasets.catalog import prepare_dataset
from datasets.forecast import forecast
from datasets.own_table import OwnTable

SCHEMA = """
name: little
files: [{file}]
features:
  - {{name: item, kind: categorical, group: item}}
  - {{name: seen, kind: sequence, group: history, separator: "|"}}
tasks: [{{name: y}}]
user_id: user
time: t
split: {{by: fraction, valid: 0.2, test: 0.2}}
"""
ROWS = 3000


def table() -> pl.DataFrame:
    rows = range(ROWS)
    return pl.DataFrame({
        "item": [number % 7 for number in rows],
        "seen": [[number % 5, 1][: number % 3] for number in rows],
        "y": [number % 2 for number in rows],
        "user": [number % 50 for number in rows],
        "t": list(rows),
        "not_read": [random.Random(number).randbytes(25).hex() for number in rows],
    })  # fmt: skip


def written(folder: Path, file: str) -> Path:
    frame = table()
    if file.endswith(".parquet"):
        frame.write_parquet(folder / file)
    else:
        text = frame.with_columns(pl.col("seen").cast(pl.List(pl.String)).list.join("|")).write_csv()
        (folder / file).write_bytes(gzip.compress(text.encode()) if file.endswith(".gz") else text.encode())
    (folder / "schema.yaml").write_text(SCHEMA.format(file=file), encoding="utf-8")
    return folder / "schema.yaml"


def test_rows_and_values_of_parquet_are_exact(tmp_path):
    found = module._size(*_first(written(tmp_path, "t.parquet")))
    # An empty list takes a place of its own.
    elements = sum(max(len(seen), 1) for seen in table()["seen"])
    assert (found.rows, found.values) == (ROWS, 4 * ROWS + elements)
    assert found.text_bytes == 0


def test_a_column_whose_name_has_points_is_counted_and_its_namesake_is_not(tmp_path):
    more = {"seen.long": [[1] * 9] * ROWS, "item.id": [3] * ROWS}
    schema_file = written(tmp_path, "t.parquet")
    table().with_columns(**{name: pl.Series(values) for name, values in more.items()}).write_parquet(
        tmp_path / "t.parquet"
    )
    elements = sum(max(len(seen), 1) for seen in table()["seen"])
    assert module._size(*_first(schema_file)).values == 4 * ROWS + elements
    schema_file.write_text(schema_file.read_text().replace("item,", "item, column: item.id,", 1))
    assert module._size(*_first(schema_file)).values == 4 * ROWS + elements


def test_values_of_text_include_labels_users_and_times(tmp_path):
    schema_file = written(tmp_path, "t.csv")
    schema_file.write_text(schema_file.read_text().replace('"|"', '"|", max_length: 2'))
    found = module._size(*_first(schema_file))
    assert found.values == found.rows * 6  # item, y, user and t, and at most two of seen


@pytest.mark.parametrize("file", ["t.csv", "t.csv.gz"])
def test_rows_of_text_are_told_from_its_first_piece(tmp_path, monkeypatch, file):
    monkeypatch.setattr(module, "SAMPLE_BYTES", 40_000)
    found = module._size(*_first(written(tmp_path, file)))
    assert found.rows == pytest.approx(ROWS, rel=0.1)


def _first(schema_file: Path) -> tuple:
    own = OwnTable.find(schema_file)
    return own.files[0], own.schema


def test_the_sentence_grows_with_the_table_and_shrinks_with_the_cores(tmp_path, monkeypatch):
    own = OwnTable.find(written(tmp_path, "t.parquet"))
    monkeypatch.setattr(module, "VALUES_A_SECOND", 10)
    one, four = (
        int(re.search(r"and (\d+) min on", forecast(own, cores)).group(1))  # type: ignore[union-attr]
        for cores in (1, 4)
    )
    assert one == pytest.approx(4 * four, abs=4)
    assert forecast(own, 1).startswith("little: 3,000 rows, 5 values in each; ")


def test_it_is_said_before_a_table_is_prepared_and_not_when_it_is_opened_again(tmp_path):
    said: list[str] = []
    schema_file = written(tmp_path, "t.parquet")
    for _ in range(2):
        prepare_dataset(schema_file, {}, None, tmp_path / "cache", report=said.append)
    assert len(said) == 1


def test_a_damaged_file_is_left_to_the_reader_to_name(tmp_path):
    schema_file = written(tmp_path, "t.parquet")
    (tmp_path / "t.parquet").write_bytes(b"no table")
    assert forecast(OwnTable.find(schema_file)) == ""
