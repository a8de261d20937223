"""Batches against the raw rows, in every mode of reading."""

from __future__ import annotations

import gc
import itertools
import math
import threading
from collections.abc import Iterator

import numpy as np
import pytest
import torch
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from datasets.batch import Batch
from datasets.prepared import PreparedDataset
from datasets.reader import ShardReader
from datasets.window import WindowSource
from files.errors import InputError
from harness.speed.profiles.reading import benchmark_reader
from tests.datasets.conftest import (
    example_rows,
    expected_indices,
    expected_number,
    expected_splits,
    expected_vocabularies,
    prepare_example,
)

KEYS = ["member", "history", "item", "city", "tags"]
NUMBERS = ["price", "balance", "raw"]
TASKS = ["skip", "click"]  # not the schema's order


@pytest.fixture(scope="module")
def prepared(tmp_path_factory: pytest.TempPathFactory) -> Iterator[PreparedDataset]:
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("datasets.prepare.stage.RUN_ROWS", 50)
        patch.setattr("datasets.prepare.encode.ROW_GROUP_ROWS", 4)
        yield prepare_example(tmp_path_factory.mktemp("reader"), example_rows(300), shard_rows=13)


def decoded(batch: Batch) -> list[tuple]:
    """A batch as one tuple a row: indices by key, numbers, labels, user."""
    jagged = [batch.sparse[key].to_dense() for key in KEYS]
    assert batch.sparse.keys() == KEYS
    return [
        (
            tuple(tuple(lists[row].tolist()) for lists in jagged),
            tuple(np.round(batch.dense[row].tolist(), 4)),
            tuple(None if math.isnan(label) else label for label in batch.labels[row].tolist()),
            int(batch.user_id[row]),
            int(batch.tier[row]),
        )
        for row in range(len(batch))
    ]


def expected_rows(split: str) -> list[tuple]:
    splits = expected_splits(example_rows(300))
    train = splits["train"]
    vocabularies = expected_vocabularies(train)
    users = sorted({row["user"] for rows in splits.values() for row in rows})
    counts = {user: sum(row["user"] == user for row in train) for user in users}
    assert min(counts.values()) > 0

    def tier(user: int) -> int:
        fewer = sum(count < counts[user] for count in counts.values())
        equal = sum(count == counts[user] for count in counts.values())
        return math.floor(3 * (fewer + equal / 2) / len(users))

    return [
        (
            tuple(tuple(expected_indices(key, row, vocabularies)) for key in KEYS),
            tuple(np.round([expected_number(name, row, train) for name in NUMBERS], 4)),
            (float(row["was_skipped"]), None if row["click"] is None else float(row["click"])),
            users.index(row["user"]),
            tier(row["user"]),
        )
        for row in splits[split]
    ]


def same(one: tuple, other: tuple) -> bool:
    return one[0] == other[0] and np.allclose(one[1], other[1], atol=2e-4) and one[2:] == other[2:]


@pytest.mark.parametrize("split", ["train", "valid", "test"])
@pytest.mark.parametrize("batch_size", [1, 7, 1000])
def test_unshuffled_batches_are_the_raw_rows_in_time_order(prepared, split, batch_size):
    reader = ShardReader(prepared, split, batch_size, TASKS, window_rows=10)
    batches = list(reader.batches())
    rows = [row for batch in batches for row in decoded(batch)]
    expected = expected_rows(split)
    assert len(rows) == len(expected) == reader.num_rows
    assert all(same(row, wanted) for row, wanted in zip(rows, expected, strict=True))
    assert len(batches) == reader.num_batches
    assert {len(batch) for batch in batches[:-1]} <= {batch_size}


def test_a_shuffle_permutes_rows_within_windows_and_never_across(prepared):
    plain = [row for batch in ShardReader(prepared, "train", 9, TASKS).batches() for row in decoded(batch)]
    reader = ShardReader(prepared, "train", 9, TASKS, shuffle_seed=3, window_rows=20)
    shuffled = [row for batch in reader.batches() for row in decoded(batch)]
    assert shuffled != plain
    for start in range(0, len(plain), 20):
        assert sorted(map(str, shuffled[start : start + 20])) == sorted(map(str, plain[start : start + 20]))


