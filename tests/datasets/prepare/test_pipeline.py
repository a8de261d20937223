"""Preparation against the same thing in plain Python, and what it refuses."""

from __future__ import annotations

import errno
import math
import multiprocessing
import os
from datetime import UTC, datetime
from pathlib import Path

import numpy as np
import polars as pl
import pyarrow.parquet as pq
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from datasets.prepare import encode as prepare_encode
from datasets.prepare import order
from datasets.prepare import pipeline as prepare_module
from datasets.prepare import stage as prepare_stage
from datasets.prepare.pipeline import prepare
from datasets.prepare.vocabulary import Vocabulary
from datasets.prepared import PreparedDataset, open_prepared
from datasets.schema import Schema
from datasets.source import Source
from files import locks
from files.errors import InputError
from files.locks import locked
from files.verified import VERIFIED_FILE
from tests.datasets.conftest import (
    TABLES,
    example_frame,
    example_rows,
    example_source,
    expected_indices,
    expected_number,
    expected_splits,
    expected_vocabularies,
    number_of,
    prepare_example,
)


def shards(prepared: PreparedDataset, split: str) -> pl.DataFrame:
    return pl.concat([pl.read_parquet(prepared.path / shard["file"]) for shard in prepared.shards(split)])


def table_source(columns: dict, features: list[dict], identity: str = "t", **schema: object) -> Source:
    """A little table with a label, a user and a time, all of which ``columns`` may replace."""
    rows = len(next(iter(columns.values())))
    usual = {"user": [1] * rows, "y": [number % 2 for number in range(rows)], "t": list(range(rows))}
    content = {
        "name": "little",
        "features": features,
        "tasks": [{"name": "y"}],
        "user_id": "user",
        "time": "t",
    }
    content["split"] = {"by": "fraction", "valid": 0.25, "test": 0.25}
    frame = pl.DataFrame(usual | columns, strict=False).lazy()
    return Source(Schema.model_validate(content | schema), frame, {"table": identity})


ITEM = [{"name": "item", "kind": "categorical", "group": "item"}]


# --- content ------------------------------------------------------------------------------------


