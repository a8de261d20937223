"""How fast the metrics are, beside a loop over users with scikit-learn, both timed in the same run.

The clock: a call on arrays in memory, nothing prepared beforehand; grouping rows by user is inside it on both
sides. The loop is timed on a random sample of whole users and compared in rows a second, so the speed-up
extrapolates it to all rows by its rate; ``sklearn_sample_rows`` says how many rows it was timed on.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray
from sklearn.metrics import roc_auc_score

from harness.evaluation.metrics import binary_metrics, per_user_auc
from harness.machine.timing import seconds_of
from harness.speed.profiles.figures import figure

SAMPLE_USERS = 2000
COMMAND = "python run_bench.py profile metrics"


def profile_metrics(rows: int = 5_000_000, users: int = 200_000, repeats: int = 5) -> list[dict]:
    """Median rates over ``repeats``; ``spread`` is the largest less the smallest, in the same unit.

    ``uauc_rows_per_second`` is UAUC alone, ``binary_metrics_rows_per_second`` all metrics of a task.
    """
    labels, scores, ids = synthetic_predictions(rows, users)
    sampled = np.isin(ids, np.random.default_rng(1).choice(users, min(users, SAMPLE_USERS), replace=False))
    sample = labels[sampled], scores[sampled], ids[sampled]
    uauc(labels, scores, ids)  # the first call pays for fresh memory
    ours, everything, loop = [], [], []
    for _ in range(repeats):  # interleaved, so that a busy machine slows all of them
        ours.append(rows / seconds_of(lambda: uauc(labels, scores, ids)))
        everything.append(rows / seconds_of(lambda: binary_metrics(labels, scores, ids)))
        loop.append(len(sample[0]) / seconds_of(lambda: sklearn_uauc(*sample)))
    speedup = [a / b for a, b in zip(ours, loop, strict=True)]
    return [
        figure("uauc_rows_per_second", ours, "rows/s", COMMAND),
        figure("binary_metrics_rows_per_second", everything, "rows/s", COMMAND),
        figure("sklearn_uauc_rows_per_second", loop, "rows/s", COMMAND),
        figure("uauc_speedup_over_sklearn", speedup, "x", COMMAND),
        figure("metrics_rows", [rows], "rows", COMMAND),
        figure("metrics_users", [len(np.unique(ids))], "users", COMMAND),
        figure("sklearn_sample_rows", [len(sample[0])], "rows", COMMAND),
    ]


def synthetic_predictions(rows: int, users: int) -> tuple[NDArray, NDArray, NDArray]:
    """Labels and probabilities (float32) and user ids (int32), (rows,) each, in no order of users.

    Users' activity is log-normal (sigma 1), base rate near 0.3, AUC near 0.7.
    """
    generator = np.random.default_rng(0)
    activity = np.cumsum(generator.lognormal(size=users))
    ids = np.searchsorted(activity / activity[-1], generator.random(rows, dtype=np.float32)).astype(np.int32)
    logit = generator.standard_normal(rows, dtype=np.float32) - np.float32(1)
    labels = (generator.random(rows, dtype=np.float32) < 1 / (1 + np.exp(-logit))).astype(np.float32)
    noise = generator.standard_normal(rows, dtype=np.float32)
    return labels, 1 / (1 + np.exp(-logit - noise / 2)), np.minimum(ids, users - 1)


def uauc(labels: NDArray, scores: NDArray, users: NDArray) -> float:
    """UAUC by our metrics."""
    return float(per_user_auc(labels, scores, users)[1].mean())


def sklearn_uauc(labels: NDArray, scores: NDArray, users: NDArray) -> float:
    """UAUC by a loop over users: the customary way."""
    order = np.argsort(users, kind="stable")
    labels, scores, users = labels[order], scores[order], users[order]
    ends = np.flatnonzero(np.diff(users)) + 1
    groups = zip(np.split(labels, ends), np.split(scores, ends), strict=True)
    return float(np.mean([roc_auc_score(y, s) for y, s in groups if 0 < y.sum() < len(y)]))
