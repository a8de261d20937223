"""Your own CSV or parquet files and a schema in YAML."""

from __future__ import annotations

from pathlib import Path

import polars as pl
import pytest
import yaml

from datasets.own_table import OwnTable, source
from datasets.prepare.pipeline import prepare
from datasets.prepare.stage import staged_columns
from files.errors import InputError

SCHEMA = {
    "name": "mine",
    "features": [
        {"name": "item", "kind": "categorical", "group": "item"},
        {"name": "tags", "kind": "multi_hot", "group": "item", "separator": "|"},
        {"name": "price", "kind": "numeric", "group": "item"},
    ],
    "tasks": [{"name": "click"}],
    "user_id": "who",
    "time": "at",
    "split": {"by": "time", "valid_from": "2024-01-03", "test_from": "2024-01-04"},
}
HEADER = "who,item,tags,price,click,at,unused\n"
FIRST = "ann,1,a|b,2.5,1,2024-01-01 10:00:00,x\nbob,2,,,0,2024-01-02 10:00:00,x\n"
SECOND = "ann,2,c,1,1,2024-01-03 10:00:00,7\nbob,,a,7,,2024-01-04 23:00:00,7\n"


def write_schema(folder: Path, **changes: object) -> Path:
    path = folder / "mine.yaml"
    path.write_text(yaml.safe_dump(SCHEMA | changes))
    return path


@pytest.fixture
def csv_folder(tmp_path: Path) -> Path:
    (tmp_path / "a.csv").write_text(HEADER + FIRST)
    (tmp_path / "b.csv").write_text(HEADER + SECOND)
    return tmp_path


def rows_of(table: pl.LazyFrame) -> list[tuple]:
    return table.select("who", "item", "tags", "price", "click").collect().rows()


def identity(path: Path) -> dict:
    return OwnTable.find(path).identity


EXPECTED = [
    ("ann", "1", "a|b", "2.5", "1"),
    ("bob", "2", None, None, "0"),
    ("ann", "2", "c", "1", "1"),
    ("bob", None, "a", "7", None),
]


def test_csv_files_in_the_schemas_folder_are_read_in_order(csv_folder):
    found = source(write_schema(csv_folder))
    assert rows_of(found.frame) == EXPECTED
    assert found.notes["files"] == "a.csv, b.csv"
    assert "unused" not in found.frame.collect_schema()


def test_csv_and_the_same_table_as_parquet_prepare_to_the_same_shards(csv_folder, tmp_path_factory):
    other = tmp_path_factory.mktemp("parquet")
    for name in ("a", "b"):
        pl.read_csv(csv_folder / f"{name}.csv", try_parse_dates=True).write_parquet(other / f"{name}.parquet")
    hashes = []
    for folder in (csv_folder, other):
        prepared = prepare(source(write_schema(folder)), folder / "prepared")
        assert prepared.rows == {"train": 2, "valid": 1, "test": 1}
        hashes.append(prepared.manifest["files"])
    assert hashes[0] == hashes[1]


def test_files_are_globs_relative_to_the_schema(csv_folder):
    (csv_folder / "deep").mkdir()
    (csv_folder / "a.csv").rename(csv_folder / "deep" / "z.csv")
    found = source(write_schema(csv_folder, files=["deep/*.csv", "b.csv"]))
    assert rows_of(found.frame) == EXPECTED[2:] + EXPECTED[:2]
    absolute = source(write_schema(csv_folder, files=[str(csv_folder / "deep" / "*.csv")]))
    assert rows_of(absolute.frame) == EXPECTED[:2]


def staged(path: Path) -> pl.DataFrame:
    """The checked table as preparation stages it."""
    found = source(path)
    types = dict(found.frame.collect_schema())
    return found.frame.select(staged_columns(found.schema, types, "here", found.text)).collect()


def test_a_column_whose_type_grows_in_the_last_row_is_still_read(csv_folder):
    lines = "".join(f"ann,{number},a|b,1,{number % 2},2024-01-01 10:00:00,x\n" for number in range(2000))
    (csv_folder / "a.csv").write_text(HEADER + lines + "ann,new,a|b,1,1,2024-01-02 10:00:00,x\n")
    items = staged(write_schema(csv_folder))["item"].to_list()
    assert items[:2] == ["0", "1"]
    assert items[2000:] == ["new", "2", None]


