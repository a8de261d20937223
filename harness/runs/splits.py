"""A prepared dataset's splits as whole arrays, for references that are fitted to all rows at once."""

from __future__ import annotations

from dataclasses import dataclass, field

import numpy as np

from datasets.prepared import PreparedDataset
from datasets.window import Window, WindowSource
from files.errors import InputError
from files.memory import free_memory
from harness.evaluation.metrics import binary_metrics


class UnfitTask(Exception):  # noqa: N818 - a finding about the data that a record keeps, as a divergence is
    """A task has too few labels for a reference to be fitted; the message is one sentence."""


@dataclass(frozen=True)
class Splits:
    """The splits of a prepared dataset, each read once and kept.

    Labels are those of ``tasks``, in order. Nothing here hands out the test split's labels.
    """

    prepared: PreparedDataset
    tasks: list[str]
    _read: dict[str, Window] = field(default_factory=dict)

    def window(self, split: str) -> Window:
        """All rows of a split in time order."""
        if split not in self._read:
            shards = self.prepared.shards(split)
            files = [self.prepared.path / shard["file"] for shard in shards]
            tasks = [] if split == "test" else self.tasks
            source = WindowSource(files, self.prepared.schema, tasks)
            self._read[split] = next(source.windows(sum(shard["rows"] for shard in shards)))
        return self._read[split]

    def labels(self, split: str, task: int) -> tuple[np.ndarray, np.ndarray]:
        """Rows (N,) of a split at which a task is defined, and its labels there (N,), float64.

        Raises UnfitTask where there is no such row, and in training where they have one class.
        """
        column = self.window(split).labels[:, task].astype(np.float64)
        known = np.flatnonzero(~np.isnan(column))
        name = self.tasks[task]
        if not len(known):
            raise UnfitTask(f"task {name!r} is defined in no row of the {split} split")
        if split == "train" and len(np.unique(column[known])) < 2:
            raise UnfitTask(f"task {name!r} has one class in the train split")
        return known, column[known]

    def validation_metrics(self, scores: np.ndarray) -> dict[str, dict[str, float | None]]:
        """AUC, UAUC and log loss by task of the validation split's ``scores`` (R, G)."""
        window = self.window("valid")
        users = window.user_id if self.prepared.has_users else None
        found = {}
        for place, task in enumerate(self.tasks):
            metrics = binary_metrics(window.labels[:, place], scores[:, place], users)
            found[task] = {"auc": metrics.auc, "uauc": metrics.uauc, "logloss": metrics.logloss}
        return found


def require_memory(needed: float, what: str) -> None:
    """Raise InputError where ``needed`` bytes are more than this machine has free."""
    available = free_memory()
    if needed > available:
        raise InputError(
            f"{what} needs about {needed / 1e9:,.0f} GB of memory for all rows at once, and "
            f"{available / 1e9:,.0f} GB are free; leave it out with `references`, or give fewer rows"
        )
