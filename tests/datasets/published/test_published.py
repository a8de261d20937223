"""The published tables, from made-up files in their layout."""

from __future__ import annotations

import dataclasses
import math
from datetime import datetime

import numpy as np
import pyarrow.parquet as pq
import pytest

from datasets.catalog import DATASETS, prepare_dataset, raw_folder
from datasets.fetch import official
from datasets.published.table import PublishedTable
from files.checksums import md5_of
from files.errors import InputError
from tests.datasets.published.files import LAYOUTS, SIZES, WITHOUT_VALIDATION, made_up_rows, write_files

NAMES = list(LAYOUTS)
CLEAN = [f"{name}-clean" for name in WITHOUT_VALIDATION]
LABELS = {"criteo-x4": "Label", "avazu-x4": "click", "taobao-ad-x1": "clk", "kuaivideo-x1": "is_click"}
WITHOUT_USERS = ("criteo-x1", "criteo-x4", "avazu-x1", "avazu-x4")


def prepared(tmp_path, name, rows=None, **options):
    archive = name.removesuffix("-clean")
    write_files(tmp_path / "data" / archive / LAYOUTS[archive][0], archive, rows)
    return prepare_dataset(name, options, tmp_path / "data", tmp_path / "cache")


def categories_of(found, feature, split):
    """The raw categories of a feature's rows, as text; None where missing, '?' where unseen."""
    table = found.schema.feature(feature).table
    known = pq.read_table(found.path / "vocabulary" / f"{table}.parquet").to_pylist()
    names = {0: None, 1: "?"} | {row["index"]: str(row["value"]) for row in known}
    shards = [pq.read_table(found.path / shard["file"], columns=[feature]) for shard in found.shards(split)]
    indices = [value for shard in shards for value in shard[feature].to_pylist()]
    return [[names[i] for i in each] if isinstance(each, list) else names[each] for each in indices]


@pytest.mark.parametrize("name", NAMES)
def test_the_files_are_the_splits_row_by_row(tmp_path, name):
    rows, found = made_up_rows(name), prepared(tmp_path, name)
    assert found.schema.name == name
    label, task = LABELS.get(name, "label"), found.schema.chosen_tasks()[0]
    for split in SIZES:
        written = rows["test" if split == "valid" and name in WITHOUT_VALIDATION else split]
        labels = found.columns(split, [f"label_{task}"])[f"label_{task}"]
        assert labels.tolist() == [row[label] for row in written]
    assert found.has_users == (name not in WITHOUT_USERS)


@pytest.mark.parametrize("name", NAMES)
def test_every_column_but_the_label_is_an_input_and_rows_keep_their_categories(tmp_path, name):
    rows, found = made_up_rows(name)["train"], prepared(tmp_path, name)
    outcomes = {LABELS.get(name, "label"), "is_like", "is_follow", "id", "timestamp"}
    assert set(rows[0]) - outcomes <= set(found.schema.feature_names)
    for feature in found.schema.features:
        if (
            feature.kind != "categorical"
            or feature.name in ("hour", "weekday", "weekend")
            or feature.name[0] == "I"
        ):
            continue
        expected = [str(row[feature.source_column]).removesuffix(".0") or None for row in rows]
        read = categories_of(found, feature.name, "train")
        assert [e for e, r in zip(expected, read, strict=True) if r != "?"] == [r for r in read if r != "?"]


def test_criteo_x1_keeps_its_numbers_as_they_are(tmp_path):
    rows, found = made_up_rows("criteo-x1")["test"], prepared(tmp_path, "criteo-x1")
    assert found.columns("test", ["I7"])["I7"] == pytest.approx([row["I7"] for row in rows], abs=1e-7)


def test_criteo_x4_makes_categories_of_counts_as_the_published_runs_do(tmp_path):
    rows, found = made_up_rows("criteo-x4")["train"], prepared(tmp_path, "criteo-x4")

    def published(value):
        count = float(value or 0)
        return math.floor(math.log(count) ** 2) if count > 2 else int(count)

    assert categories_of(found, "I5", "train") == [str(published(row["I5"])) for row in rows]


def test_avazu_x4_reads_the_clock(tmp_path):
    rows, found = made_up_rows("avazu-x4")["train"], prepared(tmp_path, "avazu-x4")
    moments = [datetime.strptime(row["hour"], "%y%m%d%H") for row in rows]
    hours = categories_of(found, "hour", "train")
    assert [h for h in hours if h != "?"] == [
        str(m.hour) for m, h in zip(moments, hours, strict=True) if h != "?"
    ]
    assert categories_of(found, "weekday", "train") == [str(m.isoweekday()) for m in moments]
    assert categories_of(found, "weekend", "train") == [str(int(m.isoweekday() > 5)) for m in moments]
    bad = made_up_rows("avazu-x4")
    bad["valid"][3]["hour"] = "14133100"
    with pytest.raises(InputError, match="the raw table cannot be read"):
        prepared(tmp_path / "bad", "avazu-x4", bad)


