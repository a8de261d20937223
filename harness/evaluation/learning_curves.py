"""Learning curves: what models reach after so many training samples, and their differences to the base.

Two kinds of points, both of one pass over the log: ``tested``, the test split on the way and at the end; and
``ahead``, each window of the log before it was trained on, as an online system is judged.

Differences are paired by world and seed, and of models of several sizes to the base of the same size. Their
intervals are Student's t over seeds or, with several worlds, over the worlds' means
(``harness/evaluation/statistics/intervals.py``): predictions on the way are not kept, so users are not
drawn anew.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import Any, Literal

import pandas as pd

from harness.evaluation.statistics.intervals import mean_interval
from harness.records.contestant import Contestant
from harness.records.record import Record, TaskMetrics

METRICS = ("auc", "uauc", "logloss")
Kind = Literal["tested", "ahead"]

_MODEL = ["architecture", "variant", "line", "size"]
_RUN = ["world", "seed"]
_POINT = ["task", "metric", "samples"]
COLUMNS = [
    *("task", "metric", *_MODEL, "is_base", "samples", "repeats"),
    *("mean", "mean_low", "mean_high", "diff", "diff_low", "diff_high"),
]


def curve_points(records: Iterable[Record], kind: Kind) -> pd.DataFrame:
    """One row a finished run, point, task and metric; no row of runs without points on the way.

    Columns: architecture, variant, line (the variant without its size), size, world (0 without any), seed,
    task, metric (auc, uauc, logloss), samples (trained on before the point was scored), value.
    """
    rows: list[tuple[Any, ...]] = []
    for record in records:
        who = record.contestant
        model = (who.architecture, who.variant, who.variant_without_size, who.size)
        run = (*model, record.world or 0, record.seed)
        for samples, metrics in _points(record, kind):
            rows += [
                (*run, task, metric, samples, value)
                for task, found in metrics.items()
                for metric in METRICS
                if (value := getattr(found, metric)) is not None
            ]
    return pd.DataFrame(rows, columns=[*_MODEL, *_RUN, *_POINT, "value"])


def _points(record: Record, kind: Kind) -> Iterator[tuple[int, dict[str, TaskMetrics]]]:
    on_the_way = record.tested if kind == "tested" else record.ahead
    if record.status != "finished" or not on_the_way:
        return
    yield from ((point.samples, point.metrics) for point in on_the_way)
    if kind == "tested" and record.training and record.training.train_samples:
        yield record.training.train_samples, record.metrics


def curve_means(points: pd.DataFrame, base: Contestant | None) -> pd.DataFrame:
    """Means over runs at each point, and differences to the base, models in the order of ``points``.

    Args:
        points: :func:`curve_points`.

    Returns:
        Columns task, metric, architecture, variant, size, is_base (of any size), samples, repeats (runs), and
        as fractions (log loss in nats) mean and diff, each with its 95% interval (``_low``, ``_high``; NaN
        with one seed or world).
    """
    points = points.assign(is_base=_is_base(points, base))
    points["diff"] = points["value"] - _base_values(points)
    rows = []
    for key, runs in points.groupby(["task", "metric", *_MODEL, "is_base", "samples"], sort=False):
        paired = runs[runs["diff"].notna()]
        mean = mean_interval(runs["value"].tolist(), runs["world"].tolist())
        diff = mean_interval(paired["diff"].tolist(), paired["world"].tolist())
        rows.append((*key, len(runs), *mean, *diff))
    return pd.DataFrame(rows, columns=COLUMNS).drop(columns="line").astype({"is_base": bool})


def _is_base(points: pd.DataFrame, base: Contestant | None) -> pd.Series:
    if base is None:
        return pd.Series(False, index=points.index)
    return (points["architecture"] == base.architecture) & (points["line"] == base.variant_without_size)


def _base_values(points: pd.DataFrame) -> pd.Series:
    """What the base's run with the same size, world and seed has at each point; NaN without such a run."""
    keys = ["size", *_RUN, *_POINT]
    base_values = points[points["is_base"]].set_index(keys)["value"]
    found = base_values.reindex(pd.MultiIndex.from_frame(points[keys]))
    return pd.Series(found.to_numpy(), index=points.index)


def over_windows(points: pd.DataFrame) -> pd.DataFrame:
    """The points of each run's windows as one: their mean, after all their samples."""
    keys = [*_MODEL, *_RUN, "task", "metric"]
    grouped = points.groupby(keys, sort=False)
    return grouped.agg(samples=("samples", "max"), value=("value", "mean")).reset_index()
