"""What share of the gap to the oracle each model closes after the fewest rows of its curve, and the most.

The share is that of ``gap.py`` beside this, of each run against the oracle and the constant of its own world.
Intervals are Student's t over worlds or, in one world, over seeds: predictions on the way are not kept, so
users are not drawn anew.
"""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np
import pandas as pd

from harness.evaluation.learning_curves import METRICS, curve_points
from harness.evaluation.oracle.gap import CONSTANT, ORACLE, share_and_distance
from harness.evaluation.statistics.intervals import mean_interval
from harness.records.record import Record

_MODEL = ["task", "metric", "architecture", "variant", "size"]
QUANTITIES = ("share_few", "share_most", "gained")
COLUMNS = [
    *(*_MODEL, "few", "most", "repeats"),
    *(f"{name}{end}" for name in QUANTITIES for end in ("", "_low", "_high")),
]


def gap_along_rows(records: Sequence[Record]) -> pd.DataFrame:
    """One row a model, task and metric; none of worlds without an oracle.

    Columns: task, metric, architecture, variant, size, few and most (rows trained on), repeats (worlds or
    seeds), and as fractions share_few, share_most and gained (their difference, paired by world and seed),
    each with its 95% interval (``_low``, ``_high``; NaN with one seed or world).
    """
    points = with_shares(curve_points(records, "tested"), records)
    rows = []
    for key, of_model in points.groupby(_MODEL, sort=False):
        runs = of_model.pivot_table(index=["world", "seed"], columns="samples", values="share").dropna()
        few, most = min(runs.columns), max(runs.columns)
        worlds = runs.index.get_level_values("world").tolist()
        values = (runs[few], runs[most], runs[most] - runs[few])
        found = [number for each in values for number in mean_interval(each.tolist(), worlds)]
        rows.append([*key, few, most, len(set(worlds)) if len(set(worlds)) > 1 else len(runs), *found])
    return pd.DataFrame(rows, columns=COLUMNS)


def with_shares(points: pd.DataFrame, records: Sequence[Record]) -> pd.DataFrame:
    """The points of learning curves with the ``share`` of the gap, those alone that have one."""
    keys = list(zip(points["world"], points["task"], points["metric"], strict=True))
    oracle, constant = (_of_reference(records, name) for name in (ORACLE, CONSTANT))
    ceiling, floor = (
        np.array([known.get(key, math.nan) for key in keys], dtype=float) for known in (oracle, constant)
    )
    values = points["value"].to_numpy(float)
    shares = np.full(len(points), math.nan)
    for metric in METRICS:
        here = (points["metric"] == metric).to_numpy()
        shares[here] = share_and_distance(metric, values[here], ceiling[here], floor[here])["share"]
    return points.assign(share=shares).dropna(subset="share")


def _of_reference(records: Sequence[Record], name: str) -> dict[tuple[int, str, str], float]:
    """What a reference reached, by world (0 without any), task and metric."""
    return {
        (record.world or 0, task, metric): value
        for record in records
        if record.is_reference and record.architecture == name
        for task, metrics in record.metrics.items()
        for metric in METRICS
        if (value := getattr(metrics, metric)) is not None
    }
