"""Paired bootstrap over users: how far AUC, UAUC and GAUC move when other users had been seen.

A user's rows belong together, so users are drawn with replacement and not rows. Every replicate draws
once, and all runs are measured on that draw: what the draw does to all of them alike cancels in their
differences.

Global AUC under a draw is exact: each row weighs as often as its user was drawn, ties count one half, and
rows are ranked once a run, not once a replicate. UAUC and GAUC are means of the per-user AUC, which a draw
does not change, weighted by the draws.

Cost: about 2 ns a row, replicate and run. A loop over replicates, vectorised over rows, keeps one draw
(8 bytes a user) in the cache; working on blocks of replicates was slower.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike, NDArray

from harness.evaluation.metrics import LOGLOSS_EPS, RankedRows, auc, per_user_auc

METRICS = ("auc", "uauc", "gauc")

# The ends of a 95% interval then wander by 4% of its half-width from one bootstrap seed to another.
REPLICATES = 1000

# Of a difference. The products that average users round the same numbers differently by where they stand, in
# the sixteenth, and a run must not differ from its copy.
DECIMALS = 12

# With fewer users to draw from, percentile intervals are far too narrow.
MIN_USERS = 20


@dataclass(frozen=True)
class UserBootstrap:
    """Metrics of M runs on the rows as they are, and on R draws of users.

    ``point[metric]`` (M,), ``draws[metric]`` (R, M), ``users[metric]``: how many users bear on the metric.
    NaN where a draw (or the data) does not define the metric.
    """

    point: dict[str, NDArray[np.float64]]
    draws: dict[str, NDArray[np.float64]]
    users: dict[str, int]

    def difference(self, metric: str, runs: Sequence[int], base_runs: Sequence[int]) -> float:
        """Mean of the metric over ``runs`` less its mean over ``base_runs`` (numbers of the M runs)."""
        point = self.point[metric]
        return round(float(point[list(runs)].mean() - point[list(base_runs)].mean()), DECIMALS)

    def drawn_differences(
        self, metric: str, runs: Sequence[int], base_runs: Sequence[int]
    ) -> NDArray[np.float64]:
        """The difference on each draw; both sides' seeds are averaged within it.

        Empty if fewer than ``MIN_USERS`` users bear on the metric. Draws that do not define the metric
        (without both classes) are left out.
        """
        if self.users[metric] < MIN_USERS:
            return np.empty(0)
        draws = self.draws[metric]
        differences = draws[:, list(runs)].mean(axis=1) - draws[:, list(base_runs)].mean(axis=1)
        return np.round(differences[~np.isnan(differences)], DECIMALS)

    def interval(
        self, metric: str, runs: Sequence[int], base_runs: Sequence[int], level: float = 0.95
    ) -> tuple[float, float]:
        """Percentile interval of `drawn_differences`; (NaN, NaN) where there are none."""
        differences = self.drawn_differences(metric, runs, base_runs)
        if not len(differences):
            return float("nan"), float("nan")
        tail = (1 - level) / 2
        low, high = np.quantile(differences, [tail, 1 - tail])
        return float(low), float(high)


def bootstrap_users(
    labels: ArrayLike,
    users: ArrayLike,
    scores: Sequence[ArrayLike],
    replicates: int = REPLICATES,
    seed: int = 0,
) -> UserBootstrap:
    """Measure M runs on ``replicates`` draws of users, the same draws for all; the same seed, the same draws.

    Args
        labels: (N,) 0, 1 or NaN; rows without a label are left out, and users without other rows with them.
        users: (N,) integer ids.
        scores: M arrays (N,), one a run (an architecture and seed), on the same rows.

    Raises
        NonFiniteScores, InputError: as ``harness.evaluation.metrics.binary_metrics``.
    """
    y = np.asarray(labels, dtype=np.float64)
    defined = ~np.isnan(y)
    y, u = y[defined], np.asarray(users)[defined]
    runs = [np.asarray(s)[defined] for s in scores]
    if not len(y):
        return _undefined(replicates, len(runs))
    ids, user_of_row = np.unique(u, return_inverse=True)

    by_user = [per_user_auc(y, s, user_of_row) for s in runs]
    kept, _, rows_of_user = by_user[0]  # the labels decide these, so they are the same for every run
    user_auc = np.stack([values for _, values, _ in by_user], axis=1)  # (kept users, M)
    whole = np.array([_or_nan(auc(y, s)) for s in runs])
    row_auc = [_UserWeightedAUC(y == 1, s, user_of_row) for s in runs]

    draws = {metric: np.empty((replicates, len(runs))) for metric in METRICS}
    generator = np.random.default_rng(seed)
    for replicate in range(replicates):
        drawn = _draw(generator, len(ids), len(y))
        draws["auc"][replicate] = [measure(drawn) for measure in row_auc]
        draws["uauc"][replicate] = _mean(user_auc, drawn[kept])
        draws["gauc"][replicate] = _mean(user_auc, drawn[kept] * rows_of_user)
    point = {
        "auc": whole,
        "uauc": _mean(user_auc, np.ones(len(kept))),
        "gauc": _mean(user_auc, rows_of_user),
    }
    return UserBootstrap(point, draws, {"auc": len(ids), "uauc": len(kept), "gauc": len(kept)})


def bootstrap_logloss(
    labels: ArrayLike,
    users: ArrayLike,
    scores: Sequence[ArrayLike],
    replicates: int = REPLICATES,
    seed: int = 0,
) -> UserBootstrap:
    """Log loss of M runs (metric ``logloss``) on the draws of users that `bootstrap_users` makes.

    Args as of `bootstrap_users`; scores are probabilities.
    """
    y = np.asarray(labels, dtype=np.float64)
    defined = ~np.isnan(y)
    ids, user_of_row = np.unique(np.asarray(users)[defined], return_inverse=True)
    losses = [_row_losses(y[defined] == 1, np.asarray(s)[defined]) for s in scores]
    sums = np.stack([np.bincount(user_of_row, each, len(ids)) for each in losses], axis=1)  # (users, M)
    rows = np.bincount(user_of_row, minlength=len(ids))
    generator = np.random.default_rng(seed)
    draws = np.empty((replicates, len(losses)))
    for replicate in range(replicates):
        drawn = _draw(generator, len(ids), int(defined.sum()))
        draws[replicate] = drawn @ sums / (drawn @ rows)
    return UserBootstrap({"logloss": sums.sum(0) / rows.sum()}, {"logloss": draws}, {"logloss": len(ids)})


def _row_losses(positive: NDArray[np.bool_], scores: NDArray) -> NDArray[np.float64]:
    probability = scores.astype(np.float64).clip(LOGLOSS_EPS, 1 - LOGLOSS_EPS)
    return -np.log(np.where(positive, probability, 1 - probability))


def _undefined(replicates: int, runs: int) -> UserBootstrap:
    return UserBootstrap(
        point={metric: np.full(runs, np.nan) for metric in METRICS},
        draws={metric: np.full((replicates, runs), np.nan) for metric in METRICS},
        users=dict.fromkeys(METRICS, 0),
    )


def _draw(generator: np.random.Generator, users: int, rows: int) -> NDArray:
    """How often each user was drawn (users,), as int32, which is faster, unless rows could outgrow it."""
    drawn = np.bincount(generator.integers(0, users, users), minlength=users)
    return drawn.astype(np.int32) if rows * int(drawn.max()) < 2**31 else drawn


class _UserWeightedAUC:
    """Global AUC of one run as a function of how often each user was drawn (U,)."""

    def __init__(self, positive: NDArray[np.bool_], scores: NDArray, user_of_row: NDArray[np.int64]) -> None:
        self.ranked = RankedRows.of(positive, scores)
        self.negative_users = user_of_row[self.ranked.negatives]
        self.positive_users = user_of_row[self.ranked.positives]

    def __call__(self, drawn: NDArray) -> float:
        return self.ranked.weighted_auc(drawn.take(self.negative_users), drawn.take(self.positive_users))


def _mean(user_auc: NDArray[np.float64], weights: NDArray) -> NDArray[np.float64]:
    """Weighted mean over users of (users, M): (M,), NaN if nothing has weight."""
    total = weights.sum()
    return weights @ user_auc / total if total else np.full(user_auc.shape[1], np.nan)


def _or_nan(value: float | None) -> float:
    return float("nan") if value is None else value
