"""Every contestant of a folder against the base: ``comparisons.csv``, ``variants.csv`` and the tiers' files.

The frames are tidy: one row a dataset, task, metric and contestant (and tier), one column a quantity, which
``harness/evaluation/differences.py`` defines. ``variants.csv`` is there where other architectures than the
base have variants: each variant's difference to the plain row of its own architecture.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

import pandas as pd

from files.errors import InputError
from files.plain_text import csv_text
from files.writing import write_atomically
from harness.evaluation.bootstrap import REPLICATES, UserBootstrap, bootstrap_users
from harness.evaluation.differences import differences
from harness.evaluation.metrics import NonFiniteScores
from harness.evaluation.predictions import Predicted, read_predictions
from harness.records.contestant import Contestant
from harness.records.record import Record
from harness.records.store import StoredRuns, read_runs

INTERVAL_COLUMNS = [
    *("suite", "dataset", "task", "metric", "architecture", "variant", "base", "seeds", "users"),
    *("mean", "base_mean", "diff", "users_low", "users_high", "seeds_low", "seeds_high"),
    *("low", "high", "resolved"),
]
TEST_COLUMNS = ["p_value", "p_holm", "effect_size"]
COLUMNS = [*INTERVAL_COLUMNS, *TEST_COLUMNS]

Rows = list[dict]


@dataclass(frozen=True)
class ComparableRuns:
    """The finished runs of a suite on one dataset, its base's among them, and what they predicted."""

    suite: str
    dataset: str
    base: Contestant
    runs: list[Record]

    @cached_property
    def predicted(self) -> dict[str, Predicted]:
        """By task; the files are read at the first use."""
        return read_predictions(self.runs)

    def measured(self, task: str, replicates: int) -> UserBootstrap:
        """The runs' metrics of a task on the test rows and on draws of their users."""
        return measure(self.runs, task, replicates, self.predicted[task])

    def plain_rows_with_variants(self) -> list[Contestant]:
        """The plain rows of architectures that have variants too; none where that is the base alone."""
        rows = dict.fromkeys(run.contestant for run in self.runs)
        varied = {row.architecture for row in rows if row.variant}
        plain = [row for row in rows if not row.variant and row.architecture in varied]
        return [] if plain == [self.base] else plain

    def shared_cells(self, task: str) -> dict[str, str]:
        """The cells that all their rows of one task share."""
        return {
            "suite": self.suite,
            "dataset": self.dataset,
            "task": task,
            "base": self.base.architecture,
        }


def comparable_runs(stored: StoredRuns) -> Iterator[ComparableRuns]:
    """The runs that count, dataset by dataset; no dataset without a finished run of the base."""
    for selection in stored.selections():
        runs = selection.finished()
        base = selection.base
        if base is not None and any(run.contestant == base for run in runs):
            yield ComparableRuns(selection.suite.name, selection.dataset, base, runs)


def measure(
    runs: list[Record], task: str, replicates: int, predicted: Predicted, seed: int = 0
) -> UserBootstrap:
    """The runs' metrics on the predicted rows and on draws of their users, which ``seed`` decides."""
    try:
        return bootstrap_users(predicted.labels, predicted.users, predicted.scores, replicates, seed)
    except NonFiniteScores as error:
        raise InputError(f"a finished run on {runs[0].dataset} has no usable score_{task}: {error}") from None


def base_rows(runs: ComparableRuns, task: str, measured: UserBootstrap) -> Rows:
    """Every contestant's difference to the base: rows of ``comparisons.csv``."""
    cells = runs.shared_cells(task)
    return [cells | row for row in differences(runs.runs, measured, runs.base)]


def variant_rows(runs: ComparableRuns, task: str, measured: UserBootstrap) -> Rows:
    """Every variant's difference to the plain row of its own architecture: rows of ``variants.csv``."""
    cells = runs.shared_cells(task)
    return [
        cells | row | {"base": plain.architecture}
        for plain in runs.plain_rows_with_variants()
        for row in differences(runs.runs, measured, plain)
        if row["architecture"] == plain.architecture
    ]


def compare(out: Path, replicates: int = REPLICATES) -> pd.DataFrame:
    """Every finished run's difference to the base, with intervals: the columns of ``comparisons.csv``.

    Args
        out: a suite's output folder: ``suite.json``, ``runs/*/record.json``, ``runs/*/predictions.parquet``.
        replicates: bootstrap draws of users a dataset and task.

    Raises
        InputError: a file is missing, damaged or does not fit the others.
    """
    return _compare(out, replicates, base_rows)


def compare_variants(out: Path, replicates: int = REPLICATES) -> pd.DataFrame:
    """Every variant's difference to the plain row of its own architecture: the columns of `compare`.

    Empty where only the base has variants, which `compare` holds. Raises InputError as `compare` does.
    """
    return _compare(out, replicates, variant_rows)


def _compare(
    out: Path, replicates: int, rows_of: Callable[[ComparableRuns, str, UserBootstrap], Rows]
) -> pd.DataFrame:
    rows = [
        row
        for runs in comparable_runs(read_runs(out))
        for task in runs.predicted
        for row in rows_of(runs, task, runs.measured(task, replicates))
    ]
    return pd.DataFrame(rows, columns=COLUMNS)


def write_csv(path: Path, rows: Rows, columns: list[str]) -> None:
    """Tidy rows as a CSV with the columns that its readers know, whole or not at all."""
    write_atomically(path, csv_text(pd.DataFrame(rows, columns=columns)).encode())
