"""Which model to serve: those that answer within a time, the best among them, and what is as good.

The best has the highest mean; every other model that fits is compared with it, over users and seeds as any
two rows are (``harness/evaluation/differences.py``). Since any of them might have been the best, all pairs of
models that fit are one family of Holm's: held against the best alone, some model of nineteen equal ones would
be called worse every sixth time. The best was chosen by the same runs, which flatters it: models that cannot
be told apart from it are as good a choice.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from itertools import combinations

import numpy as np
import pandas as pd

from files.errors import InputError
from harness.evaluation.comparisons import ComparableRuns, comparable_runs
from harness.evaluation.differences import MeasuredWorld, differences
from harness.evaluation.statistics.bootstrap import METRICS, REPLICATES
from harness.evaluation.verdict import WITHHELD, doubts, known_leaks
from harness.records.contestant import Contestant
from harness.records.serving import SERVING_FILE, ServedModel, ServedPart, ServingPass
from harness.records.store import StoredRuns

COLUMNS = [
    *("dataset", "task", "architecture", "variant", "latency_ms_p99", "latency_ms_p99_low"),
    *("latency_ms_p99_high", "noisy", "fits", "mean", "diff", "low", "high", "p_holm", "verdict"),
]
BEST, ALIKE, WORSE = "best", "cannot be told apart", "worse"


@dataclass(frozen=True)
class Wanted:
    """What a model must keep: its p99 in milliseconds on a batch of so many rows, of one of its parts."""

    p99_ms: float
    batch_size: int
    part: ServedPart = "whole"
    task: str | None = None  # None: every task
    metric: str = "auc"


def choose_models(stored: StoredRuns, wanted: Wanted, replicates: int = REPLICATES) -> pd.DataFrame:
    """One row a dataset, task and model that was timed, those that fit first, best first.

    ``fits`` is ``yes`` where the interval of p99 lies within the bound, ``likely`` where p99 does and its
    interval's end does not or is not known, and ``no``. ``diff`` with ``low`` and ``high`` is the difference
    to the best; ``verdict`` is ``best``, ``worse`` (it survives Holm's correction), ``cannot be told apart``,
    or why nothing is known, such as ``few seeds``; ``no verdict`` where the data leak
    (``harness/evaluation/verdict.py``), the best included. Rows that do not fit have the mean alone, and so
    have those whose mean is NaN, because no test rows of theirs define the metric: none of them is best.

    Raises InputError where nothing was timed, not at this batch size, no such task was trained, or the
    runs' predictions are not there.
    """
    if wanted.metric not in METRICS:
        raise InputError(f"--metric {wanted.metric}: choose from {', '.join(METRICS)}")
    if stored.lacks_predictions:
        raise InputError(
            f"{stored.out}: was kept without predictions, by which models are compared; run its suite again "
            "into another folder with --out"
        )
    found = [
        _without_verdict(row) if _leaks(stored, runs) else row
        for runs in comparable_runs(stored)
        for task in _tasks(runs, wanted)
        for row in _rows(runs, task, _measured(stored, runs, wanted), wanted, replicates)
    ]
    return pd.DataFrame(found, columns=COLUMNS)


def _leaks(stored: StoredRuns, runs: ComparableRuns) -> bool:
    suite = stored.suite
    asked = suite.leaks.get(runs.dataset) if suite is not None and suite.name == runs.suite else None
    return doubts(runs.runs, runs.tasks, known_leaks(asked, runs.runs)).withhold


def _without_verdict(row: dict) -> dict:
    return row | ({"verdict": WITHHELD, "p_holm": math.nan} if "verdict" in row else {})


def _tasks(runs: ComparableRuns, wanted: Wanted) -> list[str]:
    if wanted.task is not None and wanted.task not in runs.tasks:
        raise InputError(f"--task {wanted.task}: {runs.dataset} has {', '.join(runs.tasks)}")
    return runs.tasks if wanted.task is None else [wanted.task]


def _measured(stored: StoredRuns, runs: ComparableRuns, wanted: Wanted) -> ServingPass:
    passed = stored.serving.on(runs.suite, runs.dataset)
    if passed is None:
        raise InputError(
            f"{stored.out / SERVING_FILE}: holds no speeds of {runs.dataset}; run the suite again into this "
            "folder without --no-speed, which repeats no training"
        )
    measured = passed.of_runs([*runs.runs, *runs.failed_runs])
    if measured is None:
        raise InputError(
            f"{stored.out / SERVING_FILE}: holds no speeds of these models of {runs.dataset}, which were "
            "trained in another way since; run the suite again into this folder without --no-speed, which "
            "repeats no training"
        )
    if wanted.batch_size not in measured.batch_sizes:
        sizes = " and ".join(map(str, measured.batch_sizes))
        raise InputError(
            f"--batch {wanted.batch_size}: the models were timed at {sizes} rows; choose one, or run the "
            f"suite with --set 'serving.batch_sizes=[{wanted.batch_size}]'"
        )
    return measured


def _rows(
    runs: ComparableRuns, task: str, speeds: ServingPass, wanted: Wanted, replicates: int
) -> list[dict]:
    measured = runs.measured(task, replicates)
    means = {who: _mean(measured, who, wanted.metric) for who in runs.contestants}
    rows = []
    for who in runs.contestants:
        model = speeds.of(who, wanted.part, wanted.batch_size)
        if model is not None:
            rows.append((who, _timed(model, wanted.p99_ms) | {"mean": means[who]}))
    rows.sort(key=lambda pair: (pair[1]["fits"] == "no", math.isnan(pair[1]["mean"]), -pair[1]["mean"]))
    fitting = [who for who, row in rows if row["fits"] != "no" and not math.isnan(row["mean"])]
    compared = _compared(runs, measured, fitting, wanted.metric)
    shared = {"dataset": runs.dataset, "task": task}
    return [
        shared | {"architecture": who.architecture, "variant": who.variant} | row | compared.get(who, {})
        for who, row in rows
    ]


def _timed(model: ServedModel, bound: float) -> dict:
    low, high = model.latency_ms_p99_low, model.latency_ms_p99_high
    within = high is not None and high <= bound
    fits = "yes" if within else "likely" if model.latency_ms_p99 <= bound else "no"
    named = {"latency_ms_p99": model.latency_ms_p99, "latency_ms_p99_low": low, "latency_ms_p99_high": high}
    return named | {"noisy": model.noisy, "fits": fits}


def _mean(measured: list[MeasuredWorld], who: Contestant, metric: str) -> float:
    """Over worlds of each world's mean over seeds, as in `differences` without worlds that do not define the
    metric; NaN where none does."""
    by_world = []
    for world in measured:
        point = world.measured.point[metric]
        values = [value for run, value in zip(world.runs, point, strict=True) if run.contestant == who]
        if values and not np.isnan(point).any():
            by_world.append(sum(values) / len(values))
    return sum(by_world) / len(by_world) if by_world else math.nan


def _compared(
    runs: ComparableRuns, measured: list[MeasuredWorld], fitting: list[Contestant], metric: str
) -> dict[Contestant, dict]:
    """The columns of comparison of each model that fits; the first is the best."""
    if not fitting:
        return {}
    best, *others = fitting
    found: dict[Contestant, dict] = {best: {"diff": 0.0, "verdict": BEST}}
    every_pair = [(who, better) for better, who in combinations(fitting, 2)]
    for row in differences(measured, every_pair, runs.failed):
        if row["metric"] == metric and (row["base"], row["base_variant"]) == best.key:
            who = next(w for w in others if w.key == (row["architecture"], row["variant"]))
            verdict = {"yes": WORSE, "no": ALIKE}.get(row["resolved"], row["resolved"])
            found[who] = {name: row[name] for name in ("diff", "low", "high", "p_holm")} | {
                "verdict": verdict
            }
    return found