def test_the_shuffle_depends_on_seed_epoch_and_window(prepared):
    def order(seed: int, epoch: int) -> list[str]:
        reader = ShardReader(prepared, "train", 9, TASKS, shuffle_seed=seed, epoch=epoch, window_rows=20)
        return [str(row) for batch in reader.batches() for row in decoded(batch)]

    assert order(1, 0) == order(1, 0)
    assert order(1, 0) != order(2, 0)
    assert order(1, 0) != order(1, 1)
    plain = [
        str(row) for batch in ShardReader(prepared, "train", 9, TASKS).batches() for row in decoded(batch)
    ]
    places = [[plain.index(row) - start for row in order(1, 0)[start : start + 20]] for start in (0, 20)]
    assert places[0] != places[1]


@settings(max_examples=25, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    batch_size=st.integers(1, 40),
    window_rows=st.integers(1, 60),
    start_share=st.floats(0, 1),
    seed=st.one_of(st.none(), st.integers(0, 3)),
    ranks=st.integers(1, 3),
)
def test_batches_from_k_are_the_tail_of_all_batches_bit_for_bit(
    prepared, batch_size, window_rows, start_share, seed, ranks
):
    reader = ShardReader(
        prepared, "train", batch_size, TASKS,
        shuffle_seed=seed, window_rows=window_rows, rank=ranks - 1, world_size=ranks,
    )  # fmt: skip
    start = round(start_share * reader.num_batches)
    whole, tail = list(reader.batches())[start:], list(reader.batches(start))
    assert len(whole) == len(tail)
    for one, other in zip(whole, tail, strict=True):
        for name in ("values", "lengths", "offsets"):
            assert torch.equal(getattr(one.sparse, name)(), getattr(other.sparse, name)())
        assert torch.equal(one.dense, other.dense)
        assert torch.equal(one.labels.nan_to_num(-1), other.labels.nan_to_num(-1))
        assert torch.equal(one.user_id, other.user_id)
        assert torch.equal(one.tier, other.tier)


def test_windows_before_the_start_are_not_decoded(prepared, monkeypatch):
    built = []
    original = WindowSource._window
    monkeypatch.setattr(WindowSource, "_window", lambda self, table: built.append(1) or original(self, table))
    reader = ShardReader(prepared, "train", 10, TASKS, window_rows=20)
    list(reader.batches(reader.num_batches - 1))
    assert len(built) == 1


@pytest.mark.parametrize("world_size", [1, 2, 3, 5, 7, 40])
def test_ranks_partition_the_rows(prepared, world_size):
    rows: list[str] = []
    for rank in range(world_size):
        reader = ShardReader(prepared, "train", 8, TASKS, rank=rank, world_size=world_size)
        rank_rows = [str(row) for batch in reader.batches() for row in decoded(batch)]
        assert len(rank_rows) == reader.num_rows
        rows += rank_rows
    whole = [
        str(row) for batch in ShardReader(prepared, "train", 8, TASKS).batches() for row in decoded(batch)
    ]
    assert sorted(rows) == sorted(whole)


@pytest.mark.parametrize("start", [0, 2])
@pytest.mark.parametrize(("world_size", "shares"), [(1, 2), (1, 3), (2, 4), (3, 6)])
def test_fewer_ranks_read_the_batches_of_as_many_as_there_are_shares(prepared, world_size, shares, start):
    """Also where some shares have come to their end."""
    options = {"shuffle_seed": 3, "window_rows": 20, "epoch": 1}

    def reader(rank: int, size: int, **more: int) -> ShardReader:
        return ShardReader(prepared, "train", 8, TASKS, rank=rank, world_size=size, **options, **more)

    for rank in range(world_size):
        own = [reader(share, shares) for share in range(rank, shares, world_size)]
        merged = reader(rank, world_size, shares=shares)
        assert merged.num_rows == sum(each.num_rows for each in own)
        assert merged.num_batches == max(each.num_batches for each in own)
        found = [[str(row) for row in decoded(batch)] for batch in merged.batches(start)]
        sizes = [len(batch) for batch in merged.batches()]
        assert merged.num_whole_batches == [*sizes, 0].index(next(n for n in [*sizes, 0] if n < 8 * len(own)))
        by_share = [
            [[str(row) for row in decoded(batch)] for batch in each.batches(min(start, each.num_batches))]
            for each in own
        ]
        steps = itertools.zip_longest(*by_share, fillvalue=[])
        assert found == [list(itertools.chain.from_iterable(step)) for step in steps]


