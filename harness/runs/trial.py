"""What tuning needs from a training: validations on the way, and never a look at the test split."""

from __future__ import annotations

import math
from pathlib import Path

from datasets.prepared import PreparedDataset
from files.errors import InputError
from harness.evaluation.monitors import monitored
from harness.records.spec import RunSpec
from harness.runs.run import build_model
from harness.training.batches import RankBatches
from harness.training.loop import Trainer
from harness.training.progress import Watcher
from harness.training.ranks import World


def train_and_validate(
    spec: RunSpec, prepared: PreparedDataset, world: World, folder: Path, watcher: Watcher
) -> None:
    """Train by the spec; ``watcher`` receives the metrics of every validation on the way.

    No checkpoint is written; ``folder`` receives the weights of the best validation if there is ``patience``.

    Raises DivergenceError when the loss or a score does, InputError where ``patience`` selects by a metric
    that the validation split does not define.
    """
    unseen = spec.training.model_copy(update={"progress": ()})  # the test split
    data = RankBatches(spec.model_copy(update={"training": unseen}), prepared, world)
    Trainer(build_model(spec, prepared, world), data, folder, watcher, checkpoint_seconds=math.inf).train()


def mean_score(metrics: dict[str, dict], metric: str, dataset: str) -> float:
    """The mean over tasks of ``metric``; InputError naming the dataset where a task does not define it."""
    value = monitored(metrics, metric)
    if value is None:
        raise InputError(
            f"training.select_metric: the validation split of {dataset!r} does not define {metric} "
            "for every task; tune by the other metric"
        )
    return value
