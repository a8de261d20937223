from __future__ import annotations

import dataclasses
import platform

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
from tests.harness.small_runs import small_spec

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


COST = Cost(
    dense_params=10**9,
    sparse_params=6 * 10**9,
    flops_per_sample=1,
    active_flops_per_sample=1,
    train_flops_per_sample=3,
)
SMALL_DENSE = dataclasses.replace(COST, dense_params=10**6)


def world_of(size: int) -> World:
    """One whose ranks find alike, so that each knows what all have gathered."""
    world = World(0, size, torch.device("cpu"))
    object.__setattr__(world, "gather", lambda array: [array] * size)
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
        # an accumulator for each of the 4e8 rows
        (COST, {"sparse_optimizer": "rowwise_adagrad"}, 1, 1, 1, 41.6, "takes 41.6 GB .* max_size"),
        (COST, {}, 2, 2, 1, 80, "takes 80.0 GB .*, 48.0 GB .* 32.0 GB .* raise min_count .* rowwise_adagrad"),
        (COST, {}, 4, 2, 1, 56, "takes 56.0 GB .*, 24.0 GB .* 32.0 GB .* lower the budget, or see"),
        (COST, {}, 1, 1, 3, 192, "3 runs at once take 192.0 GB .* 191.9 GB are free; lower --jobs"),
        (SMALL_DENSE, {}, 2, 1, 1, 24.016, "lower embedding_dim or max_size, .* fewer rows, .* torchrun"),
    ],
)
def test_what_is_not_free_is_refused_with_the_mend_and_what_just_fits_is_not(
    cost, training, size, local, at_once, gigabytes, words, prepared, monkeypatch
):
    monkeypatch.setattr(PreparedDataset, "table_sizes", {"item": 4 * 10**8})
    monkeypatch.setenv("LOCAL_WORLD_SIZE", str(local))
    spec, world = small_spec(prepared, **training), world_of(size)
    monkeypatch.setattr("harness.training.memory.free_memory", lambda: round(gigabytes * 1e9))
    require_room(spec, cost, prepared, world, at_once)
    monkeypatch.setattr("harness.training.memory.free_memory", lambda: round(gigabytes * 1e9) - 10**8)
    with pytest.raises(InputError, match=words):
        require_room(spec, cost, prepared, world, at_once)


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
