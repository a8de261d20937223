"""The host's memory: what a step freed is kept for the next, and a model that does not fit is refused."""

from __future__ import annotations

import contextlib
import ctypes
import gc
import sys
from typing import NamedTuple

import numpy as np
import torch

from datasets.prepared import PreparedDataset
from files.errors import InputError
from files.memory import free_memory
from harness.records.cost import Cost
from harness.records.spec import RunSpec, Training
from harness.training.ranks import World, build_embeddings
from harness.training.sharding import holders

NUMBER_BYTES = 4
M_TRIM_THRESHOLD, M_MMAP_MAX = -1, -4  # as malloc.h has them


def keep_freed_memory() -> None:
    """Ask glibc to return no freed memory to the system until the process ends; elsewhere, nothing.

    By default it maps large blocks anew and unmaps them when they are freed, and the first touch of new pages
    is a good part of a training step on the CPU. Pages are all there after a few steps; the process may
    hold more memory than its largest step needs, where sizes do not fit each other's gaps.
    """
    if sys.platform != "linux":
        return
    with contextlib.suppress(AttributeError):  # a C library that has no mallopt
        mallopt = ctypes.CDLL(None).mallopt
        mallopt(M_MMAP_MAX, 0)
        mallopt(M_TRIM_THRESHOLD, -1)


def return_freed_memory() -> None:
    """Give back to the system what `keep_freed_memory` kept; elsewhere than with glibc, nothing."""
    gc.collect()
    with contextlib.suppress(AttributeError):
        ctypes.CDLL(None).malloc_trim(0)


def require_room(
    spec: RunSpec,
    cost: Cost,
    prepared: PreparedDataset,
    world: World,
    runs_at_once: int = 1,
    keeps_weights: bool = False,
) -> None:
    """Refuse what this machine's memory cannot hold, before the system ends the process without a word.

    Counted are weights and the optimizer's state of all ranks of this machine (on CPUs a table lies whole on
    one rank), and of the dense side, which each of them has, gradients; and, with ``keeps_weights``, what the
    first rank gets of the others' tables. Activations come on top. On a GPU nothing is looked at, since its
    own errors say what is wrong. Every rank calls this before it takes memory; what its process kept of a run
    before it (under torchrun all are carried out by the same) is given back first.

    Raises InputError, on all ranks where it is too much on the machine of one of them.
    """
    if world.size > 1:
        return_freed_memory()
        world.barrier()  # before one of them asks what is free
    problem = (
        ""
        if world.device.type != "cpu"
        else _problem(spec, cost, prepared, world, runs_at_once, keeps_weights)
    )
    problems = [str(found) for found in world.gather(np.asarray(problem))]
    if any(problems):
        raise InputError(next(found for found in problems if found))


def _problem(
    spec: RunSpec,
    cost: Cost,
    prepared: PreparedDataset,
    world: World,
    runs_at_once: int,
    keeps_weights: bool,
) -> str:
    free = free_memory()
    tables = runs_at_once * table_bytes(spec, prepared, world, keeps_weights)
    dense = runs_at_once * len(world.ranks_here) * dense_bytes(cost, spec.training)
    if tables + dense <= free:
        return ""
    several = f"{runs_at_once} runs at once take" if runs_at_once > 1 else "training takes"
    return (
        f"{several} {_gigabytes(tables + dense)} of memory here, {_gigabytes(tables)} for embedding "
        f"tables and {_gigabytes(dense)} for dense weights, both with optimizer, and {_gigabytes(free)} are "
        f"free; {_mend(spec.training, tables > dense, runs_at_once)}"
    )


def dense_bytes(cost: Cost, training: Training) -> int:
    """What training holds of one copy of the dense side: four bytes a number."""
    copies = {"rmsprop": 3}.get(training.dense_optimizer, 4)  # weights, gradients, and one or two moments
    return NUMBER_BYTES * copies * cost.dense_params


def table_bytes(spec: RunSpec, prepared: PreparedDataset, world: World, keeps_weights: bool) -> int:
    """What training holds of the tables that lie on this machine, which is whole ones on CPUs."""
    embeddings = build_embeddings(spec, prepared, torch.device("meta"))
    held = holders(embeddings, world)
    gathers = keeps_weights and 0 in world.ranks_here
    numbers, passing = 0, [0]
    for collection in embeddings.tables():
        for config in collection.embedding_bag_configs():
            table = _Table(config.num_embeddings, config.embedding_dim, len(config.feature_names))
            holder = held.get(config.name, world.rank)
            if holder in world.ranks_here:
                numbers += _numbers(table, spec.training)
                passing.append(_passing_numbers(table, spec.training))
            if gathers and holder != 0:
                numbers += table.weights
    return NUMBER_BYTES * (numbers + max(passing))


class _Table(NamedTuple):
    """Of rows as wide as they lie in memory."""

    rows: int
    width: int
    features: int

    @property
    def weights(self) -> int:
        return self.rows * self.width


def _numbers(table: _Table, training: Training) -> int:
    """A table's weights, their optimizer's state and, where they are updated whole, their gradients."""
    weights = table.weights
    state = {"adagrad": weights, "rowwise_adagrad": table.rows, "adam": 2 * weights, "sgd": 0}
    gradients = weights if training.updates_whole_tables else 0
    return weights + state[training.sparse_optimizer] + gradients


def _passing_numbers(table: _Table, training: Training) -> int:
    """What a step takes beside these for a table that is updated whole, one after another.

    As measured of a large one: once its size, since it counts how often rows occur, which leaves a gap that
    the gradient no longer fits in, and Adagrad takes a root; and once more where the gradients of several
    features are added up.
    """
    return table.weights * min(table.features, 2) if training.updates_whole_tables else 0


def _gigabytes(number: int) -> str:
    return f"{number / 1e9:,.1f} GB"


def _mend(training: Training, are_tables: bool, runs_at_once: int) -> str:
    if runs_at_once > 1:
        return "lower --jobs"
    if not are_tables:
        return "lower the budget, or see its cost with `run_bench.py cost`"
    adagrad = training.sparse_optimizer == "adagrad"
    rowwise = "set training.sparse_optimizer to rowwise_adagrad, " if adagrad else ""
    return (
        "lower embedding_dim or max_size, raise min_count or set hash_buckets of features with many "
        f"categories, {rowwise}give fewer rows, or divide the tables among machines with torchrun"
    )
