"""Every two models of one size, compared directly: ``pairs.csv``, by which orders of models are judged.

Their differences are those of ``harness/evaluation/differences.py``, as any two rows' are. What two models
share cancels in them, which the difference of their differences to a base, each with its own interval, cannot
tell. The base is not among them: ``comparisons.csv`` has it.
"""

from __future__ import annotations

from collections.abc import Sequence
from itertools import combinations

from harness.evaluation.comparisons import ComparableRuns, Rows, compared_rows
from harness.evaluation.differences import MeasuredWorld, Pair
from harness.records.contestant import Contestant

METRICS = ("auc", "uauc")  # those of the paper
COLUMNS = [
    *("suite", "dataset", "task", "metric", "architecture", "variant", "base", "base_variant"),
    *("seeds", "worlds", "diff", "low", "high", "p_value"),
]


def every_pair(contestants: Sequence[Contestant], base: Contestant) -> list[Pair]:
    """Each two of the models but the base that have the same size."""
    models = [who for who in contestants if who != base]
    return [(one, other) for one, other in combinations(models, 2) if one.size == other.size]


def pair_rows(runs: ComparableRuns, task: str, measured: Sequence[MeasuredWorld]) -> Rows:
    """Rows of ``pairs.csv``: ``p_value`` is not corrected, and NaN where no verdict can be given."""
    models = [run.contestant for run in runs.runs if run.kind == "model"]
    rows = compared_rows(runs, task, measured, every_pair(list(dict.fromkeys(models)), runs.base))
    return [row for row in rows if row["metric"] in METRICS]
