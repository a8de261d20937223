from __future__ import annotations

import dataclasses
import platform
from itertools import product

import numpy as np
import pytest
import torch

from datasets.prepared import PreparedDataset
from files.errors import InputError
from harness.records.cost import Cost
from harness.runs.run import build_model
from harness.training.memory import require_room
from harness.training.ranks import World, table_weights
from tests.forked import ROOT, Forked
from tests.harness.small_runs import ONE_PROCESS, small_spec

PAGES = 100 * 2**20 // 4096
FAULTS = """
import resource
import torch
from harness.training.memory import keep_freed_memory

if {keep}:
    keep_freed_memory()
for _ in range(20):  # the first few may not fit each other's gaps
    before = resource.getrusage(resource.RUSAGE_SELF).ru_minflt
    torch.ones(100 * 2**20 // 4)
print(resource.getrusage(resource.RUSAGE_SELF).ru_minflt - before)
"""


@pytest.mark.skipif(platform.libc_ver()[0] != "glibc", reason="SKIPPED: the C library is not glibc")
@pytest.mark.parametrize("keep", [True, False])
def test_a_tensor_finds_the_pages_of_one_that_was_freed_only_if_they_are_kept(keep):
    """In a process of its own, by the page faults that the system counts for the last tensor of 100 MB."""
    process = Forked(FAULTS.format(keep=keep), ROOT, THP_MEM_ALLOC_ENABLE="0")
    said, problem = process.communicate()
    assert process.returncode == 0, problem
    assert (int(said) < PAGES // 10) == keep


RETURNED = """
import psutil, torch
from harness.training.memory import keep_freed_memory, return_freed_memory

keep_freed_memory()
parts = [torch.ones(2**20) for _ in range(50)]  # of 4 MB
last = torch.ones(10)  # above them, so that the heap's end is no free memory
held = psutil.Process().memory_info().rss
parts.append(parts)  # a cycle, as models are
del parts
return_freed_memory()
print(held - psutil.Process().memory_info().rss)
"""


@pytest.mark.skipif(platform.libc_ver()[0] != "glibc", reason="SKIPPED: the C library is not glibc")
def test_what_a_run_kept_is_given_back():
    """By the resident memory of a process of its own that held 200 MB."""
    process = Forked(RETURNED, ROOT)
    said, problem = process.communicate()
    assert process.returncode == 0, problem
    assert int(said) > 180 * 2**20


def test_ranks_ask_what_is_free_once_all_have_given_back_what_they_kept(prepared, monkeypatch):
    events = []
    world = world_of(2)
    object.__setattr__(world, "barrier", lambda: events.append("all"))
    monkeypatch.setattr("harness.training.memory.return_freed_memory", lambda: events.append("returned"))
    monkeypatch.setattr("harness.training.memory.free_memory", lambda: (events.append("asked"), 10**9)[1])
    require_room(
        small_spec(prepared), dataclasses.replace(COST, dense_params=1, sparse_params=1), prepared, world
    )
    assert events == ["returned", "all", "asked"]


ROWS = {"user": 3 * 10**8, "item": 4 * 10**8, "genres": 5 * 10**7}  # of eight numbers each: 6e9
COST = Cost(
    dense_params=10**9,
    sparse_params=0,  # the tables' are counted from their rows
    flops_per_sample=1,
    active_flops_per_sample=1,
    train_flops_per_sample=3,
)


def world_of(size: int, rank: int = 0) -> World:
    """One whose ranks find alike, so that each knows what all have gathered."""
    world = World(rank, size, torch.device("cpu"))
    object.__setattr__(world, "gather", lambda array: [array] * size)
    object.__setattr__(world, "barrier", lambda: None)
    return world


@pytest.mark.parametrize(
    ("cost", "training", "size", "local", "at_once", "gigabytes", "words"),
    [
        # weights, gradients and two moments of 1e9; weights and accumulators of 6e9
        (
            COST,
            {},
            1,
            1,
            1,
            64,
            "training takes 64.0 GB .*, 48.0 GB for embedding tables and 16.0 GB for dense",
        ),
        (COST, {"dense_optimizer": "rmsprop"}, 1, 1, 1, 60, "takes 60.0 GB"),
        # an accumulator for each of the 7.5e8 rows
        (COST, {"sparse_optimizer": "rowwise_adagrad"}, 1, 1, 1, 43, "takes 43.0 GB .* max_size"),
        (COST, {}, 2, 2, 1, 80, "takes 80.0 GB .*, 48.0 GB .* 32.0 GB .* raise min_count .* rowwise_adagrad"),
        (COST, {}, 1, 1, 3, 192, "3 runs at once take 192.0 GB .* 191.9 GB are free; lower --jobs"),
    ],
)
def test_what_is_not_free_is_refused_with_the_mend_and_what_just_fits_is_not(
    cost, training, size, local, at_once, gigabytes, words, prepared, monkeypatch
):
    monkeypatch.setattr(PreparedDataset, "table_sizes", ROWS)
    monkeypatch.setenv("LOCAL_WORLD_SIZE", str(local))
    monkeypatch.setenv("LOCAL_RANK", "0")
    spec, world = small_spec(prepared, **training), world_of(size)
    monkeypatch.setattr("harness.training.memory.free_memory", lambda: round(gigabytes * 1e9))
    require_room(spec, cost, prepared, world, at_once)
    monkeypatch.setattr("harness.training.memory.free_memory", lambda: round(gigabytes * 1e9) - 10**8)
    with pytest.raises(InputError, match=words):
        require_room(spec, cost, prepared, world, at_once)


def refused(spec, prepared, monkeypatch, world, dense=0, **options) -> str:
    """What is said where no memory is free."""
    monkeypatch.setattr("harness.training.memory.free_memory", lambda: -1)
    with pytest.raises(InputError) as error:
        require_room(spec, dataclasses.replace(COST, dense_params=dense), prepared, world, **options)
    return str(error.value)


def test_a_table_counts_as_a_whole_on_the_host_that_holds_it(prepared, monkeypatch):
    """Two hosts of one process each: of one large table, one host takes all and the other next to nothing."""
    monkeypatch.setattr(PreparedDataset, "table_sizes", {"user": 10, "item": 4 * 10**8, "genres": 10})
    monkeypatch.setenv("LOCAL_WORLD_SIZE", "1")
    monkeypatch.setenv("LOCAL_RANK", "0")
    said = [refused(small_spec(prepared), prepared, monkeypatch, world_of(2, rank)) for rank in (0, 1)]
    assert sorted(text.split(" of memory")[0] for text in said) == [
        "training takes 0.0 GB",
        "training takes 25.6 GB",  # weights and accumulators of 8 * 4e8
    ]
    assert all("fewer rows, or divide the tables among machines with torchrun" in text for text in said)


@pytest.mark.parametrize(
    ("large", "training", "attention", "copies"),
    [
        # measured of tables of 4e6 rows, as many times the weights of the large one
        ("user", {"sparse_optimizer": "adam"}, False, 5),
        ("item", {"sparse_optimizer": "adam"}, False, 6),  # read by two features
        ("item", {"sparse_optimizer": "adam"}, True, 5),  # whose look-ups are one
        ("user", {"table_l2": 0.1}, False, 4),
        ("item", {"table_l2": 0.1}, False, 5),
        ("item", {"table_l2": 0.1, "sparse_optimizer": "sgd"}, False, 4),
    ],
)
def test_tables_that_are_updated_whole_count_with_what_a_step_takes(
    prepared, monkeypatch, large, training, attention, copies
):
    monkeypatch.setattr(PreparedDataset, "table_sizes", {"user": 2, "item": 2, "genres": 2, large: 10**8})
    spec = small_spec(prepared, **training).model_copy(update={"target_attention": attention})
    gigabytes = copies * 4 * 8 * 10**8 / 1e9
    assert f" {gigabytes:.1f} GB for embedding" in refused(spec, prepared, monkeypatch, world_of(1))


@pytest.mark.parametrize(("width", "held"), [(1, 4), (5, 8), (8, 8)])
def test_fused_tables_count_as_wide_as_they_lie_in_memory(prepared, monkeypatch, width, held):
    """In multiples of four numbers; with Adagrad twice."""
    features = [
        feature.model_copy(update={"embedding_dim": width}) if feature.name == "user" else feature
        for feature in prepared.schema.features
    ]
    narrow = dataclasses.replace(prepared, schema=prepared.schema.model_copy(update={"features": features}))
    monkeypatch.setattr(PreparedDataset, "table_sizes", {"user": 10**9, "item": 2, "genres": 2})
    said = refused(small_spec(narrow), narrow, monkeypatch, world_of(1))
    assert f" {2 * 4 * held:.1f} GB for embedding" in said
    tables = table_weights(build_model(small_spec(narrow), tiny(narrow, monkeypatch), ONE_PROCESS))
    assert next(w.shape[1] for key, w in tables.items() if ".user." in key) == held


def tiny(prepared, monkeypatch):
    monkeypatch.setattr(PreparedDataset, "table_sizes", {"user": 10, "item": 10, "genres": 10})
    return prepared


def test_the_host_of_the_first_rank_takes_the_others_tables_where_weights_are_kept(prepared, monkeypatch):
    """Of 6e9 weights, which are 24 GB: what is not its own comes on top."""
    monkeypatch.setattr(PreparedDataset, "table_sizes", ROWS)
    monkeypatch.setenv("LOCAL_WORLD_SIZE", "1")
    monkeypatch.setenv("LOCAL_RANK", "0")
    spec, said = small_spec(prepared), {}
    for rank, keeps in product((0, 1), (False, True)):
        text = refused(spec, prepared, monkeypatch, world_of(2, rank), keeps_weights=keeps)
        said[rank, keeps] = float(text.split(" GB for embedding")[0].split()[-1])
    assert said[0, False] + said[1, False] == pytest.approx(48)
    assert said[1, True] == said[1, False]
    assert said[0, True] == pytest.approx(said[0, False] + said[1, False] / 2)


def test_processes_of_one_host_take_what_the_tables_and_as_many_dense_sides_take(prepared, monkeypatch):
    """Four processes on two hosts: together their tables are 48 GB, and each has the dense side's 16 GB."""
    monkeypatch.setattr(PreparedDataset, "table_sizes", ROWS)
    monkeypatch.setenv("LOCAL_WORLD_SIZE", "2")
    tables = []
    for rank in range(4):
        monkeypatch.setenv("LOCAL_RANK", str(rank % 2))
        said = refused(small_spec(prepared), prepared, monkeypatch, world_of(4, rank), dense=10**9)
        assert "32.0 GB for dense weights" in said
        tables.append(float(said.split(" GB for embedding")[0].split()[-1]))
    assert tables[0] == tables[1]
    assert tables[2] == tables[3]
    assert tables[0] + tables[2] == pytest.approx(48)
    assert set(tables) <= {3.2, 19.2, 25.6, 22.4, 28.8, 44.8}  # sums of whole tables


def test_all_ranks_refuse_what_is_too_much_for_one_of_them(prepared):
    world = world_of(2)
    object.__setattr__(world, "gather", lambda array: [array, np.asarray("too much there")])
    with pytest.raises(InputError, match="too much there"):
        require_room(
            small_spec(prepared), dataclasses.replace(COST, dense_params=1, sparse_params=1), prepared, world
        )


def test_ranks_begin_with_no_table_of_which_each_would_hold_the_whole(prepared, monkeypatch):
    monkeypatch.setattr("harness.runs.run.shard", lambda model, world: model)
    monkeypatch.setattr("harness.runs.run.initialise_tables", lambda *_: None)
    for size, kind in ((1, "cpu"), (2, "meta")):
        tables = table_weights(build_model(small_spec(prepared), prepared, world_of(size)))
        assert {weight.device.type for weight in tables.values()} == {kind}
