"""Tries a row of a suite before anything is trained: one step and one prediction on made-up data."""

from __future__ import annotations

from dataclasses import replace

import torch
from torchrec import KeyedJaggedTensor

from datasets.batch import Batch
from datasets.prepared import PreparedDataset
from datasets.schema import FIRST_INDEX
from files.errors import InputError
from harness.records.cost import Cost
from harness.records.spec import RunSpec
from harness.runs.run import build_model
from harness.training.memory import require_room
from harness.training.ranks import World
from harness.training.step import autocast, optimizers_of, train_step

ROWS = 8
MOST_CATEGORIES = 30  # of a table, whose size changes nothing that a few rows can show
SEED = 999_999_937  # that no run has


def check_row(
    spec: RunSpec,
    cost: Cost,
    prepared: PreparedDataset,
    world: World,
    runs_at_once: int = 1,
    elsewhere: bool = False,
) -> None:
    """Build the spec's model over small tables, make one training step and one prediction.

    A loss that is not finite is accepted, since a run that diverges has a record. The model is not compiled.
    A run that is carried out ``elsewhere`` is asked there whether it fits; no step is made where this machine
    cannot hold even the dense side.

    Raises InputError where this machine is to hold ``runs_at_once`` such models and cannot, and whatever the
    model raises.
    """
    small = _with_small_tables(prepared)
    if not elsewhere:
        require_room(spec, cost, prepared, world, runs_at_once)
    elif not _has_room_for_dense_side(spec, cost, small, world):
        return
    training = spec.training.model_copy(update={"compile": False})
    model = build_model(spec.model_copy(update={"seed": SEED, "training": training}), small, world)
    batch = made_up_batch(small, len(spec.tasks)).to(world.device)
    train_step(model, batch, optimizers_of(model, training), training, world)
    model.eval()
    with torch.no_grad(), autocast(training, world.device):
        model(batch)


def _has_room_for_dense_side(spec: RunSpec, cost: Cost, small: PreparedDataset, world: World) -> bool:
    try:
        require_room(spec, cost, small, world)
    except InputError:
        return False
    return True


def _with_small_tables(prepared: PreparedDataset) -> PreparedDataset:
    sizes = {name: min(size, MOST_CATEGORIES) for name, size in prepared.manifest["vocabulary_sizes"].items()}
    return replace(prepared, manifest={**prepared.manifest, "vocabulary_sizes": sizes})


def made_up_batch(prepared: PreparedDataset, num_tasks: int) -> Batch:
    """Valid indices, half of the places of each list, numbers from -1 to 1, and labels of both classes."""
    features = prepared.schema.sparse_features
    lengths = [max(1, feature.max_length // 2) if feature.is_list else 1 for feature in features]
    indices = [
        torch.arange(ROWS * length) % (prepared.table_sizes[feature.table] - FIRST_INDEX + 1) + 1
        for feature, length in zip(features, lengths, strict=True)
    ]
    sparse = KeyedJaggedTensor(
        keys=[feature.name for feature in features],
        values=torch.cat(indices) if indices else torch.empty(0, dtype=torch.int64),
        lengths=torch.tensor(lengths, dtype=torch.int64).repeat_interleave(ROWS),
    )
    numbers = sum(feature.num_numbers for feature in prepared.schema.dense_features)
    return Batch(
        sparse=sparse,
        dense=torch.linspace(-1, 1, ROWS * numbers).reshape(ROWS, numbers),
        labels=(torch.arange(ROWS * num_tasks) % 2).float().reshape(num_tasks, ROWS).T.contiguous(),
        user_id=torch.arange(ROWS),
        tier=torch.zeros(ROWS, dtype=torch.int64),
    )
