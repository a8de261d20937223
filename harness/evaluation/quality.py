"""What a dataset's runs reached, beside their differences to the base: one row a contestant and metric."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any

import pandas as pd

from harness.evaluation.comparisons import TEST_COLUMNS
from harness.evaluation.statistics.intervals import World, mean_interval
from harness.records.contestant import Contestant
from harness.records.record import Record, TaskMetrics

QUALITIES = ("auc", "uauc", "gauc")
PROBABILITY_METRICS = ("logloss", "normalized_entropy", "calibration")
# The quantities of a difference, by their columns in comparisons.csv and tiers.csv.
DIFFERENCE = {
    "diff": "diff",
    "low": "diff_low",
    "high": "diff_high",
    "resolved": "resolved",
    "users_low": "diff_users_low",
    "users_high": "diff_users_high",
    **{name: name for name in TEST_COLUMNS},
}
QUANTITIES = ("mean", "mean_low", "mean_high", *DIFFERENCE.values())


def quality(
    contestants: Mapping[Contestant, list[Record]],
    references: Mapping[Contestant, list[Record]],
    base: Contestant | None,
    task: str,
    comparisons: pd.DataFrame,
) -> pd.DataFrame:
    """One row a contestant (base first) or reference, and metric; AUCs and differences are fractions.

    Args:
        contestants, references: each one's runs, failed ones too.
        comparisons: rows of ``comparisons.csv`` of one dataset.

    Returns:
        Columns kind, architecture, variant, is_base, task, seeds, failed_seeds, users, rows, metric, and
        the quantities: mean over seeds with mean_low and mean_high (95% interval over seeds or, with several,
        worlds), diff to the base with diff_low, diff_high (95% interval), diff_users_low, diff_users_high
        (its part from users), resolved, p_value, p_holm, effect_size and detectable, which
        ``harness/evaluation/differences.py`` defines. Metrics of probabilities have the mean alone.
    """
    rows: list[dict] = []
    for kind, runs_by_name in (("model", contestants), ("reference", references)):
        for contestant, runs in runs_by_name.items():
            is_base = kind == "model" and contestant == base
            shared: dict[str, Any] = {
                "kind": kind,
                "architecture": contestant.architecture,
                "variant": contestant.variant,
            }
            shared |= {"is_base": is_base, "task": task} | _counts(runs, task)
            rows += [shared | _mean(runs, task, metric) for metric in PROBABILITY_METRICS]
            rows += [
                shared | _mean(runs, task, metric) | difference(comparisons, task, metric, contestant)
                for metric in QUALITIES
            ]
    return pd.DataFrame(rows)


def _measured(runs: list[Record], task: str) -> list[tuple[World, TaskMetrics]]:
    """The world and metrics of every finished run."""
    return [
        (run.world, run.metrics[task]) for run in runs if run.status == "finished" and task in run.metrics
    ]


def _counts(runs: list[Record], task: str) -> dict[str, Any]:
    measured = [metrics for _, metrics in _measured(runs, task)]
    return {
        "seeds": len(measured),
        "failed_seeds": sum(run.status == "failed" for run in runs),
        "users": max((m.users for m in measured if m.users is not None), default=None),
        "rows": max((m.rows for m in measured if m.rows is not None), default=None),
    }


def _mean(runs: list[Record], task: str, metric: str) -> dict[str, Any]:
    found = [(getattr(metrics, metric), world) for world, metrics in _measured(runs, task)]
    known = [(value, world) for value, world in found if value is not None]
    mean, low, high = mean_interval([value for value, _ in known], [world for _, world in known])
    return {"metric": metric, "mean": mean, "mean_low": low, "mean_high": high}


def difference(
    compared: pd.DataFrame, task: str, metric: str, contestant: Contestant, tier: str | None = None
) -> dict[str, Any]:
    """A contestant's difference out of a table of comparisons, as the quantities of ``DIFFERENCE``.

    With ``tier``, out of a table of lifts. NaN, and None for ``resolved``, where it has none.
    """
    match = compared[
        (compared["task"] == task)
        & (compared["metric"] == metric)
        & (compared["architecture"] == contestant.architecture)
        & (compared["variant"] == contestant.variant)
    ]
    if tier is not None:
        match = match[match["tier"] == tier]
    if match.empty:
        return {name: None if name == "resolved" else math.nan for name in DIFFERENCE.values()}
    return {name: match.iloc[-1][column] for column, name in DIFFERENCE.items()}


def to_wide(tidy: pd.DataFrame, quantities: Mapping[str, Mapping[str, str]]) -> pd.DataFrame:
    """One row a contestant, as the CSV files of tables have it, out of one row a contestant and metric.

    Args:
        tidy: for every metric the same contestants in the same order.
        quantities: by metric, and by the column of ``tidy``, the name of the wide column.
    """
    spread = {"metric", *(column for columns in quantities.values() for column in columns)}
    parts = []
    for metric, columns in quantities.items():
        rows = tidy[tidy["metric"] == metric].reset_index(drop=True)
        parts.append(rows[list(columns)].rename(columns=dict(columns)))
    some_metric = next(iter(quantities))
    shared = tidy[tidy["metric"] == some_metric].drop(columns=list(spread & set(tidy))).reset_index(drop=True)
    return pd.concat([shared, *parts], axis=1)
