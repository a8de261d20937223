"""Vector features, from the raw lists to batches, against numpy; and what is refused."""

from __future__ import annotations

import json
import math
from pathlib import Path

import numpy as np
import polars as pl
import pytest
import yaml

from datasets.catalog import prepare_dataset
from datasets.describe import describe
from datasets.prepare import encode as prepare_encode
from datasets.prepare import stage as prepare_stage
from datasets.prepare.pipeline import prepare
from datasets.prepared import PreparedDataset
from datasets.reader import ShardReader
from datasets.schema import Schema
from datasets.source import Source
from files.errors import InputError

ROWS, LENGTH, TRAIN = 400, 3, 320


def schema(normalization: str) -> Schema:
    """A number before the vector and one after it, so that the vector stands between columns."""
    return Schema.model_validate({
        "name": "vectors",
        "features": [
            {"name": "age", "kind": "numeric", "group": "user", "normalization": "none"},
            {"name": "item", "kind": "categorical", "group": "item"},
            {"name": "picture", "kind": "vector", "group": "item", "length": LENGTH,
             "normalization": normalization},
            {"name": "price", "kind": "numeric", "group": "item", "normalization": "none"},
        ],
        "tasks": [{"name": "y"}],
        "user_id": "user",
        "time": "t",
        "split": {"by": "fraction", "valid": 0.1, "test": 0.1},
    })  # fmt: skip


def table(vectors: list) -> pl.DataFrame:
    numbers = range(len(vectors))
    return pl.DataFrame({
        "user": [number % 7 for number in numbers],
        "item": [number % 5 for number in numbers],
        "age": [float(number) for number in numbers],
        "price": [-float(number) for number in numbers],
        "y": [number % 2 for number in numbers],
        "t": list(numbers),
        "picture": pl.Series(vectors, dtype=pl.List(pl.Float64)),
    })  # fmt: skip


