"""Staged folders: the bytes that the raw files give, and everything that is refused."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import polars as pl
import pytest
import yaml
from numpy.testing import assert_allclose

from datasets.catalog import find_dataset, prepare_dataset
from datasets.prepared import PreparedDataset
from datasets.staged.folder import time_name, time_of_name
from files.errors import InputError
from tests.datasets.staged.conftest import (
    change_manifest,
    state_files,
    use_staged,
    write_manifest,
    write_raw,
    write_staged,
)


def prepared(schema_file: Path, cache: Path) -> PreparedDataset:
    return prepare_dataset(schema_file, {}, None, cache, shard_rows=13)


def contents(folder: Path) -> dict[str, bytes]:
    """Every file but the one that remembers when others were hashed."""
    files = (path for path in folder.rglob("*") if path.is_file() and path.name != "verified.json")
    return {str(path.relative_to(folder)): path.read_bytes() for path in files}


def test_a_staged_folder_prepares_to_the_bytes_that_the_raw_files_give_and_stays_as_it_is(tmp_path, rows):
    schema_file = write_raw(tmp_path, rows)
    of_raw = prepared(schema_file, tmp_path / "raw")
    write_staged(schema_file, rows, tmp_path / "staged")
    before = contents(tmp_path / "staged")
    for file in tmp_path.glob("?.parquet"):  # they are needed no more
        file.unlink()
    of_staged = prepared(use_staged(schema_file, tmp_path / "staged"), tmp_path / "cache")
    assert of_staged.path.name == of_raw.path.name
    assert contents(of_staged.path) == contents(of_raw.path)
    assert {"manifest.json", "users.parquet", "vocabulary/item.parquet"} <= contents(of_raw.path).keys()
    assert contents(tmp_path / "staged") == before


FEW = {
    "name": "few",
    "features": [
        {"name": "ad", "kind": "categorical", "group": "item", "hash_buckets": 5},
        {"name": "word", "kind": "categorical", "group": "item", "min_count": 2},
        {"name": "vec", "kind": "vector", "group": "item", "length": 2},
    ],
    "tasks": [{"name": "y"}],
    "user_id": False,
    "split": {"by": "column", "column": "part"},
}


def test_tables_without_users_and_time_and_with_hashed_ids_and_vectors_give_the_same_bytes_too(tmp_path):
    table = pl.DataFrame({
        "ad": list(range(12)),
        "word": ["b", "a", "b", "c", None, "a", "b", "x", "a", "b", None, "b"],
        "vec": [[0.5, n] if n % 5 else None for n in range(12)],
        "y": [0, 1] * 6,
        "part": ["test", *["train"] * 7, *["valid", "test"] * 2],
    })  # fmt: skip
    table.write_parquet(tmp_path / "few.parquet")
    (tmp_path / "schema.yaml").write_text(yaml.safe_dump(FEW))
    typed = {"vec": pl.List(pl.Float64), "y": pl.Float64}
    staged = table.cast(typed).rename({"y": "@label.y", "part": "@split"})  # type: ignore[arg-type]
    for split in ("train", "valid", "test"):
        (tmp_path / "staged" / split).mkdir(parents=True)
        part = staged.filter(pl.col("@split") == split)
        part.write_parquet(tmp_path / "staged" / split / "0.parquet")
    (tmp_path / "staged" / "counts" / "word").mkdir(parents=True)
    counts = pl.DataFrame({"value": ["a", "b", "c", "x"], "count": [2, 2, 1, 1]})
    counts.write_parquet(tmp_path / "staged" / "counts" / "word" / "0.parquet")
    vectors = staged.filter(pl.col("@split") == "train")["vec"].drop_nulls().to_list()
    moments = []
    for component in range(2):
        numbers = pl.Series([vector[component] for vector in vectors]).to_numpy()
        squares = float(((numbers - numbers.mean()) ** 2).sum())
        moments.append({"number": len(numbers), "mean": float(numbers.mean()), "squares": squares})
    (tmp_path / "staged" / "moments.json").write_text(json.dumps({"vec": moments}))
    rows = {"train": 7, "valid": 2, "test": 3}
    write_manifest(tmp_path / "schema.yaml", tmp_path / "staged", rows, time=None, notes=None)
    of_raw = prepared(tmp_path / "schema.yaml", tmp_path / "raw")
    of_staged = prepared(use_staged(tmp_path / "schema.yaml", tmp_path / "staged"), tmp_path / "cache")
    found, expected = contents(of_staged.path), contents(of_raw.path)
    assert {name for name in expected if found[name] != expected[name]} == {"manifest.json"}
    assert of_staged.manifest["hashing"] == of_raw.manifest["hashing"]
    assert of_staged.manifest["coverage"] == of_raw.manifest["coverage"]
    assert of_staged.fingerprint != of_raw.fingerprint
    assert of_staged.manifest["notes"] == {"staged folder": "staged", "staged with": "python 3"}


def test_moments_that_were_summed_in_another_order_give_the_same_data_up_to_rounding(tmp_path, rows):
    schema_file = write_raw(tmp_path, rows)
    write_staged(schema_file, rows, tmp_path / "staged", origin=False)
    change_json(
        tmp_path / "staged" / "moments.json",
        lambda found: found["price"][0].update(mean=found["price"][0]["mean"] * (1 + 1e-13)),
    )
    state_files(tmp_path / "staged")
    of_raw = prepared(schema_file, tmp_path / "cache")
    of_staged = prepared(use_staged(schema_file, tmp_path / "staged"), tmp_path / "cache")
    assert of_staged.manifest["normalization"] != of_raw.manifest["normalization"]
    for split in ("train", "valid", "test"):
        found, expected = (each.columns(split, ["price"])["price"] for each in (of_staged, of_raw))
        assert_allclose(found, expected, rtol=1e-6, atol=1e-6)


# --- what is refused ----------------------------------------------------------------------------


def change_json(file: Path, change: Callable[[dict], object]) -> None:
    content = json.loads(file.read_text())
    change(content)
    file.write_text(json.dumps(content))


def in_row(row: int, column: str, value: object) -> pl.Expr:
    kept = pl.col(column)
    return pl.when(pl.int_range(pl.len()) == row).then(pl.lit(value)).otherwise(kept).alias(column)


def rewrite(name: str, change: Callable[[pl.DataFrame], pl.DataFrame]) -> Callable[[Path], None]:
    return lambda folder: change(pl.read_parquet(folder / name)).write_parquet(folder / name)


def cell(row: int, column: str, value: object, name: str = "train/000017.parquet") -> Callable[[Path], None]:
    return rewrite(name, lambda frame: frame.with_columns(in_row(row, column, value)))


def moments(change: Callable[[dict], object]) -> Callable[[Path], None]:
    return lambda folder: change_json(folder / "moments.json", change)


def count(
    row: int, column: str, value: object, name: str = "counts/item/1.parquet"
) -> Callable[[Path], None]:
    return cell(row, column, value, name)


def user(name: str) -> Callable[[Path], None]:
    """The users as text, the second of a file being ``name``."""

    def change(folder: Path) -> None:
        for file in folder.glob("*/000*.parquet"):
            rewrite(str(file.relative_to(folder)), lambda frame: frame.cast({"@user": pl.String}))(folder)
        cell(1, "@user", name)(folder)

    return change


def swap_names(folder: Path) -> None:
    for old, new in (("000000", "x"), ("000017", "000000"), ("x", "000017")):
        (folder / "train" / f"{old}.parquet").rename(folder / "train" / f"{new}.parquet")


def in_days(folder: Path) -> None:
    """The times as days since 1970, the last of which a date cannot hold."""
    change_manifest(folder, lambda manifest: manifest | {"time": "date"})
    last = str(sorted((folder / "test").glob("*.parquet"))[-1].relative_to(folder))
    rewrite(last, lambda frame: frame.with_columns(in_row(frame.height - 1, "@time", 2**31)))(folder)


def move_a_row_to_validation(folder: Path) -> None:
    """The last row of training becomes the first of validation, and the manifest says so."""
    last = sorted((folder / "train").glob("*.parquet"))[-1]
    train, valid = pl.read_parquet(last), pl.read_parquet(folder / "valid" / "000000.parquet")
    train[:-1].write_parquet(last)
    pl.concat([train[-1:], valid]).write_parquet(folder / "valid" / "000000.parquet")
    manifest = json.loads((folder / "manifest.json").read_text())["rows"]
    rows = manifest | {"train": manifest["train"] - 1, "valid": manifest["valid"] + 1}
    change_manifest(folder, lambda content: content | {"rows": rows})


def move_a_count(folder: Path) -> None:
    """The sum stays, and a category that training rows have is no longer counted."""
    file = folder / "counts" / "item" / "1.parquet"
    counts = pl.read_parquet(file)
    last = counts["count"][-1]
    counts[:-1].with_columns(in_row(0, "count", counts["count"][0] + last)).write_parquet(file)


ROWS = {
    "a row is gone": (
        rewrite("train/000017.parquet", lambda frame: frame[1:]), r"train: has \d+ rows, and manifest.json"
    ),
    "a row is unsorted": (
        rewrite("train/000017.parquet", lambda frame: frame.reverse()),
        r"train/000017.parquet: its rows are not in the order of '@time'",
    ),
    "files are unsorted": (
        swap_names, r"train/000017.parquet: begins at time \d+, and the file before it ends at \d+"
    ),
    "a time is beyond all dates": (in_days, "column '@time' holds [0-9]+ to 2147483648, beyond the days"),
    "a time is empty": (cell(2, "@time", None), "train/000017.parquet: column '@time' is empty"),
    "a row is in another split": (
        move_a_row_to_validation, r"valid/000000.parquet: row 0 .* belongs to train by the schema's split"
    ),
    "a column is gone": (
        rewrite("test/000000.parquet", lambda frame: frame.drop("price")),
        "test/000000.parquet: column 'price' is missing",
    ),
    "a column is added": (
        rewrite("test/000000.parquet", lambda frame: frame.with_columns(more=1)),
        "test/000000.parquet: column 'more' is no staged column",
    ),
    "a type is narrower": (
        rewrite("train/000017.parquet", lambda frame: frame.cast({"price": pl.Float32})),
        "train/000017.parquet: column 'price' holds Float32, not Float64",
    ),
    "a type changes": (
        rewrite("train/000017.parquet", lambda frame: frame.cast({"city": pl.String, "member": pl.String})),
        "train/000017.parquet: columns or types differ from those of .*train/000000.parquet",
    ),
    "a label is neither 0 nor 1": (
        cell(3, "@label.click", 2.0), r"train/000017.parquet: task 'click': .* in row 3 .*: 2\.0"
    ),
    "a user is empty": (cell(1, "@user", None), "train/000017.parquet: user_id: .* is empty in row 1"),
    "a user is empty text": (user(""), "train/000017.parquet: column '@user' holds text that is .* row 1"),
    "a user has space around it": (user(" 7"), "column '@user' holds text that is empty or has space"),
    "a number is NaN": (
        cell(4, "price", float("nan")), "train/000017.parquet: column 'price' holds a number that is not"
    ),
    "a list is null": (
        cell(4, "tags", pl.Series([None], dtype=pl.List(pl.String))), "column 'tags' holds a null"
    ),
    "a list is too long": (
        cell(4, "history", pl.Series([[1, 2, 3, 4]])), r"'history' holds a list of over 3 elements in row 4"
    ),
    "a multi-hot has a null": (
        cell(4, "tags", pl.Series([["a", None]])), "column 'tags' holds a list with a null"
    ),
    "a category is empty text": (
        cell(4, "city", ""), "train/000017.parquet: column 'city' holds text that is empty"
    ),
    "an element has space around it": (
        cell(4, "tags", pl.Series([["a "]])), "column 'tags' holds text that is empty or has space around it"
    ),
}  # fmt: skip


def damage_counts(folder: Path) -> None:
    """What follows the first four bytes is the header of a page."""
    file = folder / "counts" / "item" / "1.parquet"
    content = file.read_bytes()
    file.write_bytes(content[:4] + b"\xff" * 30 + content[34:])


COUNTED = {
    "a page is damaged": (damage_counts, "counts/item/1.parquet: cannot be read .*stage the table again"),
    "a count is too high": (
        count(0, "count", 1000), r"counts/item: its counts add up to [\d,]+, and the training rows have"
    ),
    "a category is left out": (
        rewrite("counts/city/1.parquet", lambda frame: frame[1:]), "counts/city: its counts add up to"
    ),
    "a category comes twice": (
        rewrite("counts/item/1.parquet", lambda frame: pl.concat([frame[:1], frame])),
        "counts/item/1.parquet: category 2 comes after 2; give each category once",
    ),
    "a category comes twice in two files": (
        count(0, "value", 1), "counts/item/1.parquet: category 1 comes after 1"
    ),
    "a category is null": (count(0, "value", None), "counts/item/1.parquet: has an empty category"),
    "a count is 0": (count(0, "count", 0), "counts/item/1.parquet: has an empty category or a count below 1"),
    "categories are of another type": (
        rewrite("counts/item/0.parquet", lambda frame: frame.cast({"value": pl.String})),
        r"counts/item/0.parquet: holds value \(String\), count \(Int64\); write columns value \(Int64\)",
    ),
    "a category's count is given to another": (
        move_a_count, "counts/item: some category's count is not that of the training rows"
    ),
    "a moment is not finite": (
        moments(lambda found: found["price"][0].update(mean=float("nan"))),
        r"moments.json: price.0.*: .*finite|moments.json: feature 'price': mean nan",
    ),
    "moments lack a feature": (
        moments(lambda found: found.pop("price")), "moments.json: feature 'price': component 0 is missing"
    ),
    "moments have a feature too many": (
        moments(lambda found: found.update(raw=found["price"])),
        "moments.json: feature 'raw': component 0 is not one of the schema",
    ),
    "moments count missing numbers": (
        moments(lambda found: found["price"][0].update(number=found["price"][0]["number"] + 1)),
        r"moments.json: feature 'price': number is \d+, and the training rows have \d+ numbers",
    ),
    "a mean is that of other rows": (
        moments(lambda found: found["price"][0].update(mean=found["price"][0]["mean"] + 0.01)),
        "moments.json: feature 'price': mean is",
    ),
    "squares are a variance": (
        moments(lambda found: found["price"][0].update(
            squares=found["price"][0]["squares"] / found["price"][0]["number"]
        )),
        "moments.json: feature 'price': squares, the sum of squared deviations",
    ),
}  # fmt: skip

REFUSED = ROWS | COUNTED


@pytest.mark.parametrize("what", REFUSED)
def test_a_folder_is_refused_where(tmp_path, rows, what):
    change, told = REFUSED[what]
    schema_file = write_raw(tmp_path, rows)
    write_staged(schema_file, rows, tmp_path / "staged")
    change(tmp_path / "staged")
    state_files(tmp_path / "staged")
    with pytest.raises(InputError, match=told):
        prepared(use_staged(schema_file, tmp_path / "staged"), tmp_path / "cache")
    assert [path.name for path in (tmp_path / "cache").iterdir() if path.suffix != ".lock"] == []


def cut(folder: Path) -> None:
    file = folder / "train" / "000017.parquet"
    file.write_bytes(file.read_bytes()[:-100])


def add(folder: Path) -> None:
    (folder / "train" / "more.parquet").write_bytes((folder / "train" / "000017.parquet").read_bytes())


def of_manifest(**changes: object) -> Callable[[Path], None]:
    return lambda folder: change_manifest(folder, lambda manifest: manifest | changes)


NOT_AS_STATED = {
    "a file is cut": (cut, "train/000017.parquet: is not the file that manifest.json describes"),
    "a file is added": (add, "train/more.parquet: is not in manifest.json"),
    "a file is gone": (
        lambda folder: (folder / "train" / "000017.parquet").unlink(), "train/000017.parquet: is missing"
    ),
    "moments are gone": (lambda folder: (folder / "moments.json").unlink(), "moments.json: is missing"),
    "the manifest is gone": (
        lambda folder: (folder / "manifest.json").unlink(), "manifest.json: is missing; give the folder"
    ),
    "the manifest is no JSON": (lambda folder: (folder / "manifest.json").write_text("{"), "manifest.json"),
    "the format is another": (of_manifest(format=2), "manifest.json: has format 2"),
    "the schema is another": (of_manifest(schema="0" * 16), "manifest.json: schema is 0000000000000000"),
    "rows are wrong": (of_manifest(rows={"train": 1, "valid": 1, "test": 1}), "train: has"),
    "rows lack a split": (of_manifest(rows={"train": 1}), "manifest.json: rows: has other splits"),
    "the time has no type": (of_manifest(time=None), "manifest.json: time is None, and that of the schema"),
    "the time's type is unknown": (of_manifest(time="int32"), "manifest.json: time is 'int32'; give one of"),
    "the time's zone is unknown": (
        of_manifest(time="datetime[us, Nowhere/Town]"),
        r"manifest.json: time is 'datetime\[us, Nowhere/Town\]'; give one of",
    ),
    "the reading is another": (
        of_manifest(origin={"files": [], "reading": 1, "notes": {}}), "manifest.json: the raw files were read"
    ),
    "moments are not stated": (of_manifest(files={}), "manifest.json: files: lacks moments.json"),
    "a field is unknown": (of_manifest(row=3), "manifest.json: row: is not a known field"),
}  # fmt: skip


@pytest.mark.parametrize("what", NOT_AS_STATED)
def test_a_folder_that_is_not_as_its_manifest_says_is_refused_where(tmp_path, rows, what):
    change, told = NOT_AS_STATED[what]
    schema_file = write_raw(tmp_path, rows)
    write_staged(schema_file, rows, tmp_path / "staged")
    change(tmp_path / "staged")
    with pytest.raises(InputError, match=told):
        prepared(use_staged(schema_file, tmp_path / "staged"), tmp_path / "cache")


@pytest.mark.parametrize(
    ("name", "dtype"),
    [
        ("int64", pl.Int64()),
        ("float64", pl.Float64()),
        ("date", pl.Date()),
        ("datetime[ms]", pl.Datetime("ms")),
        ("datetime[us, UTC]", pl.Datetime("us", "UTC")),
        ("datetime[ns, America/New_York]", pl.Datetime("ns", "America/New_York")),
    ],
)
def test_a_times_type_is_written_and_read_by_its_name(name, dtype):
    assert time_name(dtype) == name
    assert time_of_name(name) == dtype


def test_a_folder_that_changes_while_it_is_read_is_refused(tmp_path, rows):
    schema_file = write_raw(tmp_path, rows)
    write_staged(schema_file, rows, tmp_path / "staged")
    named = use_staged(schema_file, tmp_path / "staged")
    _, identity, make_source = find_dataset(named, {}, None)
    with (tmp_path / "staged" / "train" / "000017.parquet").open("ab") as file:
        file.write(b" ")
    with pytest.raises(InputError, match=r"train/000017\.parquet: was changed while it was read"):
        make_source(tmp_path).check_unchanged()
    assert identity["files"][0]["name"] == "0.parquet"
