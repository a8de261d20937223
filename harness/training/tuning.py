"""What tuning needs of a training: validations on the way, and never a look at the test split."""

from __future__ import annotations

import math
from pathlib import Path

import numpy as np
from torch import nn

from datasets.prepared import PreparedDataset
from files.errors import InputError
from harness.records.spec import RunSpec
from harness.training.loop import Loop, predict, train
from harness.training.progress import Watcher
from harness.training.ranks import World
from harness.training.run import build_model, metrics_by_task


def train_and_validate(
    spec: RunSpec, prepared: PreparedDataset, world: World, folder: Path, watcher: Watcher
) -> None:
    """Train by the spec; ``watcher`` receives the metrics of every validation on the way.

    No checkpoint is written; ``folder`` receives the weights of the best validation if there is ``patience``.

    Raises DivergenceError when the loss or a score does, InputError where ``patience`` selects by a metric
    that the validation split does not define.
    """

    def validate(model: nn.Module) -> dict[str, dict]:
        return metrics_by_task(predict(model, loop, "valid"), spec.tasks)

    loop = Loop(spec, prepared, folder, world, watcher, checkpoint_seconds=math.inf)
    train(build_model(spec, prepared, world), loop, validate)


def mean_score(metrics: dict[str, dict], metric: str, dataset: str) -> float:
    """The mean over tasks of ``metric``; InputError naming the dataset where a task does not define it."""
    values = [of_task[metric] for of_task in metrics.values()]
    if None in values:
        raise InputError(
            f"training.select_metric: the validation split of {dataset!r} does not define {metric} "
            "for every task; tune by the other metric"
        )
    return float(np.mean(values))
