"""Every contestant of a folder against the base: ``comparisons.csv``, ``variants.csv``, ``contrasts.csv``.

The frames are tidy: one row a dataset, task, metric and contestant (and tier), one column a quantity, which
``harness/evaluation/differences.py`` defines. ``variants.csv`` is there where other architectures than the
base have variants: each variant's difference to the plain row of its own architecture. ``contrasts.csv``
holds the pairs of rows that the suite declares: what its words compare directly.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

import numpy as np
import pandas as pd

from files.errors import InputError
from files.plain_text import csv_text
from files.writing import write_atomically
from harness.evaluation.differences import MeasuredWorld, Pair, differences
from harness.evaluation.metrics import NonFiniteScores
from harness.evaluation.predictions import Predicted, read_predictions
from harness.evaluation.statistics.bootstrap import REPLICATES, UserBootstrap, bootstrap_users
from harness.evaluation.statistics.intervals import World
from harness.records.contestant import Contestant
from harness.records.record import Record
from harness.records.store import StoredRuns, read_runs

INTERVAL_COLUMNS = [
    *("suite", "dataset", "task", "metric", "architecture", "variant", "base", "seeds", "users"),
    *("mean", "base_mean", "diff", "users_low", "users_high", "seeds_low", "seeds_high"),
    *("low", "high", "resolved"),
]
TEST_COLUMNS = ["p_value", "p_holm", "effect_size", "detectable"]
COUNT_COLUMNS = ["worlds", "failed_seeds"]
COLUMNS = [*INTERVAL_COLUMNS, *TEST_COLUMNS, *COUNT_COLUMNS]
CONTRAST_COLUMNS = [*COLUMNS, "base_variant"]

Rows = list[dict]

DRAWS_A_WORLD = 10  # seeds of draws that a world has for itself: one of all its users, and one a tier


@dataclass(frozen=True)
class ComparableRuns:
    """The finished runs of a suite on one dataset, its base's among them, and what they predicted.

    ``failed_runs`` are those that failed.
    """

    suite: str
    dataset: str
    base: Contestant
    contrasts: list[Pair]
    runs: list[Record]
    failed_runs: list[Record]

    @property
    def failed(self) -> Counter[Contestant]:
        """How many runs of each contestant failed."""
        return Counter(run.contestant for run in self.failed_runs)

    @cached_property
    def by_world(self) -> dict[World, list[Record]]:
        worlds = dict.fromkeys(run.world for run in self.runs)
        return {world: [run for run in self.runs if run.world == world] for world in worlds}

    @cached_property
    def predicted(self) -> dict[World, dict[str, Predicted]]:
        """By world and task; the files are read at the first use."""
        return {world: read_predictions(runs) for world, runs in self.by_world.items()}

    @property
    def tasks(self) -> list[str]:
        """Those that the runs of every world predicted."""
        first, *others = self.predicted.values()
        return [task for task in first if all(task in tasks for tasks in others)]

    def measured(self, task: str, replicates: int) -> list[MeasuredWorld]:
        """The runs' metrics of a task on each world's test rows and on draws of their users."""
        return self.measured_on(
            {world: self.predicted[world][task] for world in self.by_world}, task, replicates
        )

    def measured_on(
        self, rows: dict[World, Predicted], task: str, replicates: int, seed: int = 0
    ) -> list[MeasuredWorld]:
        """`measured` on some of each world's test rows; ``seed`` is that of the draws of users."""
        own, seeds = not self.share_test_rows(task), self.seeds_of_draws(task)
        return [
            MeasuredWorld(
                world,
                runs,
                measure(runs, task, replicates, rows[world], seed + seeds[world]),
                own,
                self.are_splits,
            )
            for world, runs in self.by_world.items()
        ]

    @property
    def are_splits(self) -> bool:
        """Whether the worlds are one log, split at several times."""
        return any((run.spec.get("dataset_options") or {}).get("worlds_of") == "splits" for run in self.runs)

    def seeds_of_draws(self, task: str) -> dict[World, int]:
        """By world the seed of its draws of users: one for all worlds that have the same test rows."""
        own = not self.share_test_rows(task)
        return {world: DRAWS_A_WORLD * place * own for place, world in enumerate(self.by_world)}

    def share_test_rows(self, task: str) -> bool:
        """Whether several worlds are tested on the same rows, as draws of a log's training rows are."""
        first, *others = (self.predicted[world][task] for world in self.by_world)
        return bool(others) and all(
            np.array_equal(first.users, other.users)
            and np.array_equal(first.labels, other.labels, equal_nan=True)
            for other in others
        )

    @property
    def to_base(self) -> list[Pair]:
        """Every contestant with the base."""
        return [(who, self.base) for who in self.contestants if who != self.base]

    @property
    def to_plain(self) -> list[Pair]:
        """Every variant with the plain row of its architecture; none where that is the base alone."""
        plain = {who.architecture: who for who in self.contestants if not who.variant}
        pairs = [
            (who, plain[who.architecture])
            for who in self.contestants
            if who.variant and who.architecture in plain
        ]
        return [] if {other for _, other in pairs} == {self.base} else pairs

    @property
    def contestants(self) -> list[Contestant]:
        return list(dict.fromkeys(run.contestant for run in self.runs))

    def shared_cells(self, task: str) -> dict[str, str]:
        """The cells that all their rows of one task share."""
        return {"suite": self.suite, "dataset": self.dataset, "task": task}