def test_the_jagged_tensor_is_laid_out_as_torchrec_computes_it_itself(prepared):
    batch = next(iter(ShardReader(prepared, "train", 16, TASKS, shuffle_seed=1).batches()))
    sparse = batch.sparse
    plain = type(sparse)(keys=KEYS, values=sparse.values(), lengths=sparse.lengths())
    assert sparse.values().dtype == torch.int64
    assert sparse.stride() == plain.stride() == 16
    assert sparse.length_per_key() == plain.length_per_key()
    assert sparse.offset_per_key() == plain.offset_per_key()
    assert sparse.offsets().tolist() == plain.offsets().tolist()
    lengths = sparse.lengths().view(len(KEYS), 16)
    assert (lengths[[0, 2, 3]] == 1).all()


def reading_threads() -> list[threading.Thread]:
    return [thread for thread in threading.enumerate() if thread.name == "shard-reader"]


@pytest.mark.parametrize("taken", [1, 3])
def test_closing_the_iterator_ends_its_thread(prepared, taken):
    iterator = ShardReader(prepared, "train", 1, TASKS).batches()
    for _ in range(taken):
        next(iterator)
    assert reading_threads()
    iterator.close()
    assert not reading_threads()


def test_dropping_a_half_read_iterator_ends_its_thread(prepared):
    iterator = ShardReader(prepared, "train", 1, TASKS).batches()
    next(iterator)
    del iterator
    gc.collect()
    assert not reading_threads()


def test_an_exception_in_the_thread_is_raised_where_the_batches_are_used(prepared, monkeypatch):
    def fail(self, table):
        raise OSError("the disk went away")

    monkeypatch.setattr(WindowSource, "_window", fail)
    with pytest.raises(OSError, match="the disk went away"):
        list(ShardReader(prepared, "train", 8, TASKS).batches())
    assert not reading_threads()


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        ({"split": "tset"}, ["'tset'", "train, valid, test"]),
        ({"batch_size": 0}, ["batch_size", "at least 1"]),
        ({"tasks": ["like"]}, ["'like'", "click, skip"]),
        ({"world_size": 999}, ["split 'train'", "too few for 999 processes", "start fewer"]),
        ({"rank": 2, "world_size": 2}, ["rank is 2"]),
        ({"world_size": 2, "shares": 3}, ["shares is 3", "multiple of world_size 2"]),
        ({"shares": 0}, ["shares is 0"]),
        ({"window_rows": 0}, ["window_rows"]),
    ],
)
def test_impossible_readers_are_refused_with_the_mend(prepared, arguments, words):
    usual = {"split": "train", "batch_size": 8, "tasks": TASKS} | arguments
    with pytest.raises(InputError) as error:
        ShardReader(prepared, **usual)
    assert all(word in str(error.value) for word in words)


def test_a_start_beyond_the_end_is_refused(prepared):
    reader = ShardReader(prepared, "train", 8, TASKS)
    assert list(reader.batches(reader.num_batches)) == []
    with pytest.raises(InputError, match="does not exist"):
        reader.batches(reader.num_batches + 1)


def test_the_benchmark_reads_every_training_row(tmp_path):
    rates = benchmark_reader(rows=2000, batch_size=64, repeats=2)
    assert len(rates) == 2
    assert min(rates) > 0
