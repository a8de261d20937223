"""One trial of tuning: train by a spec, judge by the validation split, never look at the test split."""

from __future__ import annotations

import math
import tempfile
from collections.abc import Callable
from pathlib import Path

import numpy as np
from torch import nn

from datasets.errors import InputError
from datasets.prepared import PreparedDataset
from harness.distributed import World
from harness.execute import build_model, metrics_by_task
from harness.progress import Watcher
from harness.runs import RunSpec
from harness.train import Loop, predict, train


def validation_score(
    spec: RunSpec,
    prepared: PreparedDataset,
    world: World,
    watcher: Watcher,
    judge: Callable[[int, float], None],
) -> float:
    """The spec's ``select_metric`` on the validation split after its training, mean over tasks.

    With ``patience`` it is the best validation's, whose weights training ends with.

    ``judge(number, score)`` sees every validation on the way; what it raises ends the trial. Nothing is
    kept on disk.

    Raises DivergenceError when the loss or a score does, InputError where the metric is undefined.
    """
    scores: list[float] = []

    def validate(model: nn.Module) -> dict[str, dict]:
        metrics = metrics_by_task(predict(model, loop, "valid"), spec.tasks)
        scores.append(_mean(metrics, spec))
        judge(len(scores), scores[-1])
        return metrics

    with tempfile.TemporaryDirectory() as folder:
        loop = Loop(spec, prepared, Path(folder), world, watcher, checkpoint_seconds=math.inf)
        train(build_model(spec, prepared, world), loop, validate)
    return scores[-1] if spec.training.patience is None else max(scores)


def _mean(metrics: dict[str, dict], spec: RunSpec) -> float:
    name = spec.training.select_metric
    values = [of_task[name] for of_task in metrics.values()]
    if None in values:
        raise InputError(
            f"training.select_metric: the validation split of {spec.dataset!r} does not define {name} "
            "for every task; tune by the other metric"
        )
    return float(np.mean(values))
