r"""The lift by user-activity tier: ``OUT/tiers.csv`` and ``OUT/tier_metrics.csv`` from the runs' predictions.

A tier is a third of the users by how many training rows they have (``datasets/prepare/learn.py``): the test
split has no say in it. ``tiers.csv`` holds each contestant's difference to the base, the *lift*, among the
users of one tier alone, measured and compared as the whole test split is in
``harness/evaluation/differences.py``.

Whether one tier gains more than another is a question of its own, since two intervals that overlap do not
answer it. Rows whose tier reads ``low - high`` compare the metric's gap between two tiers,
:math:`z_{as} = y^{low}_{as} - y^{high}_{as}`, with the base's gap: that difference is the lift in the one
tier less the lift in the other. Its intervals are those of any difference: the seed part from the residuals
of :math:`z_{as}`, the users' part from draws within each tier, which are independent of each other because
a user belongs to one tier. (A schema that names a ``tier`` column may let users change theirs: then the same
user can be drawn in both, and the users' part takes no account of it.)

Draws of users and seeds are as many as in ``comparisons.csv``, so with three tiers the whole takes about as
long once more. Only suites that declare the analysis ``tiers`` have these files.
"""

from __future__ import annotations

from collections.abc import Iterator
from itertools import combinations
from pathlib import Path

import pandas as pd

from harness.evaluation.bootstrap import METRICS, REPLICATES, UserBootstrap
from harness.evaluation.comparisons import (
    INTERVAL_COLUMNS,
    TEST_COLUMNS,
    ComparableRuns,
    Rows,
    comparable_runs,
    measure,
)
from harness.evaluation.differences import differences
from harness.evaluation.metrics import binary_metrics
from harness.records.store import read_runs

TIERS = ("low", "middle", "high")  # the numbers 0, 1 and 2 of datasets.batch.Batch
DIFFERENCE_COLUMNS = [*INTERVAL_COLUMNS, "tier", *TEST_COLUMNS]
MEASURED_COLUMNS = ["auc", "uauc", "users", "rows", "one_class_users"]
METRIC_COLUMNS = [
    *("suite", "dataset", "task", "tier", "architecture", "variant", "seed"),
    *MEASURED_COLUMNS,
]


def compare_tiers(out: Path, replicates: int = REPLICATES) -> pd.DataFrame:
    """Every finished run's difference to the base within each tier, and between each two tiers.

    The columns of ``comparisons.csv``, and ``tier``: a tier's name, or two names as ``low - high``, where
    ``mean`` and ``base_mean`` are gaps between the tiers and ``diff`` is the one lift less the other.

    Raises
        InputError: as ``harness.evaluation.comparisons.compare``.
    """
    rows = [
        row
        for runs in comparable_runs(read_runs(out))
        for task in runs.predicted
        for row in lift_rows(runs, task, replicates)
    ]
    return pd.DataFrame(rows, columns=DIFFERENCE_COLUMNS)


def tier_metrics(out: Path) -> pd.DataFrame:
    """AUC, UAUC, users and rows of every finished run, task and tier; empty where the rows define no value.

    ``users`` have both labels and bear on UAUC; the ``one_class_users`` beside them bear on AUC alone.
    """
    rows = [
        row
        for runs in comparable_runs(read_runs(out))
        for task in runs.predicted
        for row in metric_rows(runs, task)
    ]
    return pd.DataFrame(rows, columns=METRIC_COLUMNS)


def lift_rows(runs: ComparableRuns, task: str, replicates: int) -> Rows:
    """The rows of ``tiers.csv`` of one dataset and task."""
    return [
        runs.shared_cells(task) | {"tier": name} | row
        for name, measured in _measured(runs, task, replicates)
        for row in differences(runs.runs, measured, runs.base)
    ]


def _measured(runs: ComparableRuns, task: str, replicates: int) -> Iterator[tuple[str, UserBootstrap]]:
    """Each tier and its bootstrap, then each two tiers and the bootstrap of the gap between them."""
    predicted = runs.predicted[task]
    within = {
        # Each tier has draws of its own; with one seed the same places among its users would be drawn.
        name: measure(runs.runs, task, replicates, predicted.within_tier(tier), seed=tier)
        for tier, name in enumerate(TIERS)
    }
    yield from within.items()
    for one, other in combinations(TIERS, 2):
        yield f"{one} - {other}", _gap(within[one], within[other])


def _gap(one: UserBootstrap, other: UserBootstrap) -> UserBootstrap:
    """Metrics in one tier less those in the other; ``users`` are those of the smaller tier."""
    return UserBootstrap(
        point={metric: one.point[metric] - other.point[metric] for metric in METRICS},
        draws={metric: one.draws[metric] - other.draws[metric] for metric in METRICS},
        users={metric: min(one.users[metric], other.users[metric]) for metric in METRICS},
    )


def metric_rows(runs: ComparableRuns, task: str) -> Rows:
    """The rows of ``tier_metrics.csv`` of one dataset and task."""
    rows = []
    for tier, name in enumerate(TIERS):
        predicted = runs.predicted[task].within_tier(tier)
        for run, scores in zip(runs.runs, predicted.scores, strict=True):
            measured = binary_metrics(predicted.labels, scores, predicted.users)
            rows.append(
                {"suite": runs.suite, "dataset": runs.dataset, "task": task, "tier": name}
                | {"architecture": run.architecture, "variant": run.contestant.variant, "seed": run.seed}
                | {column: getattr(measured, column) for column in MEASURED_COLUMNS}
            )
    return rows
