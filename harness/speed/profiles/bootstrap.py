"""How fast the bootstrap over users is, beside scikit-learn's weighted AUC of the same draws in the same run.

The clock: a whole call of `bootstrap_users` on arrays in memory, so grouping, ranking and drawing are in it,
divided by rows, draws and runs. scikit-learn ranks the rows again at each draw; it is timed on a few draws of
the smallest size and compared by its time a draw.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray
from sklearn.metrics import roc_auc_score

from harness.evaluation.statistics.bootstrap import REPLICATES, bootstrap_users
from harness.machine.timing import seconds_of
from harness.speed.profiles.figures import figure
from harness.speed.profiles.metrics import synthetic_predictions

SIZES = ((50_000, 5_000), (1_000_000, 100_000), (10_000_000, 1_000_000))  # rows, users
SKLEARN_DRAWS = 10
COMMAND = "python run_bench.py profile bootstrap"


def profile_bootstrap(
    sizes: Sequence[tuple[int, int]] = SIZES, draws: int = REPLICATES, runs: int = 3, repeats: int = 3
) -> list[dict]:
    """Median nanoseconds a row, draw and run at each size, and how much faster that is than scikit-learn."""
    bootstrap_users([0, 1], [0, 1], [[0.1, 0.2]], 1)  # the first call compiles
    figures = []
    for rows, users in sizes:
        predicted = synthetic_predictions(rows, users)
        took = [nanoseconds(*predicted, draws, runs) for _ in range(repeats)]
        figures.append(
            figure(f"bootstrap_{rows}_rows_{users}_users", took, "ns a row, draw and run", COMMAND)
        )
    predicted = synthetic_predictions(*sizes[0])
    speedup = [sklearn_nanoseconds(*predicted) / nanoseconds(*predicted, draws, runs) for _ in range(repeats)]
    return [*figures, figure("bootstrap_speedup_over_sklearn", speedup, "x", COMMAND)]


def nanoseconds(labels: NDArray, scores: NDArray, users: NDArray, draws: int, runs: int) -> float:
    """A row, draw and run."""
    took = seconds_of(lambda: bootstrap_users(labels, users, [scores] * runs, draws))
    return 1e9 * took / (len(labels) * draws * runs)


def sklearn_nanoseconds(labels: NDArray, scores: NDArray, users: NDArray) -> float:
    """A row and draw of one run."""
    took = seconds_of(lambda: sklearn_draws(labels, scores, users, SKLEARN_DRAWS))
    return 1e9 * took / (len(labels) * SKLEARN_DRAWS)


def sklearn_draws(labels: NDArray, scores: NDArray, users: NDArray, draws: int) -> list[float]:
    """The AUC on draws of users that are those of `bootstrap_users`, by how often a row's user was drawn."""
    ids, user_of_row = np.unique(users, return_inverse=True)
    generator = np.random.default_rng(0)
    weights = [
        np.bincount(generator.integers(0, len(ids), len(ids)), minlength=len(ids)) for _ in range(draws)
    ]
    return [float(roc_auc_score(labels, scores, sample_weight=weight[user_of_row])) for weight in weights]