@pytest.mark.parametrize("name", WITHOUT_VALIDATION)
def test_histories_are_cut_at_their_separator_and_may_be_empty(tmp_path, name):
    rows, found = made_up_rows(name)["test"], prepared(tmp_path, name)
    for feature in found.schema.features:
        if feature.is_list:
            read = categories_of(found, feature.name, "test")
            lengths = [len(row[feature.name].split("^")) if row[feature.name] else 0 for row in rows]
            assert [len(each) for each in read] == lengths


@pytest.mark.parametrize("name", WITHOUT_VALIDATION)
def test_the_published_protocol_validates_on_the_test_rows_and_says_so(tmp_path, name):
    found = prepared(tmp_path, name)
    names = [f.name for f in found.schema.features if f.kind == "categorical"]
    for column in names:
        assert np.array_equal(
            found.columns("valid", [column])[column], found.columns("test", [column])[column]
        )
    assert "the test rows, as in the published protocol" in found.manifest["notes"]["validation"]


@pytest.mark.parametrize("name", CLEAN)
def test_the_clean_protocol_validates_on_the_end_of_training_alone(tmp_path, name):
    archive = name.removesuffix("-clean")
    rows, found = made_up_rows(archive), prepared(tmp_path, name)
    task = found.schema.chosen_tasks()[0]
    cut = SIZES["train"] - SIZES["train"] // 10
    expected = {"train": rows["train"][:cut], "valid": rows["train"][cut:], "test": rows["test"]}
    for split, written in expected.items():
        labels = found.columns(split, [f"label_{task}"])[f"label_{task}"]
        assert labels.tolist() == [row[LABELS[archive]] for row in written]
    assert "not trained on" in found.manifest["notes"]["validation"]


def test_files_that_are_not_the_published_ones_are_named_and_published_ones_too(tmp_path, monkeypatch):
    note = prepared(tmp_path, "frappe-x1").manifest["notes"]["published files"]
    assert note == "NOT the published files: the md5 of train.csv, valid.csv, test.csv is another"
    folder = tmp_path / "data" / "frappe-x1" / "Frappe_x1"
    sums = {path.name: md5_of(path) for path in folder.iterdir()}
    archive = dataclasses.replace(official.ARCHIVES["frappe-x1"], files=sums)
    monkeypatch.setitem(official.ARCHIVES, "frappe-x1", archive)
    again = prepare_dataset("frappe-x1", {}, tmp_path / "data", tmp_path / "other")
    assert again.manifest["notes"]["published files"] == "train.csv, valid.csv, test.csv: md5 as published"


def test_the_width_of_embeddings_is_an_option_and_a_dataset_of_its_own(tmp_path):
    found = prepared(tmp_path, "frappe-x1", embedding_dim=8)
    assert {feature.embedding_dim for feature in found.schema.features} == {8}
    assert found.path != prepared(tmp_path, "frappe-x1").path
    with pytest.raises(
        InputError, match="dataset 'frappe-x1' has no option 'dim': choose from embedding_dim"
    ):
        prepare_dataset("frappe-x1", {"dim": 8}, tmp_path / "data", tmp_path / "cache")
    with pytest.raises(InputError, match="embedding_dim"):
        prepare_dataset("frappe-x1", {"embedding_dim": 0}, tmp_path / "data", tmp_path / "cache")


def test_a_missing_file_and_a_missing_column_are_named(tmp_path):
    prepared(tmp_path, "taobao-ad-x1")
    folder = tmp_path / "data" / "taobao-ad-x1" / "TaobaoAd_x1"
    assert raw_folder("taobao-ad-x1-clean", tmp_path / "data") == folder
    (folder / "test.csv").unlink()
    with pytest.raises(
        InputError, match=r"test\.csv: no such file; `run_bench.py data fetch taobao-ad-x1` gets it"
    ):
        prepare_dataset("taobao-ad-x1-clean", {}, tmp_path / "data", tmp_path / "cache")
    rows = made_up_rows("criteo-x1")
    for row in rows["valid"]:
        del row["C26"]
    with pytest.raises(InputError, match=r"valid\.csv.*'C26'"):
        prepared(tmp_path, "criteo-x1", rows)


def test_a_changed_file_is_another_dataset(tmp_path):
    first = prepared(tmp_path, "movielens-latest-x1")
    rows = made_up_rows("movielens-latest-x1")
    rows["test"][0]["tag_id"] = 1
    assert prepared(tmp_path, "movielens-latest-x1", rows).path != first.path


def test_every_published_table_has_an_archive_and_a_name_of_its_own():
    from datasets.catalog import _reader

    tables = {name: _reader(name) for name in DATASETS if "published" in DATASETS[name]}
    assert set(tables) == {*NAMES, *CLEAN}
    for name, table in tables.items():
        assert isinstance(table, PublishedTable)
        assert table.name == name
        assert set(table.files.values()) == set(official.ARCHIVES[table.archive].files)