def comparable_runs(stored: StoredRuns) -> Iterator[ComparableRuns]:
    """The runs that count, dataset by dataset; no dataset without a finished run of the base."""
    for selection in stored.selections():
        runs, base, suite = selection.finished(), selection.base, selection.suite
        failed = [run for run in selection.records if run.status == "failed"]
        if base is not None and any(run.contestant == base for run in runs):
            yield ComparableRuns(suite.name, selection.dataset, base, suite.contrasts, runs, failed)


def measure(
    runs: list[Record], task: str, replicates: int, predicted: Predicted, seed: int = 0
) -> UserBootstrap:
    """The runs' metrics on the predicted rows and on draws of their users, which ``seed`` decides."""
    try:
        return bootstrap_users(predicted.labels, predicted.users, predicted.scores, replicates, seed)
    except NonFiniteScores as error:
        raise InputError(f"a finished run on {runs[0].dataset} has no usable score_{task}: {error}") from None


def compared_rows(
    runs: ComparableRuns, task: str, measured: Sequence[MeasuredWorld], pairs: Sequence[Pair]
) -> Rows:
    """The differences of ``pairs`` in one task."""
    return [runs.shared_cells(task) | row for row in differences(measured, pairs, runs.failed)]


def compare(out: Path, replicates: int = REPLICATES) -> pd.DataFrame:
    """Every finished run's difference to the base, with intervals: the columns of ``comparisons.csv``.

    Args
        out: a suite's output folder: ``suite.json``, ``runs/*/record.json``, ``runs/*/predictions.parquet``.
        replicates: bootstrap draws of users a dataset and task.

    Raises
        InputError: a file is missing, damaged or does not fit the others.
    """
    return _compare(out, replicates, lambda runs: runs.to_base)[COLUMNS]


def compare_variants(out: Path, replicates: int = REPLICATES) -> pd.DataFrame:
    """Every variant's difference to the plain row of its own architecture: the columns of `compare`.

    Empty where only the base has variants, which `compare` holds. Raises InputError as `compare` does.
    """
    return _compare(out, replicates, lambda runs: runs.to_plain)[COLUMNS]


def compare_contrasts(out: Path, replicates: int = REPLICATES) -> pd.DataFrame:
    """The differences that the suite declares: the columns of `compare`, and ``base_variant``.

    Raises InputError as `compare` does.
    """
    return _compare(out, replicates, lambda runs: runs.contrasts)


def _compare(out: Path, replicates: int, pairs_of: Callable[[ComparableRuns], list[Pair]]) -> pd.DataFrame:
    rows = [
        row
        for runs in comparable_runs(read_runs(out))
        for task in runs.tasks
        for row in compared_rows(runs, task, runs.measured(task, replicates), pairs_of(runs))
    ]
    return pd.DataFrame(rows, columns=CONTRAST_COLUMNS)


def write_csv(path: Path, rows: Rows, columns: list[str]) -> None:
    """Tidy rows as a CSV with the columns that its readers know, whole or not at all.

    Numbers have ten significant digits: their intervals are known to three, and records have all.
    """
    frame = pd.DataFrame(rows, columns=columns)
    for name in frame.select_dtypes("float"):
        frame[name] = [float(f"{number:.10g}") for number in frame[name]]
    write_atomically(path, csv_text(frame).encode())


def write_csv_if_any(path: Path, rows: Rows, columns: list[str]) -> None:
    """`write_csv`; where there are no rows, there is no file."""
    if rows:
        write_csv(path, rows, columns)
    else:
        path.unlink(missing_ok=True)
