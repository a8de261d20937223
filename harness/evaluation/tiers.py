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

from collections.abc import Iterator, Sequence
from dataclasses import replace
from itertools import combinations
from pathlib import Path

import pandas as pd

from harness.evaluation.comparisons import (
    COUNT_COLUMNS,
    INTERVAL_COLUMNS,
    TEST_COLUMNS,
    ComparableRuns,
    Rows,
    comparable_runs,
    compared_rows,
)
from harness.evaluation.differences import MeasuredWorld
from harness.evaluation.metrics import Metrics, binary_metrics
from harness.evaluation.predictions import Predicted
from harness.evaluation.statistics.bootstrap import METRICS, REPLICATES, UserBootstrap
from harness.evaluation.statistics.intervals import World
from harness.records.record import Record
from harness.records.store import read_runs

TIERS = ("low", "middle", "high")  # the numbers 0, 1 and 2 of datasets.batch.Batch
DIFFERENCE_COLUMNS = [*INTERVAL_COLUMNS, "tier", *TEST_COLUMNS, *COUNT_COLUMNS]
MEASURED_COLUMNS = ["auc", "uauc", "users", "rows", "one_class_users"]
METRIC_COLUMNS = [
    *("suite", "dataset", "task", "tier", "architecture", "variant", "seed"),
    *MEASURED_COLUMNS,
    "world",
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
        for task in runs.tasks
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
        for task in runs.tasks
        for row in metric_rows(runs, task)
    ]
    return pd.DataFrame(rows, columns=METRIC_COLUMNS)


def lift_rows(runs: ComparableRuns, task: str, replicates: int) -> Rows:
    """The rows of ``tiers.csv`` of one dataset and task; none where rows belong to no user."""
    if not _has_tiers(runs, task):
        return []
    return [
        {"tier": name} | row
        for name, measured in _measured(runs, task, replicates)
        for row in compared_rows(runs, task, measured, runs.to_base)
    ]


def _has_tiers(runs: ComparableRuns, task: str) -> bool:
    return any((predicted[task].tiers >= 0).any() for predicted in runs.predicted.values())


def _measured(
    runs: ComparableRuns, task: str, replicates: int
) -> Iterator[tuple[str, Sequence[MeasuredWorld]]]:
    """Each tier and its bootstraps, then each two tiers and the bootstraps of the gap between them."""
    within = {name: _in_tier(runs, task, tier, replicates) for tier, name in enumerate(TIERS)}
    yield from within.items()
    for one, other in combinations(TIERS, 2):
        yield f"{one} - {other}", [_gap(*worlds) for worlds in zip(within[one], within[other], strict=True)]


def _in_tier(runs: ComparableRuns, task: str, tier: int, replicates: int) -> list[MeasuredWorld]:
    rows = {world: rows_in_tier(runs, world, task, tier) for world in runs.by_world}
    # Each tier has draws of its own; with one seed the same places among its users would be drawn.
    return runs.measured_on(rows, task, replicates, seed=tier)


def rows_in_tier(runs: ComparableRuns, world: World, task: str, tier: int) -> Predicted:
    """A world's test rows of one tier; where worlds share test rows, the tiers are the first world's."""
    first = next(iter(runs.by_world))
    tiers = runs.predicted[first if runs.share_test_rows(task) else world][task].tiers
    return runs.predicted[world][task]._replace(tiers=tiers).within_tier(tier)


def _gap(one: MeasuredWorld, other: MeasuredWorld) -> MeasuredWorld:
    """Metrics in one tier less those in the other; ``users`` are those of the smaller tier."""
    return replace(one, measured=_less(one.measured, other.measured))


def _less(one: UserBootstrap, other: UserBootstrap) -> UserBootstrap:
    return UserBootstrap(
        point={metric: one.point[metric] - other.point[metric] for metric in METRICS},
        draws={metric: one.draws[metric] - other.draws[metric] for metric in METRICS},
        users={metric: min(one.users[metric], other.users[metric]) for metric in METRICS},
    )


def metric_rows(runs: ComparableRuns, task: str) -> Rows:
    """The rows of ``tier_metrics.csv`` of one dataset and task; none where rows belong to no user."""
    if not _has_tiers(runs, task):
        return []
    return [
        {"suite": runs.suite, "dataset": runs.dataset, "task": task, "tier": name}
        | {"architecture": run.architecture, "variant": run.contestant.variant, "seed": run.seed}
        | {column: getattr(measured, column) for column in MEASURED_COLUMNS}
        | {"world": world}
        for tier, name in enumerate(TIERS)
        for world in runs.by_world
        for run, measured in _metrics_in_tier(runs, world, task, tier)
    ]


def _metrics_in_tier(
    runs: ComparableRuns, world: World, task: str, tier: int
) -> Iterator[tuple[Record, Metrics]]:
    rows = rows_in_tier(runs, world, task, tier)
    for run, scores in zip(runs.by_world[world], rows.scores, strict=True):
        yield run, binary_metrics(rows.labels, scores, rows.users)
