r"""How much of the way to the oracle each model goes: ``oracle_gap.csv``.

The oracle scores with the true probabilities, so what it reaches is all that can be learned. A model with
metric :math:`m` closes the share :math:`(m - c) / (o - c)` of the gap between the oracle's :math:`o` and
:math:`c`, what a constant score reaches: .5 for AUC, UAUC and GAUC, and for log loss what the row
``constant`` has. ``distance`` is what is left, :math:`o - m` or, of log loss, :math:`m - o`.

Each run is held against the oracle and the constant of its own world, on the same draws of users. Intervals
are those of differences between models (``harness/evaluation/differences.py``): users and seeds drawn anew
together, or Student's t over worlds. A row with one run, such as ``gbdt`` in one world, has none.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from harness.evaluation.comparisons import ComparableRuns, Rows
from harness.evaluation.differences import MeasuredWorld, joint_draws, mean_of_draws
from harness.evaluation.statistics.bootstrap import (
    METRICS,
    MIN_USERS,
    REPLICATES,
    UserBootstrap,
    bootstrap_logloss,
)
from harness.evaluation.statistics.intervals import LEVEL
from harness.records.contestant import Contestant
from harness.records.record import Record

ORACLE, CONSTANT = "oracle", "constant"
CHANCE = 0.5  # the AUC of a constant score
LOGLOSS = "logloss"
QUANTITIES = ("share", "distance")
COLUMNS = [
    *("suite", "dataset", "task", "metric", "architecture", "variant", "runs", "worlds", "users"),
    *(f"{name}{end}" for name in QUANTITIES for end in ("", "_low", "_high")),
]


@dataclass(frozen=True)
class _Gap:
    """A metric of one world's runs as the two quantities: of all users (M,), and on draws of them (R, M)."""

    runs: list[Record]
    point: dict[str, NDArray[np.float64]]
    draws: dict[str, NDArray[np.float64]]
    users: int
    has_own_users: bool

    def places(self, who: Contestant) -> list[int]:
        return [place for place, run in enumerate(self.runs) if run.contestant == who]


def gap_rows(
    runs: ComparableRuns, task: str, measured: Sequence[MeasuredWorld], replicates: int = REPLICATES
) -> Rows:
    """The shares and distances of every row but the oracle and the constant; none without an oracle.

    Args:
        measured: ``runs.measured(task, replicates)``.
    """
    with_oracle = [world for world in measured if _place(world.runs, ORACLE) is not None]
    gaps = {metric: [_gap(each.runs, metric, each.measured, each.has_own_users) for each in with_oracle]
            for metric in METRICS}  # fmt: skip
    gaps[LOGLOSS] = list(_logloss_gaps(runs, task, with_oracle, replicates))
    shared = runs.shared_cells(task)
    return [
        shared | {"metric": metric, "architecture": who.architecture, "variant": who.variant} | row
        for metric, worlds in gaps.items()
        for who in runs.contestants
        if who.architecture not in (ORACLE, CONSTANT) and (row := _over_worlds(worlds, who))
    ]


def _place(runs: list[Record], reference: str) -> int | None:
    """Where a reference stands among the runs."""
    return next(
        (place for place, run in enumerate(runs) if run.is_reference and run.architecture == reference), None
    )


def _logloss_gaps(
    runs: ComparableRuns, task: str, worlds: Sequence[MeasuredWorld], replicates: int
) -> Iterator[_Gap]:
    seeds = runs.seeds_of_draws(task)
    for each in worlds:
        rows = runs.predicted[each.world][task]
        if len(rows.labels) and all(scores.min() >= 0 and scores.max() <= 1 for scores in rows.scores):
            seed = seeds[each.world]
            measured = bootstrap_logloss(rows.labels, rows.users, rows.scores, replicates, seed)
            yield _gap(each.runs, LOGLOSS, measured, each.has_own_users)


def _gap(runs: list[Record], metric: str, measured: UserBootstrap, has_own_users: bool) -> _Gap:
    oracle, constant = _place(runs, ORACLE), _place(runs, CONSTANT)
    assert oracle is not None
    quantities = [
        share_and_distance(metric, values, values[:, [oracle]], _floor(values, constant))
        for values in (measured.point[metric][None, :], measured.draws[metric])
    ]
    point = {name: values[0] for name, values in quantities[0].items()}
    return _Gap(runs, point, quantities[1], measured.users[metric], has_own_users)


def _floor(values: NDArray[np.float64], constant: int | None) -> NDArray[np.float64]:
    return np.full_like(values[:, [0]], np.nan) if constant is None else values[:, [constant]]


def share_and_distance(
    metric: str, values: NDArray[np.float64], of_oracle: NDArray[np.float64], floor: NDArray[np.float64]
) -> dict[str, NDArray[np.float64]]:
    """Share and distance of values; a share is NaN where the oracle is no better than a constant.

    Args:
        floor: what the row ``constant`` has, NaN where it did not run; of log loss alone.
    """
    if metric == LOGLOSS:
        span, distance = floor - of_oracle, values - of_oracle
    else:
        span, distance = of_oracle - CHANCE, of_oracle - values
    share = 1 - distance / np.where(span > 0, span, np.nan)
    return {"share": share, "distance": distance}


def _over_worlds(worlds: Sequence[_Gap], who: Contestant) -> dict:
    """The row of one contestant over the worlds that it ran in; empty where it ran in none."""
    found = [(gap, places) for gap in worlds if (places := gap.places(who))]
    if not found:
        return {}
    users = [gap.users for gap, _ in found]
    row: dict[str, float] = {
        "runs": sum(len(places) for _, places in found),
        "worlds": len(found),
        "users": sum(users) if found[0][0].has_own_users else max(users),
    }
    for name in QUANTITIES:
        values = _mean_with_interval(found, name)
        row |= dict(zip((name, f"{name}_low", f"{name}_high"), values, strict=True))
    return row


def _mean_with_interval(found: list[tuple[_Gap, list[int]]], name: str) -> tuple[float, float, float]:
    by_seed = [gap.point[name][places] for gap, places in found]
    by_world = [float(values.mean()) for values in by_seed]
    drawn = [_known(gap.draws[name][:, places].mean(axis=1), gap.users) for gap, places in found]
    joint = joint_draws(by_world, by_seed, mean_of_draws(drawn), found[0][0].has_own_users)
    return float(np.mean(by_world)), *joint.interval(LEVEL)


def _known(draws: NDArray[np.float64], users: int) -> NDArray[np.float64]:
    """The draws that define the quantity; none of too few users."""
    return draws[~np.isnan(draws)] if users >= MIN_USERS else np.empty(0)