@settings(max_examples=5, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(seed=st.integers(0, 10**6), rows=st.integers(60, 140))
def test_every_prepared_row_is_the_raw_row_encoded_by_hand(tiny_steps, tmp_path_factory, seed, rows):
    table = example_rows(rows, seed)
    prepared = prepare_example(tmp_path_factory.mktemp("content"), table, shard_rows=11)
    splits = expected_splits(table)
    vocabularies = expected_vocabularies(splits["train"])
    assert prepared.table_sizes == {table: 2 + len(values) for table, values in vocabularies.items()}
    assert prepared.rows == {split: len(rows) for split, rows in splits.items()}
    for split, expected in splits.items():
        found = shards(prepared, split)
        assert found["time"].to_list() == [row["when"] for row in expected]
        for features in TABLES.values():
            for name in features:
                wanted = [expected_indices(name, row, vocabularies) for row in expected]
                got = found[name].to_list()
                assert [value if isinstance(value, list) else [value] for value in got] == wanted
        for name in ("price", "balance", "raw"):
            wanted_numbers = [expected_number(name, row, splits["train"]) for row in expected]
            np.testing.assert_allclose(found[name].to_numpy(), wanted_numbers, rtol=1e-5, atol=1e-5)
        clicks = [None if math.isnan(label) else label for label in found["label_click"]]
        assert clicks == [row["click"] for row in expected]
        assert found["label_skip"].to_list() == [float(row["was_skipped"]) for row in expected]
        assert found["probability_click"].to_list() == [row["chance"] for row in expected]
        baseline = [None if math.isnan(value) else value for value in found["baseline"]]
        assert baseline == [row["raw"] for row in expected]


def test_a_value_that_only_validation_or_test_has_is_unseen(tmp_path):
    prepared = prepare(table_source({"item": ["a"] * 6 + ["b", "a", "c", None]}, ITEM), tmp_path / "p")
    assert shards(prepared, "valid")["item"].to_list() == [1, 2]
    assert shards(prepared, "test")["item"].to_list() == [1, 0]
    assert prepared.table_sizes == {"item": 3}


def test_min_count_and_max_size_keep_the_frequent_values(tmp_path):
    values = ["a"] * 4 + ["c"] * 3 + ["b"] * 3 + ["d"] * 2 + ["e"] + ["f"] * 13
    features = [{**ITEM[0], "min_count": 2, "max_size": 3}]
    source = table_source({"item": values}, features, split={"by": "time", "valid_from": 13, "test_from": 20})
    prepared = prepare(source, tmp_path / "p")
    learned = pl.read_parquet(prepared.path / "vocabulary" / "item.parquet")
    assert learned.rows() == [("a", 4, 2), ("b", 3, 3), ("c", 3, 4)]
    assert set(shards(prepared, "train")["item"]) == {1, 2, 3, 4}


def test_ids_match_across_columns_of_integers_floats_and_text(tmp_path):
    features = [
        {"name": name, "kind": "categorical", "group": "item", "vocabulary": "id"} for name in ("a", "b", "c")
    ]
    features.append({"name": "d", "kind": "sequence", "group": "item", "vocabulary": "id", "separator": ","})
    columns = {
        "a": [7, 8] * 4,
        "b": [7.0, 8.0] * 4,
        "c": ["7", "8"] * 4,
        "d": ["7, 8", "8,,7", "", None] * 2,
    }
    prepared = prepare(table_source(columns, features), tmp_path / "p")
    train = shards(prepared, "train")
    assert train["a"].to_list() == train["b"].to_list() == train["c"].to_list()
    seven, eight = train["a"].to_list()[:2]
    assert train["d"].to_list() == [[seven, eight], [eight, 0, seven], [], []]


def test_integers_beyond_float_precision_stay_apart(tmp_path):
    big = 2**60
    features = [{"name": "item", "kind": "categorical", "group": "item"}]
    prepared = prepare(table_source({"item": [big, big + 1] * 4}, features), tmp_path / "p")
    assert prepared.table_sizes == {"item": 4}


def test_normalisation_constants_come_from_training_rows_only(tiny_steps, tmp_path):
    rows = example_rows(200, seed=4)
    constants = prepare_example(tmp_path, rows).manifest["normalization"]
    train = expected_splits(rows)["train"]
    assert set(constants) == {"price", "balance"}
    for name, found in constants.items():
        known = np.array([number for number in (number_of(name, row) for row in train) if number is not None])
        assert found["mean"] == pytest.approx(known.mean(), rel=1e-12)
        assert found["std"] == pytest.approx(known.std(), rel=1e-12)


def test_extreme_numbers_are_clipped_and_constant_ones_are_zero(tmp_path):
    features = [{"name": name, "kind": "numeric", "group": "item"} for name in ("wild", "flat")]
    columns = {"wild": [0.0, 1.0] * 10 + [1e30] * 20, "flat": [4.0] * 40}
    prepared = prepare(table_source(columns, features), tmp_path / "p")
    assert shards(prepared, "test")["wild"].max() == 10
    assert set(shards(prepared, "test")["flat"]) == {0}


CONSTANTS = [5.0, 0.1, -3.7, 1e-300, 4.9e-8, 1 / 3, 123456.789, 1.7e9, -1.7e18, 3e30, 1e150]


def test_a_number_that_is_constant_in_training_has_deviation_one_at_every_magnitude(tmp_path, monkeypatch):
    monkeypatch.setattr(prepare_stage, "RUN_ROWS", 700)  # several runs are merged
    rows = 3000
    features, columns = [], {}
    for number, value in enumerate(CONSTANTS):
        columns[f"c{number}"] = [value] * (rows - 100) + [value * 1.002] * 100  # a little more in test
        for normalization in ("standard", "log1p"):
            named = {"name": f"{normalization}{number}", "column": f"c{number}", "kind": "numeric"}
            features.append(named | {"group": "item", "normalization": normalization})
    prepared = prepare(table_source(columns, features), tmp_path / "p")
    found = prepared.manifest["normalization"]
    assert {name: constants["std"] for name, constants in found.items()} == dict.fromkeys(found, 1.0)
    assert shards(prepared, "test")["log1p0"].max() == pytest.approx(np.log1p(5.01) - np.log1p(5.0), rel=1e-5)


def test_a_number_that_varies_little_for_its_size_keeps_its_deviation(tmp_path):
    steps = np.tile([-1.0, 1.0], 500)
    columns = {"seconds": 1.7e9 + steps, "micros": 1.7e15 + 100 * steps, "tenth": 0.1 + 1e-9 * steps}
    features = [{"name": name, "kind": "numeric", "group": "item"} for name in columns]
    prepared = prepare(table_source(columns, features), tmp_path / "p")
    deviations = {name: found["std"] for name, found in prepared.manifest["normalization"].items()}
    assert deviations == pytest.approx({"seconds": 1.0, "micros": 100.0, "tenth": 1e-9}, rel=1e-4)


@pytest.mark.parametrize("seed", range(2))
def test_a_split_by_fraction_cuts_the_sorted_times_and_never_between_equal_ones(tiny_steps, tmp_path, seed):
    rows = example_rows(150, seed)
    split = {"by": "fraction", "valid": 0.2, "test": 0.1}
    prepared = prepare(example_source(rows, split=split), tmp_path / "p")
    times = sorted(row["when"] for row in rows)
    first_valid, first_test = times[150 - 15 - 30], times[150 - 15]
    assert shards(prepared, "train")["time"].to_list() == [time for time in times if time < first_valid]
    assert shards(prepared, "valid")["time"].to_list() == [t for t in times if first_valid <= t < first_test]
    assert shards(prepared, "test")["time"].to_list() == [time for time in times if time >= first_test]


def test_rows_of_one_time_keep_the_order_of_the_source_across_runs_and_chunks(tiny_steps, tmp_path):
    rows = 200
    columns = {"item": list(range(rows)), "t": [5] * 150 + [9] * 50}
    features = [{"name": "item", "kind": "numeric", "group": "item", "normalization": "none"}]
    split = {"by": "time", "valid_from": 9, "test_from": 10}
    columns["t"][-1] = 10
    prepared = prepare(table_source(columns, features, split=split), tmp_path / "p")
    assert shards(prepared, "train")["item"].to_list() == list(range(150))
    assert shards(prepared, "valid")["item"].to_list() == list(range(150, 199))


@pytest.mark.parametrize("timed", [True, False])
def test_how_many_chunks_are_encoded_at_once_changes_no_byte(tiny_steps, tmp_path, monkeypatch, timed):
    rng = np.random.default_rng(0)
    columns = {"item": rng.integers(0, 90, 400).tolist(), "user": rng.integers(0, 60, 400).tolist()}
    columns |= {"y": rng.integers(0, 2, 400).tolist(), "t": rng.integers(0, 25, 400).tolist()}
    by_column = {"split": {"by": "column", "column": "part", "valid": "dev"}, "time": None}
    columns["part"] = ["train"] * 300 + ["dev"] * 50 + ["test"] * 50
    sizes, read = [], order.Order.read

    def measured(self: order.Order, span: tuple[int, int]) -> pl.DataFrame:
        chunk = read(self, span)
        sizes[-1].append(len(chunk))
        return chunk

    monkeypatch.setattr(order.Order, "read", measured)
    written = []
    for divisor in (1, 1000):
        sizes.append([])
        monkeypatch.setattr(order, "FAN_IN", 1000)  # or merges would read, too
        monkeypatch.setattr(prepare_module, "TABLE_ROWS_A_CHUNK_ROW", divisor)
        source = table_source(columns, ITEM, **({} if timed else by_column))
        folder = prepare(source, tmp_path / str(divisor)).path
        written.append({
            path.name: path.read_bytes()
            for path in folder.rglob("*")
            if path.is_file() and path.name != VERIFIED_FILE
        })  # fmt: skip
    assert written[0] == written[1]
    many, few = (sorted(found) for found in (sizes[1], sizes[0]))
    assert sum(many) == sum(few) == 400
    assert len(few) < len(many)
    assert few[1] >= 60  # all but the last have as many rows as the largest table has


@pytest.mark.parametrize(
    ("bounds", "times"),
    [
        (("2022-05-02", "2022-05-03"), "naive"),
        (("2022-05-02T02:00:00", "2022-05-03T02:00:00"), "zoned"),  # read in the column's zone
        (("2022-05-02T00:00:00+00:00", "2022-05-03T00:00:00+00:00"), "zoned"),
        (("2022-05-02", "2022-05-03"), "dates"),
    ],
)
def test_iso_dates_split_a_datetime_column(tmp_path, bounds, times):
    stamps = pl.Series([datetime(2022, 5, day, hour) for day in (1, 2, 3) for hour in (0, 23)])
    if times == "dates":
        stamps = stamps.cast(pl.Date)
    if times == "zoned":
        stamps = stamps.dt.replace_time_zone("UTC").dt.convert_time_zone("Europe/Berlin")
    split = {"by": "time", "valid_from": bounds[0], "test_from": bounds[1]}
    prepared = prepare(table_source({"item": list("abcdef"), "t": stamps}, ITEM, split=split), tmp_path / "p")
    assert prepared.rows == {"train": 2, "valid": 2, "test": 2}
    assert shards(prepared, "train")["time"].to_list() == stamps.to_list()[:2]
    assert shards(prepared, "train")["time"].dtype == stamps.dtype


def test_a_split_by_column_needs_no_time_and_keeps_the_order(tiny_steps, tmp_path):
    names = ["train"] * 60 + ["test"] * 20 + ["dev"] * 20
    split = {"by": "column", "column": "part", "valid": "dev"}
    source = table_source({"item": list(range(100)), "part": names}, ITEM, split=split, time=None)
    prepared = prepare(source, tmp_path / "p")
    assert prepared.rows == {"train": 60, "valid": 20, "test": 20}
    values = pl.read_parquet(prepared.path / "vocabulary" / "item.parquet").sort("index")["value"].to_list()
    assert [values[index - 2] for index in shards(prepared, "train")["item"]] == list(range(60))


def test_tiers_are_terciles_of_users_by_training_rows_and_unseen_users_are_low(tmp_path):
    users = ["rare"] * 1 + ["some"] * 3 + ["most"] * 9 + ["new"] * 5 + ["most", "some"]
    split = {"by": "time", "valid_from": 13, "test_from": 16}
    prepared = prepare(table_source({"item": users, "user": users}, ITEM, split=split), tmp_path / "p")
    known = pl.read_parquet(prepared.path / "users.parquet")
    assert known.select("value", "train_rows", "tier", "index").rows() == [
        ("most", 9, 2, 0), ("new", 0, 0, 1), ("rare", 1, 0, 2), ("some", 3, 1, 3)
    ]  # fmt: skip
    assert shards(prepared, "test")["user_index"].to_list() == [1, 1, 0, 3]
    assert shards(prepared, "test")["tier"].to_list() == [0, 0, 2, 1]


def test_a_tier_column_is_taken_as_it_is(tmp_path):
    source = table_source({"item": [1] * 8, "level": [0, 1, 2, 0, 1, 2, 0, 1]}, ITEM, tier="level")
    assert shards(prepare(source, tmp_path / "p"), "train")["tier"].to_list() == [0, 1, 2, 0]


def test_the_same_source_gives_the_same_bytes(tmp_path):
    def hashes(folder: str) -> dict:
        return prepare_example(tmp_path / folder, example_rows(500)).manifest["files"]

    assert hashes("one") == hashes("other")


def test_a_small_split_still_has_eight_shards_and_large_ones_obey_shard_rows(tmp_path):
    prepared = prepare_example(tmp_path, example_rows(400), shard_rows=20)
    assert len(prepared.shards("test")) >= 8
    assert {shard["rows"] for shard in prepared.shards("train")[:-1]} == {20}
    for split, rows in prepared.rows.items():
        assert sum(shard["rows"] for shard in prepared.shards(split)) == rows


# --- bad raw data -------------------------------------------------------------------------------

TAGS = {"name": "tags", "kind": "multi_hot", "group": "item"}
PRICE = {"name": "price", "kind": "numeric", "group": "item"}
CHANCE = {"tasks": [{"name": "y", "probability": "p"}]}
CUT = {"by": "time", "valid_from": 1, "test_from": 2}


@pytest.mark.parametrize(
    ("columns", "features", "schema", "words"),
    [
        ({"y": [0, 1, 2, 0]}, ITEM, {}, ["task 'y'", "row 2", "2.0", "derive a 0/1 label"]),
        ({"y": [0, 1, math.inf, 0]}, ITEM, {}, ["task 'y'", "row 2"]),
        ({"y": ["no", "yes", "no", "no"]}, ITEM, {}, ["task 'y'", "String", "not numbers"]),
        ({"y": [0, 0, 1, 1]}, ITEM, {}, ["task 'y'", "never 1", "training"]),
        ({"y": [None, math.nan, 1, 1]}, ITEM, {}, ["task 'y'", "never", "training"]),
        ({"user": [1, None, 2, 3]}, ITEM, {}, ["user_id", "'user'", "row 1"]),
        ({"t": [1, None, 2, 3]}, ITEM, {}, ["time", "'t'", "row 1"]),
        ({"t": ["1", "2", "3", "4"]}, ITEM, {}, ["time", "'t'", "String"]),
        ({}, [*ITEM, PRICE], {}, ["feature 'price'", "lacks", "item"]),
        ({"price": ["1", "two", "3", "4"]}, [*ITEM, PRICE], {}, ["feature 'price'", "String", "not numbers"]),
        ({"tags": ["a,b"] * 4}, [*ITEM, TAGS], {}, ["feature 'tags'", "separator"]),
        ({"tags": [1] * 4}, [*ITEM, TAGS], {}, ["feature 'tags'", "no lists", "Int64"]),
        ({"item": [[1]] * 4}, ITEM, {}, ["feature 'item'", "holds lists", "sequence"]),
        ({"item": [{"a": 1}] * 4}, ITEM, {}, ["feature 'item'", "no category"]),
        ({}, [{**ITEM[0], "name": "tier", "column": "item"}], {}, ["'tier'", "rename"]),
        ({}, ITEM, {"tier": "level"}, ["tier", "'level'", "lacks"]),
        ({"level": [0, 1, 3, 0]}, ITEM, {"tier": "level"}, ["tier", "row 2", "3.0", "terciles"]),
        ({"p": [0.5, 1.5, 0.1, 0]}, ITEM, CHANCE, ["'p'", "row 1", "1.5"]),
        ({}, ITEM, {"split": {**CUT, "valid_from": 9, "test_from": 10}}, ["valid", "no row", "split"]),
        ({}, ITEM, {"split": {**CUT, "valid_from": 3}}, ["test_from", "after"]),
        ({}, ITEM, {"split": {**CUT, "valid_from": "2022-05-01"}}, ["valid_from", "Int64"]),
        (
            {"part": ["train", "valid", "tset", "test"]}, ITEM, {"split": {"by": "column", "column": "part"}},
            ["split", "'part'", "row 2", "'tset'"],
        ),
        ({"t": [5, 5, 5, 5]}, ITEM, {}, ["train", "no row"]),
    ],
)  # fmt: skip
def test_bad_raw_data_is_refused_naming_the_field_and_the_mend(tmp_path, columns, features, schema, words):
    source = table_source({"item": [1, 2, 3, 4]} | columns, features, **schema)
    with pytest.raises(InputError) as error:
        prepare(source, tmp_path / "p")
    message = str(error.value)
    assert all(word in message for word in ["little", *words]), message
    assert "\n" not in message
    assert not (tmp_path / "p").exists()
    assert not list(tmp_path.glob("*.partial"))


def test_datetime_bounds_that_are_no_dates_are_refused(tmp_path):
    stamps = [datetime(2022, 5, day) for day in (1, 2, 3, 4)]
    for bound, word in (("yesterday", "ISO date"), (3, "quoted ISO date")):
        split = {"by": "time", "valid_from": bound, "test_from": "2022-05-04"}
        with pytest.raises(InputError, match=f"split.valid_from.*{word}"):
            prepare(table_source({"item": [1] * 4, "t": stamps}, ITEM, split=split), tmp_path / "p")
    split = {"by": "time", "valid_from": datetime.now(UTC).isoformat(), "test_from": "2023-01-01"}
    with pytest.raises(InputError, match="time zone"):
        prepare(table_source({"item": [1] * 4, "t": stamps}, ITEM, split=split), tmp_path / "p")


def test_an_empty_table_is_refused(tmp_path):
    source = table_source({"item": [1, 2]}, ITEM)
    empty = Source(source.schema, source.frame.filter(pl.col("item") > 5), {})
    with pytest.raises(InputError, match="no rows"):
        prepare(empty, tmp_path / "p")


# --- the folder ---------------------------------------------------------------------------------


def test_a_prepared_folder_is_used_again_without_reading_the_source(tmp_path, monkeypatch):
    first = prepare_example(tmp_path)
    monkeypatch.setattr(prepare_module, "_write", None)
    assert prepare_example(tmp_path).fingerprint == first.fingerprint


def test_another_source_or_schema_in_the_same_place_is_refused_until_rebuilt(tmp_path):
    prepare_example(tmp_path)
    other_data = example_source(example_rows(), identity="other")
    other_schema = example_source(example_rows(), identity="other", default_tasks=["skip"])
    for source, word in ((other_data, "other data"), (other_schema, "another schema")):
        with pytest.raises(InputError, match=f"{word}.*--rebuild"):
            prepare(source, tmp_path / "prepared")
        rebuilt = prepare(source, tmp_path / "prepared", rebuild=True)
        assert open_prepared(rebuilt.path).fingerprint == rebuilt.fingerprint
        assert rebuilt.schema == source.schema


@pytest.mark.parametrize("fails", [prepare_encode, prepare_module])
def test_a_full_disk_is_reported_and_leaves_nothing_behind(tmp_path, monkeypatch, fails):
    def full(*arguments: object, **options: object) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(fails.pq, "write_table", full)
    with pytest.raises(InputError, match="no space left on the disk"):
        prepare_example(tmp_path)
    assert [path.name for path in tmp_path.iterdir()] == [".prepared.lock"]


def test_a_full_disk_is_recognised_in_an_error_of_polars(tmp_path, monkeypatch):
    def full(self: pl.LazyFrame, *arguments: object, **options: object) -> None:
        raise pl.exceptions.ComputeError("underlying IO error: No space left on device (os error 28)")

    monkeypatch.setattr(pl.LazyFrame, "sink_parquet", full)
    with pytest.raises(InputError, match="no space left on the disk"):
        prepare_example(tmp_path)


def test_a_failed_rebuild_leaves_the_old_folder_whole(tmp_path, monkeypatch):
    before = prepare_example(tmp_path)
    with monkeypatch.context() as patch:
        patch.setattr(prepare_module, "write_shards", lambda *arguments: 1 / 0)
        with pytest.raises(ZeroDivisionError):
            prepare_example(tmp_path, rebuild=True)
    assert open_prepared(before.path).manifest == before.manifest


def test_leftovers_of_a_killed_process_are_removed(tmp_path):
    left = tmp_path / ".prepared.123-abc.partial"
    (left / "scratch").mkdir(parents=True)
    prepare_example(tmp_path)
    assert not left.exists()


def test_the_loser_of_a_race_uses_the_winners_folder(tmp_path, monkeypatch):
    winner = prepare_example(tmp_path / "elsewhere")
    write = prepare_module._write

    def overtaken(*arguments: object) -> None:
        write(*arguments)  # type: ignore[arg-type]
        os.rename(winner.path, tmp_path / "prepared")

    monkeypatch.setattr(prepare_module, "_write", overtaken)
    inode = winner.path.stat().st_ino
    assert prepare_example(tmp_path).path.stat().st_ino == inode
    assert not list(tmp_path.glob(".*.partial"))


def _prepare_in_a_process(folder: Path, rebuild: bool, locked: bool, results: multiprocessing.Queue) -> None:
    if not locked:
        locks.fcntl.flock = lambda *arguments: (_ for _ in ()).throw(OSError("no locks here"))
    try:
        results.put(prepare_example(folder, rebuild=rebuild).fingerprint)
    except BaseException as error:
        results.put(repr(error))


@pytest.mark.parametrize(("rebuild", "locked"), [(False, True), (True, True), (False, False)])
def test_processes_that_prepare_the_same_dataset_at_once_end_with_one_whole_folder(tmp_path, rebuild, locked):
    context = multiprocessing.get_context("spawn")
    results = context.Queue()
    arguments = (tmp_path, rebuild, locked, results)
    workers = [context.Process(target=_prepare_in_a_process, args=arguments) for _ in range(2)]
    for worker in workers:
        worker.start()
    found = {results.get(timeout=120) for _ in workers}
    for worker in workers:
        worker.join()
    assert found == {open_prepared(tmp_path / "prepared").fingerprint}
    assert {path.name for path in tmp_path.iterdir()} == {"prepared", ".prepared.lock"}


def test_the_manifest_counts_rows_labels_and_gaps(tmp_path):
    rows = example_rows(150)
    prepared = prepare_example(tmp_path, rows)
    vocabularies = expected_vocabularies(expected_splits(rows)["train"])
    for split, expected in expected_splits(rows).items():
        labels = prepared.manifest["labels"][split]["click"]
        clicks = [row["click"] for row in expected]
        assert labels == {
            "positive": clicks.count(1),
            "negative": clicks.count(0),
            "undefined": clicks.count(None),
        }
        coverage = prepared.manifest["coverage"][split]
        assert coverage["price"]["missing"] == sum(number_of("price", row) is None for row in expected)
        assert coverage["item"]["missing"] == sum(row["item"] is None for row in expected)
        histories = [expected_indices("history", row, vocabularies) for row in expected]
        assert coverage["history"]["missing"] == histories.count([])
        assert coverage["history"]["elements"] == sum(map(len, histories))
        assert coverage["history"]["unseen"] == sum(indices.count(1) for indices in histories)
    for name, entry in prepared.manifest["files"].items():
        assert (prepared.path / name).stat().st_size == entry["bytes"]
    assert pq.read_schema(prepared.path / "train-00000.parquet").field("item").nullable is False
    assert example_frame(rows)["user"].n_unique() == prepared.num_users


def test_a_read_only_prepared_folder_can_be_used(tmp_path):
    features = [{"name": "item", "kind": "categorical", "group": "item"}]
    source = table_source({"item": [1, 2] * 8}, features)
    prepare(source, tmp_path / "cache" / "p")
    (tmp_path / "cache" / ".p.lock").unlink()
    assert prepare(source, tmp_path / "cache" / "p").num_users == 1
    assert [path.name for path in (tmp_path / "cache").iterdir()] == ["p"]  # nothing was written


def test_a_cache_that_cannot_be_written_to_is_named_with_the_option(tmp_path):
    (tmp_path / "cache").write_text("a file")
    features = [{"name": "item", "kind": "categorical", "group": "item"}]
    with pytest.raises(InputError, match=r"cache: cannot be written to \(.*--cache"):
        prepare(table_source({"item": [1, 2] * 8}, features), tmp_path / "cache" / "p")


def test_a_link_instead_of_the_lock_file_is_refused_and_its_target_is_kept(tmp_path):
    precious = tmp_path / "precious"
    precious.write_text("kept")
    (tmp_path / ".p.lock").symlink_to(precious)
    features = [{"name": "item", "kind": "categorical", "group": "item"}]
    with pytest.raises(InputError, match=r"\.p\.lock: is a symbolic link"):
        prepare(table_source({"item": [1, 2] * 8}, features), tmp_path / "p")
    assert precious.read_text() == "kept"


def test_leftovers_of_a_process_killed_while_replacing_a_folder_are_removed_at_the_next_opening(tmp_path):
    features = [{"name": "item", "kind": "categorical", "group": "item"}]
    source = table_source({"item": [1, 2] * 8}, features)
    prepare(source, tmp_path / "p[1]")
    left, other = tmp_path / ".p[1].77-0123abcd.partial", tmp_path / ".p1.77-0123abcd.partial"
    for folder in (left, other):
        folder.mkdir()
    with locked(tmp_path / ".p[1].lock", wait=False):  # a process is at work
        prepare(source, tmp_path / "p[1]")
        assert left.exists()
    prepare(source, tmp_path / "p[1]")
    assert not left.exists()
    assert other.exists()


@settings(max_examples=60, deadline=None)
@given(
    known=st.lists(st.integers(-60, 60) | st.sampled_from([2**62, -(2**63)]), unique=True, max_size=30),
    asked=st.lists(st.none() | st.integers(-99, 99) | st.sampled_from([2**63 - 1, -(2**63), 2**62])),
)
def test_a_vocabulary_of_integers_has_each_index_whether_they_lie_close_or_apart(known, asked):
    table = pl.DataFrame(
        {"value": known, "count": [1] * len(known), "index": range(2, len(known) + 2)},
        schema={"value": pl.Int64, "count": pl.Int64, "index": pl.Int32},
    )
    indices = {value: index for index, value in enumerate(known, start=2)} | {None: 0}
    found = Vocabulary(table).encode(pl.Series(asked, dtype=pl.Int64))
    assert found.to_list() == [indices.get(value, 1) for value in asked]
    assert found.dtype == pl.Int32
