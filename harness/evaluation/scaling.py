r"""How quality grows with size: fits over an architecture's sizes, their intervals, their order.

Two descriptions of an architecture's runs, against forward FLOPs a sample or dense parameters :math:`x`:

- ``points``: :math:`100 \cdot \text{AUC} = a + b \log_{10} x`; the slope :math:`b` is points x 100 a decade.
- ``exponent``: :math:`1 - \text{AUC} = c \, x^{-\alpha}`, a straight line in logarithms; the slope is
  :math:`\alpha`. It has no floor, so it says that quality would grow for ever, which no data let it.

Both are least squares **seed by seed**: seed s of an architecture has a slope :math:`b_s`, and their mean
over seeds is the least-squares slope of all runs together. A bootstrap over three seeds would draw from ten
distinct samples, so the intervals are Student's t over the seeds' own slopes, and over the seeds' own
differences of two slopes, as ``harness/evaluation/differences.py`` has them. Where there are several worlds,
they are over the worlds' means.

The intervals are over seeds: test users are the same throughout, and whether a straight line fits is another
matter (``off_line``). They are not widened for the number of pairs.
"""

from __future__ import annotations

from dataclasses import dataclass
from itertools import pairwise
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from harness.evaluation.statistics.intervals import mean_interval
from harness.records.contestant import Contestant
from harness.records.record import Record

METRICS = ("auc", "uauc")
POINTS = 100
AXES = {"flops_per_sample": "FLOPs", "dense_params": "parameters"}
LAWS = ("points", "exponent")
MIN_SIZES = 3

Key = tuple[str, str]  # architecture, and its variant without the size
Run = tuple[int, int]  # world and seed


# --- Runs by size ---------------------------------------------------------------------------------------


def sized_runs(contestants: list[Contestant], records: list[Record]) -> pd.DataFrame:
    """Finished runs of architectures with at least three sizes: one row a run, task and metric.

    Columns: architecture, variant (without the size), size, world (0 without any), seed, task, metric (auc,
    uauc), value, flops_per_sample, dense_params. The rows are in the order of ``contestants``.
    """
    rows = []
    for contestant in contestants:
        runs = [r for r in records if r.contestant == contestant and r.status == "finished" and r.cost]
        for run in runs if contestant.size else []:
            who = (
                contestant.architecture,
                contestant.variant_without_size,
                contestant.size,
                run.world or 0,
                run.seed,
            )
            costs = [getattr(run.cost, axis) for axis in AXES]
            rows += [
                (*who, task, metric, value, *costs)
                for task, metrics in run.metrics.items()
                for metric in METRICS
                if (value := getattr(metrics, metric)) is not None
            ]
    names = ["architecture", "variant", "size", "world", "seed", "task", "metric", "value", *AXES]
    runs_by_size = pd.DataFrame(rows, columns=names)
    sizes = runs_by_size.groupby(["architecture", "variant"])["size"].transform("nunique")
    return runs_by_size[sizes >= MIN_SIZES].reset_index(drop=True)


def size_means(runs: pd.DataFrame) -> pd.DataFrame:
    """Mean over runs of each size with its 95% t interval: columns mean, low, high, seeds."""
    keys = ["task", "metric", "architecture", "variant", "size"]
    rows = []
    for key, runs_of_size in runs.groupby(keys, sort=False):
        mean, low, high = mean_interval(runs_of_size["value"].tolist(), runs_of_size["world"].tolist())
        costs = [runs_of_size[axis].mean() for axis in AXES]
        rows.append((*key, *costs, mean, low, high, len(runs_of_size)))
    return pd.DataFrame(rows, columns=[*keys, *AXES, "mean", "low", "high", "seeds"])


# --- Lines ----------------------------------------------------------------------------------------------


