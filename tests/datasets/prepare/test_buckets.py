"""Hashed ids against a dictionary and hashlib, one id at a time."""

from __future__ import annotations

import hashlib
from collections import Counter, defaultdict

import numpy as np
import polars as pl
import pytest

from datasets.describe import describe, render
from datasets.prepare import buckets as prepare_buckets
from datasets.prepare.buckets import Buckets, hashed
from datasets.prepare.pipeline import prepare
from datasets.prepared import PreparedDataset
from files.errors import InputError
from tests.datasets.conftest import EXAMPLE_SCHEMA, example_rows, example_source, expected_splits

BUCKETS = 7
FEATURES = [
    feature | ({"hash_buckets": BUCKETS} if feature["name"] in ("item", "history", "tags") else {})
    for feature in EXAMPLE_SCHEMA["features"]
]


def bucket(value: object, size: int = BUCKETS) -> int:
    return int(hashlib.sha256(str(value).encode()).hexdigest()[:14], 16) % size


def values_of(feature: str, row: dict) -> list:
    """What preparation keeps of a row: a list's missing elements only in a sequence."""
    if feature == "item":
        return [row["item"]]
    if feature == "history":
        return (row["history"] or [])[-3:]
    return [tag for tag in row["tags"] or [] if tag is not None][:2]


@pytest.fixture(scope="module")
def prepared(tmp_path_factory) -> PreparedDataset:
    folder = tmp_path_factory.mktemp("hashed")
    return prepare(example_source(example_rows(), features=FEATURES), folder / "prepared", shard_rows=11)


def test_an_id_has_the_same_bucket_on_every_machine():
    """The digests are those of FIPS 180's algorithm: `printf 7 | sha256sum`, `printf ü | sha256sum`, 3:7."""
    assert hashed(pl.Series(["7", "ü"]))[0].tolist() == [0x7902699BE42C8A, 0x607474CA475A97]
    assert hashed(pl.Series([7, -(2**63)]))[0].tolist() == hashed(pl.Series(["7", str(-(2**63))]))[0].tolist()
    assert hashed(pl.Series([7]), seed=3)[0].tolist() == [0xCDE46093ADE92B]


def test_two_features_of_one_column_hash_its_ids_apart(tmp_path):
    """Of forty ids in twelve buckets nearly all share one; few share both with the same id."""
    again = {"name": "again", "column": "item", "kind": "categorical", "group": "item", "hash_seed": 1}
    features = [
        feature | ({"hash_buckets": 12} if feature["name"] in ("item", "history") else {})
        for feature in [*EXAMPLE_SCHEMA["features"], again]
    ]
    features[-1]["hash_buckets"] = 12
    rows = [row | {"item": 700 + number % 40} for number, row in enumerate(example_rows())]
    prepared = prepare(example_source(rows, features=features), tmp_path / "p")
    places = {}
    for split, of_split in expected_splits(rows).items():
        shards = [pl.read_parquet(prepared.path / shard["file"]) for shard in prepared.shards(split)]
        indices = pl.concat(shards).select("item", "again").iter_rows()
        for row, (item, other) in zip(of_split, indices, strict=True):
            assert item == 2 + bucket(row["item"], 12)
            assert other == 2 + bucket(f"1:{row['item']}", 12)
            places[row["item"]] = (item, other)
    assert len({item for item, _ in places.values()}) <= 12 < len(set(places.values()))
    assert [table["hash"].partition("sha256")[2] for table in prepared.hashing.values()] == [
        "(the id's UTF-8 text; integers in decimal), 16) % hash_buckets",
        "('1:' + the id's UTF-8 text; integers in decimal), 16) % hash_buckets",
    ]


def test_every_prepared_index_is_two_plus_the_hash_of_the_id(prepared):
    assert prepared.table_sizes["item"] == prepared.table_sizes["tags"] == 2 + BUCKETS
    for split, rows in expected_splits(example_rows()).items():
        table = pl.concat(
            [pl.read_parquet(prepared.path / shard["file"]) for shard in prepared.shards(split)]
        )
        for feature in ("item", "history", "tags"):
            wanted = [
                [0 if value is None else 2 + bucket(value) for value in values_of(feature, row)]
                for row in rows
            ]
            found = table[feature].to_list()
            assert [value if isinstance(value, list) else [value] for value in found] == wanted


def test_no_vocabulary_of_hashed_ids_is_written(prepared):
    assert {path.name for path in (prepared.path / "vocabulary").iterdir()} == {
        "member.parquet",
        "city.parquet",
    }


def test_ids_and_elements_that_share_a_bucket_are_counted(prepared):
    elements = Counter(
        value
        for row in example_rows()
        for name in ("item", "history")
        for value in values_of(name, row)
        if value is not None
    )
    ids_of = defaultdict(set)
    for value in elements:
        ids_of[bucket(value)].add(value)
    sharing = {value for ids in ids_of.values() if len(ids) > 1 for value in ids}
    assert 0 < len(sharing) < len(elements)
    assert describe(prepared).hashing.row(0, named=True) == {
        "vocabulary": "item",
        "buckets": BUCKETS,
        "used_buckets": len(ids_of),
        "ids": len(elements),
        "ids_are_estimated": False,
        "ids_sharing": pytest.approx(len(sharing) / len(elements)),
        "elements_sharing": pytest.approx(sum(elements[value] for value in sharing) / elements.total()),
    }
    assert "Hashed ids" in render(describe(prepared))


def test_elements_in_a_bucket_that_training_never_met_are_unseen(tmp_path):
    features = [
        feature | ({"hash_buckets": 64} if feature["name"] in ("item", "history") else {})
        for feature in EXAMPLE_SCHEMA["features"]
    ]
    prepared = prepare(example_source(example_rows(), features=features), tmp_path / "p")
    splits = expected_splits(example_rows())
    met = {
        bucket(value, 64)
        for row in splits["train"]
        for name in ("item", "history")
        for value in values_of(name, row)
        if value is not None
    }
    for split, rows in splits.items():
        for name in ("item", "history"):
            values = [value for row in rows for value in values_of(name, row)]
            new = [value for value in values if value is not None and bucket(value, 64) not in met]
            assert bool(new) == (split != "train")
            assert prepared.manifest["coverage"][split][name]["unseen"] == len(new)


def test_many_ids_are_estimated_within_their_standard_errors(monkeypatch):
    monkeypatch.setattr(prepare_buckets, "KEPT_IDS", 1024)
    rng = np.random.default_rng(0)
    table, ids = Buckets(4000), rng.choice(10**9, 9000, replace=False)
    for chunk in np.array_split(rng.permutation(np.repeat(ids, 3)), 10):
        table.encode(pl.Series(chunk))
    occupied = Counter(bucket(value, 4000) for value in ids)
    sharing = sum(count for count in occupied.values() if count > 1) / len(ids)
    found = table.facts()
    assert found["ids_are_estimated"]
    assert found["ids"] == pytest.approx(len(ids), rel=4 / 1024**0.5)
    assert found["ids_sharing"] == pytest.approx(sharing, abs=4 * (sharing * (1 - sharing) / 1024) ** 0.5)
    assert found["used_buckets"] == len(occupied)
    assert table.shared.nonzero()[0].tolist() == sorted(b for b, count in occupied.items() if count > 1)


def test_more_buckets_than_memory_are_refused(monkeypatch):
    def no_room(*_: object) -> np.ndarray:
        raise MemoryError

    monkeypatch.setattr(np, "zeros", no_room)
    with pytest.raises(InputError, match=r"hash_buckets is 5: .*6 bytes for each.*choose fewer"):
        Buckets(5)