def random_vectors(seed: int = 0) -> list:
    """Components of different scales; some vectors null, empty, or without any number."""
    rng = np.random.default_rng(seed)
    vectors: list = (rng.normal(size=(ROWS, LENGTH)) * [1.0, 100.0, 0.01] + [0.0, -50.0, 7.0]).tolist()
    for row in range(0, ROWS, 9):
        vectors[row] = [None, [], [math.nan] * LENGTH, [None] * LENGTH][row // 9 % 4]
    return vectors


def prepare_table(folder, frame: pl.DataFrame, normalization: str = "standard") -> PreparedDataset:
    source = Source(schema(normalization), frame.lazy(), {"table": "vectors"})
    return prepare(source, folder / f"prepared-{normalization}")


def expected_dense(vectors: list, normalization: str) -> np.ndarray:
    """(rows, 5): age, three normalised components, price."""
    known = np.array(
        [v is not None and len(v) > 0 and not np.isnan(np.array(v, float)).any() for v in vectors]
    )
    raw = np.array([v if is_known else [0.0] * LENGTH for v, is_known in zip(vectors, known, strict=True)])
    if normalization == "log1p":
        raw = np.sign(raw) * np.log1p(np.abs(raw))
    if normalization != "none":
        train = raw[:TRAIN][known[:TRAIN]]
        raw = np.clip((raw - train.mean(axis=0)) / train.std(axis=0), -10, 10)
    raw[~known] = 0.0
    numbers = np.arange(len(vectors), dtype=float)[:, None]
    return np.hstack([numbers, raw, -numbers]).astype(np.float32)


@pytest.mark.parametrize("normalization", ["standard", "log1p", "none"])
def test_a_batch_holds_the_normalised_components_between_its_numeric_neighbours(
    tmp_path, monkeypatch, normalization
):
    monkeypatch.setattr(prepare_stage, "RUN_ROWS", 70)
    monkeypatch.setattr(prepare_encode, "ROW_GROUP_ROWS", 11)
    vectors = random_vectors()
    prepared = prepare_table(tmp_path, table(vectors), normalization)
    read = np.concatenate([
        batch.dense.numpy()
        for split in ("train", "valid", "test")
        for batch in ShardReader(prepared, split, 32, ["y"], window_rows=50).batches()
    ])  # fmt: skip
    np.testing.assert_allclose(read, expected_dense(vectors, normalization), rtol=1e-6, atol=1e-6)


@pytest.mark.parametrize("window_rows", [30, 70])
def test_a_short_last_window_may_follow_one_that_ends_with_a_row_group(tmp_path, monkeypatch, window_rows):
    monkeypatch.setattr(prepare_encode, "ROW_GROUP_ROWS", 10)
    vectors = random_vectors()
    prepared = prepare_table(tmp_path, table(vectors))
    reader = ShardReader(prepared, "train", 16, ["y"], window_rows=window_rows)
    read = np.concatenate([batch.dense.numpy() for batch in reader.batches()])
    np.testing.assert_allclose(read, expected_dense(vectors, "standard")[:TRAIN], rtol=1e-6, atol=1e-6)


def test_a_shuffled_window_keeps_a_vector_with_its_row(tmp_path):
    vectors = random_vectors()
    prepared = prepare_table(tmp_path, table(vectors))
    expected = expected_dense(vectors, "standard")
    for batch in ShardReader(prepared, "train", 64, ["y"], shuffle_seed=3).batches():
        rows = batch.dense[:, 0].long().numpy()
        np.testing.assert_allclose(batch.dense.numpy(), expected[rows], rtol=1e-6, atol=1e-6)


def test_a_vector_is_no_column_of_single_values(tmp_path):
    prepared = prepare_table(tmp_path, table(random_vectors()))
    assert prepared.columns("train", ["age"])["age"].shape == (TRAIN,)
    with pytest.raises(InputError, match=r"no column 'picture' of single values: choose from age, .*price"):
        prepared.columns("train", ["age", "picture"])


def test_missing_vectors_are_counted(tmp_path):
    fields = describe(prepare_table(tmp_path, table(random_vectors()))).fields
    row = fields.filter(pl.col("name") == "picture").row(0, named=True)
    assert row["missing_train"] == pytest.approx(len(range(0, TRAIN, 9)) / TRAIN)
    assert (row["vocabulary"], row["categories"], row["unseen_test"]) == (None, None, None)


def test_a_fixed_size_list_of_float32_is_a_vector_too(tmp_path):
    vectors = np.random.default_rng(1).normal(size=(ROWS, LENGTH)).astype(np.float32)
    frame = table(vectors.tolist()).with_columns(
        picture=pl.Series(vectors, dtype=pl.Array(pl.Float32, LENGTH))
    )
    prepared = prepare_table(tmp_path, frame)
    [first, *_] = ShardReader(prepared, "train", 50, ["y"]).batches()
    expected = expected_dense(vectors.tolist(), "standard")[:50]
    np.testing.assert_allclose(first.dense.numpy(), expected, rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize(
    ("row", "vector", "words"),
    [
        (250, [1.0, 2.0], ["list of 2", "row 250", "length 3"]),
        (3, [1.0, 2.0, 3.0, 4.0], ["list of 4", "row 3 ", "length 3"]),
        (7, [1.0, None, 2.0], ["lacks a number", "row 7 "]),
        (7, [1.0, math.nan, 2.0], ["lacks a number", "row 7 "]),
        (399, [1.0, math.inf, 2.0], ["too large", "row 399 "]),
        (399, [1.0, 1e300, 2.0], ["too large", "row 399 "]),
    ],
)
def test_a_list_that_is_not_the_vector_is_refused_with_its_row(tmp_path, monkeypatch, row, vector, words):
    monkeypatch.setattr(prepare_stage, "RUN_ROWS", 100)
    vectors = random_vectors()
    vectors[row] = vector
    with pytest.raises(InputError) as error:
        prepare_table(tmp_path, table(vectors))
    message = str(error.value)
    assert all(word in message for word in ["'picture'", *words]), message


@pytest.mark.parametrize("values", [[1.0] * ROWS, [["a"]] * ROWS])
def test_a_column_without_lists_of_numbers_is_refused(tmp_path, values):
    frame = table([None] * ROWS).with_columns(picture=pl.Series(values))
    with pytest.raises(InputError, match=r"'picture' holds .*, not lists of numbers"):
        prepare_table(tmp_path, frame)


# ------------------------------------------------------------------ as text

NOTATIONS = {
    "csv": lambda v: f'"[{", ".join(map(str, v))}]"',
    "spaced": lambda v: f"[{' '.join(map(str, v))}]",
    "separated": lambda v: "|".join(map(str, v)),
}


def write_text(folder: Path, notation: str, vectors: list, last: str | None = None) -> Path:
    lines = ["user,item,age,price,y,t,picture"]
    for row, values in enumerate(vectors):
        written = "" if values is None else NOTATIONS[notation](values)
        written = last if last is not None and row == len(vectors) - 1 else written
        lines.append(f"{row % 7},{row % 5},{row},{-row},{row % 2},{row},{written}")
    (folder / "log.csv").write_text("\n".join(lines) + "\n")
    return write_schema(folder, "log.csv", notation == "separated")


def write_schema(folder: Path, files: str, is_separated: bool = False) -> Path:
    content = schema("standard").model_dump(mode="json") | {"files": [files]}
    if is_separated:
        content["features"][2]["separator"] = "|"
    (folder / "schema.yaml").write_text(yaml.safe_dump(content))
    return folder / "schema.yaml"


def read_all(prepared: PreparedDataset) -> np.ndarray:
    readers = [ShardReader(prepared, split, 32, ["y"]) for split in ("train", "valid", "test")]
    return np.concatenate([batch.dense.numpy() for reader in readers for batch in reader.batches()])


def sometimes_missing(vectors: list) -> list:
    return [None if row % 9 == 0 else values for row, values in enumerate(vectors)]


@pytest.mark.parametrize("notation", NOTATIONS)
def test_a_vector_may_be_written_as_text(tmp_path, notation):
    vectors = sometimes_missing(np.random.default_rng(2).normal(size=(ROWS, LENGTH)).round(4).tolist())
    path = write_text(tmp_path, notation, vectors)
    prepared = prepare_dataset(str(path), {}, None, tmp_path / "cache")
    np.testing.assert_allclose(read_all(prepared), expected_dense(vectors, "standard"), rtol=1e-5, atol=1e-5)


def test_a_vector_may_be_a_list_of_json_lines(tmp_path):
    vectors = sometimes_missing(np.random.default_rng(2).normal(size=(ROWS, LENGTH)).round(4).tolist())
    rows = [row | {"picture": v} for row, v in zip(table(vectors).to_dicts(), vectors, strict=True)]
    (tmp_path / "log.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    prepared = prepare_dataset(str(write_schema(tmp_path, "log.jsonl")), {}, None, tmp_path / "cache")
    np.testing.assert_allclose(read_all(prepared), expected_dense(vectors, "standard"), rtol=1e-5, atol=1e-5)


def test_files_whose_vectors_are_float32_and_float64_are_one_table(tmp_path):
    vectors = np.random.default_rng(2).normal(size=(ROWS, LENGTH)).astype(np.float32)
    whole = table(vectors.tolist())
    whole[:200].with_columns(pl.col("picture").cast(pl.Array(pl.Float32, LENGTH))).write_parquet(
        tmp_path / "a.parquet"
    )
    whole[200:].write_parquet(tmp_path / "b.parquet")
    prepared = prepare_dataset(str(write_schema(tmp_path, "*.parquet")), {}, None, tmp_path / "cache")
    expected = expected_dense(vectors.tolist(), "standard")
    np.testing.assert_allclose(read_all(prepared), expected, rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize(
    ("last", "words"),
    [
        ('"[1.0, x, 2.0]"', ["log.csv: line 401", "'[1.0, x, 2.0]'", "no list of numbers", "'picture'"]),
        ('"[1.0, 2.0]"', ["list of 2", "row 399", "length 3"]),
    ],
)
def test_text_that_is_no_vector_is_refused(tmp_path, last, words):
    vectors = np.random.default_rng(2).normal(size=(ROWS, LENGTH)).tolist()
    with pytest.raises(InputError) as error:
        prepare_dataset(str(write_text(tmp_path, "csv", vectors, last)), {}, None, tmp_path / "cache")
    assert all(word in str(error.value) for word in words), str(error.value)