@pytest.mark.parametrize(
    ("first", "second", "expected"),
    [
        ("01,2,10", "1,A1,10", ["01", "2", "10", "1", "A1", "10"]),
        ("01,02,03", "01,02,03", ["01", "02", "03"] * 2),
        ("1,2,", "1.0,2.0,", [1, 2, None] * 2),  # whole numbers with a missing one, as pandas writes them
        ("1,2,", "3,-4,0", [1, 2, None, 3, -4, 0]),
        ("12345678901234567890,1,2", "1,2,3", ["12345678901234567890", "1", "2", "1", "2", "3"]),
        ("9.0000000000,7.50,x", "9, 7.50,x ", ["9", "7.50", "x"] * 2),
    ],
)
@pytest.mark.parametrize("column", ["item", "who"])
def test_users_and_categories_agree_across_files(tmp_path, column, first, second, expected):
    for name, values in (("a", first), ("b", second)):
        rows = [
            f"{value if column == 'who' else 'ann'},{value if column == 'item' else 7},a|b,1,1,2024-01-01"
            for value in values.split(",")
        ]
        (tmp_path / f"{name}.csv").write_text("\n".join(["who,item,tags,price,click,at", *rows]) + "\n")
    found = staged(write_schema(tmp_path))["item" if column == "item" else "@user"]
    assert found.to_list() == expected


def test_dates_that_could_be_read_in_two_ways_are_refused(csv_folder):
    second = SECOND.replace("2024-01-03 10:00:00", "01/03/2024").replace("2024-01-04 23:00:00", "01/04/2024")
    (csv_folder / "b.csv").write_text(HEADER + second)
    with pytest.raises(
        InputError, match=r"b\.csv: line 2: column 'at' holds '01/03/2024', .*not in ISO form"
    ):
        source(write_schema(csv_folder))


def test_the_identity_follows_content_and_schema(csv_folder):
    path = write_schema(csv_folder)
    first = identity(path)
    assert source(path).identity == first
    (csv_folder / "b.csv").write_text(HEADER + SECOND.replace("7", "8"))
    changed = identity(path)
    assert changed != first
    assert identity(write_schema(csv_folder, description="other")) != changed


def break_nothing(folder: Path) -> None:
    pass


@pytest.mark.parametrize(
    ("change", "files", "words"),
    [
        (break_nothing, ["c.csv"], ["mine.yaml", "files", "'c.csv'", "no file"]),
        (break_nothing, ["."], ["mine.yaml", "files", "'.'", "no file"]),
        (break_nothing, [""], ["mine.yaml", "files", "''", "no file"]),
        (break_nothing, ["/"], ["mine.yaml", "files", "'/'", "no file"]),
        (lambda f: (f / "c.parquet").write_bytes(b""), [], ["mine.yaml", "both csv and parquet"]),
        (lambda f: (f / "c.txt").write_text(""), ["*.txt"], ["mine.yaml", "'c.txt'", "convert or rename"]),
        (lambda f: [path.unlink() for path in f.glob("*.csv")], [], ["mine.yaml", "no *.parquet or *.csv"]),
        (lambda f: (f / "b.csv").write_text("who,item\nann,1\n"), [], ["b.csv", "'tags'", "feature 'tags'"]),
        (lambda f: (f / "b.csv").write_text(""), [], ["b.csv", "cannot be read"]),
        (lambda f: (f / "c.parquet").write_bytes(b"nothing"), ["*.parquet"], ["c.parquet", "cannot be read"]),
    ],
)
def test_files_that_are_missing_mixed_or_unreadable_are_refused(csv_folder, change, files, words):
    change(csv_folder)
    with pytest.raises(InputError) as error:
        source(write_schema(csv_folder, files=files))
    assert all(word in str(error.value) for word in words), str(error.value)


@pytest.mark.parametrize("word", ["True", "true"])
def test_booleans_that_two_programs_wrote_are_noted(csv_folder, word):
    first = FIRST.replace("ann,1,", "ann,True,").replace("bob,2,", f"bob,{word},")
    (csv_folder / "a.csv").write_text(HEADER + first)
    notes = prepare(source(write_schema(csv_folder)), csv_folder / "prepared").manifest["notes"]
    expected = None if word == "True" else "True, true are different categories; write them in one way"
    assert notes.get("booleans in item") == expected
