"""Paired bootstrap over users: how far AUC, UAUC and GAUC move when other users had been seen.

A user's rows belong together, so users are drawn with replacement and not rows. Every replicate draws
once, and all runs are measured on that draw: what the draw does to all of them alike cancels in their
differences.

Global AUC under a draw is exact (`drawn_auc`): each row weighs as often as its user was drawn, ties count one
half, and rows are ranked once a run, not once a replicate. UAUC and GAUC are means of the per-user AUC, which
a draw does not change, weighted by the draws.

Cost: 0.6 ns a row, replicate and run, 1.7 ns at ten million rows of a million users (``run_bench.py profile
bootstrap``, which has three runs; more of them share the draws), and a second once, to compile. Memory:
RANKED_BYTES, eleven times DRAWN_BYTES, and 8 bytes for each user and run. Runs are ranked in groups that fit
into RANKED_BYTES; every group draws the same users again.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import islice

import numpy as np
from numpy.typing import ArrayLike, NDArray

from harness.evaluation.metrics import LOGLOSS_EPS, auc, per_user_auc
from harness.evaluation.statistics.drawn_auc import RankedUsers

METRICS = ("auc", "uauc", "gauc")

# The ends of a 95% interval then wander by 4% of its half-width from one bootstrap seed to another.
REPLICATES = 1000

MOST_DRAWS_A_BLOCK = 128
DRAWN_BYTES = 2**25  # of the draws of a block
RANKED_BYTES = 2**28  # of the runs that are ranked at once

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
    if not len(y):
        return _undefined(replicates, len(scores))
    ids, user_of_row = np.unique(u, return_inverse=True)

    whole, by_user = np.empty(len(scores)), []
    for number, run_scores in enumerate(scores):
        defined_scores = np.asarray(run_scores)[defined]
        # The labels decide who is kept and how many rows they have, so these are the same for every run.
        kept, user_auc_of_run, rows_of_user = per_user_auc(y, defined_scores, user_of_row)
        by_user.append(user_auc_of_run)
        whole[number] = _or_nan(auc(y, defined_scores))
    user_auc = np.stack(by_user, axis=1)  # (kept users, M)

    blocks = _Blocks(replicates, seed, len(ids))
    draws = _mean_draws(user_auc, kept, rows_of_user, blocks)
    of_runs = (np.asarray(run_scores)[defined] for run_scores in scores)
    draws["auc"] = _auc_draws(y == 1, of_runs, len(scores), user_of_row, blocks)
    point = {
        "auc": whole,
        "uauc": _means(user_auc, np.ones((1, len(kept))))[0],
        "gauc": _means(user_auc, rows_of_user[None].astype(np.float64))[0],
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
    draws = np.empty((replicates, len(losses)))
    for places, drawn in _Blocks(replicates, seed, len(ids)):
        draws[places] = drawn @ sums / (drawn @ rows)[:, None]
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


def _mean_draws(
    user_auc: NDArray[np.float64], kept: NDArray[np.int64], rows_of_user: NDArray[np.int64], blocks: _Blocks
) -> dict[str, NDArray[np.float64]]:
    """UAUC and GAUC on R draws of users, (R, M) each, from the AUC of the ``kept`` users, (kept, M)."""
    draws = {metric: np.empty((blocks.replicates, user_auc.shape[1])) for metric in ("uauc", "gauc")}
    for places, drawn in blocks:
        weights = drawn[:, kept].astype(np.float64)
        draws["uauc"][places] = _means(user_auc, weights)
        weights *= rows_of_user
        draws["gauc"][places] = _means(user_auc, weights)
        del weights  # the next are as large
    return draws


def _auc_draws(
    positive: NDArray[np.bool_],
    scores: Iterator[NDArray],
    runs: int,
    user_of_row: NDArray[np.int64],
    blocks: _Blocks,
) -> NDArray[np.float64]:
    """AUC of M runs on R draws of users: (R, M), NaN where a draw lacks a class."""
    draws, pairs = np.empty((blocks.replicates, runs)), np.empty((blocks.replicates, 1))
    of_class = [
        np.bincount(user_of_row[positive == which], minlength=blocks.users) for which in (False, True)
    ]
    at_once = max(1, RANKED_BYTES // (RankedUsers.BYTES_A_ROW * len(positive)))
    for first in range(0, runs, at_once):
        ranked = [RankedUsers.of(positive, each, user_of_row) for each in islice(scores, at_once)]
        for places, drawn in blocks:
            of_users, most_drawn = np.ascontiguousarray(drawn.T), int(drawn.max())
            for number, run in enumerate(ranked, start=first):
                draws[places, number] = run.wins(of_users, most_drawn)
            negatives, positives = (drawn @ rows for rows in of_class)
            pairs[places, 0] = negatives * positives
    return np.divide(draws, pairs, out=np.full(draws.shape, np.nan), where=pairs > 0)


class _Blocks:
    """All draws of users, a few at a time; the same at every iteration."""

    def __init__(self, replicates: int, seed: int, users: int) -> None:
        self.replicates, self.seed, self.users = replicates, seed, users
        self.size = min(max(DRAWN_BYTES // users, 1), MOST_DRAWS_A_BLOCK)

    def __iter__(self) -> Iterator[tuple[slice, NDArray[np.uint8]]]:
        """The places of some replicates, and how often each user was drawn in them: (replicates, users)."""
        generator = np.random.default_rng(self.seed)
        for start in range(0, self.replicates, self.size):
            # A byte is enough: that a user comes 256 times in as many draws as users has odds of 1e-507.
            drawn = np.empty((min(self.size, self.replicates - start), self.users), np.uint8)
            for draw in drawn:
                draw[:] = np.bincount(generator.integers(0, self.users, self.users), minlength=self.users)
            yield slice(start, start + len(drawn)), drawn


def _means(user_auc: NDArray[np.float64], weights: NDArray[np.float64]) -> NDArray[np.float64]:
    """Means over users of (users, M), by B rows of their weights: (B, M), NaN where nothing has weight."""
    total = weights.sum(axis=1)[:, None]
    sums = weights @ user_auc
    return np.divide(sums, total, out=np.full(sums.shape, np.nan), where=total > 0)


def _or_nan(value: float | None) -> float:
    return float("nan") if value is None else value