def line(x: NDArray[np.float64], y: NDArray[np.float64]) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Slopes and intercepts of y on log10(x) by least squares.

    Args:
        x: (N,), positive.
        y: (S, N): one line a row.

    >>> line(np.array([1.0, 10.0, 100.0]), np.array([[1.0, 3.0, 5.0]]))
    (array([2.]), array([1.]))
    """
    decades = np.log10(x)
    centred = decades - decades.mean()
    slopes = y @ centred / (centred @ centred)
    return slopes, y.mean(axis=1) - slopes * decades.mean()


def _transformed(values: NDArray[np.float64], law: str) -> NDArray[np.float64]:
    return POINTS * values if law == "points" else -np.log10(1 - values)


@dataclass(frozen=True)
class _Series:
    """One architecture's sizes: x (N,), and a metric by run and size, (S, N); ``runs``: world and seed."""

    runs: list[Run]
    x: NDArray[np.float64]
    values: NDArray[np.float64]


def _series(rows: pd.DataFrame, axis: str) -> _Series | None:
    """The seeds that finished every size; None with fewer than three sizes or without such a seed."""
    by_size = rows.groupby("size")[axis].mean()
    values = rows.pivot_table(index=["world", "seed"], columns="size", values="value").dropna()
    x = by_size[values.columns].to_numpy(float)
    if values.empty or len(set(x)) < MIN_SIZES:
        return None
    return _Series(values.index.tolist(), x, values.to_numpy(float))


def scaling_fits(runs: pd.DataFrame) -> pd.DataFrame:
    """Both laws for every architecture, task, metric and axis, the steepest first.

    Args:
        runs: :func:`sized_runs`.

    Returns:
        Columns task, metric, axis, law, architecture, variant, sizes, seeds (that finished every size), slope
        (points x 100 a decade, or the exponent) with low and high (95%; NaN with one seed), intercept,
        off_line (largest distance of a size's mean from the line, in points x 100 or log10 units),
        next_diff, next_low, next_high: how much steeper than the next row, NaN in the last; next_repeats:
        over how many seeds or, with several, worlds.
    """
    rows: list[dict] = []
    for (task, metric), runs_of_metric in runs.groupby(["task", "metric"], sort=False):
        for axis in AXES:
            found = {
                (str(architecture), str(variant)): series
                for (architecture, variant), rows_of_model in runs_of_metric.groupby(
                    ["architecture", "variant"], sort=False
                )
                if (series := _series(rows_of_model, axis)) is not None
            }
            for law in LAWS:
                head = {"task": task, "metric": metric, "axis": axis, "law": law}
                rows += [head | row for row in _fitted(found, law)]
    return pd.DataFrame(rows, columns=FIT_COLUMNS)


FIT_COLUMNS = [
    *("task", "metric", "axis", "law", "architecture", "variant", "sizes", "seeds"),
    *("slope", "low", "high", "intercept", "off_line", "next_diff", "next_low", "next_high"),
    "next_repeats",
]


def _fitted(found: dict[Key, _Series], law: str) -> list[dict]:
    slopes: dict[Key, dict[Run, float]] = {}
    rows: dict[Key, dict[str, Any]] = {}
    for key, series in found.items():
        y = _transformed(series.values, law)
        by_run, intercepts = line(series.x, y)
        slopes[key] = dict(zip(series.runs, by_run.tolist(), strict=True))
        slope, low, high = _over_runs(slopes[key])
        intercept = float(intercepts.mean())
        off = np.abs(y.mean(axis=0) - intercept - slope * np.log10(series.x)).max()
        rows[key] = {"architecture": key[0], "variant": key[1], "sizes": len(series.x)}
        rows[key] |= {"seeds": len(series.runs), "slope": slope, "low": low, "high": high}
        rows[key] |= {"intercept": intercept, "off_line": off}
    order = sorted(rows, key=lambda key: -rows[key]["slope"])
    for key, after in pairwise(order):
        shared = {run: slopes[key][run] - slopes[after][run] for run in slopes[key] if run in slopes[after]}
        diff, low, high = _over_runs(shared)
        worlds = {world for world, _ in shared}
        rows[key] |= {"next_diff": diff, "next_low": low, "next_high": high}
        rows[key] |= {"next_repeats": len(worlds) if len(worlds) > 1 else len(shared)}
    return [rows[key] for key in order]


def _over_runs(values: dict[Run, float]) -> tuple[float, float, float]:
    return mean_interval(list(values.values()), [world for world, _ in values])
