"""``logistic``: logistic regression on the features as they are, one model a task.

A categorical feature is one-hot; a sequence or multi_hot feature marks each category that it holds, whatever
the order; numbers are as prepared, standardised unless the schema says otherwise. Categories that
occur fewer than ``min_count`` times in the training rows (in a list, each element counts) share one column.
Half of ``l2`` times the squared norm of the weights is added to the mean log loss.
"""

from __future__ import annotations

import warnings
from typing import Any

import numpy as np
from pydantic import Field
from scipy import sparse

from datasets.schema import FIRST_INDEX, MISSING_INDEX, Feature
from datasets.window import Window
from harness.records.spec import Strict
from harness.runs.splits import Splits, require_memory

L2_PATH = (1e-1, 3e-2, 1e-2, 3e-3, 1e-3, 3e-4, 1e-4, 3e-5, 1e-5)  # from strong to weak
MOST_STEPS = 200
TOLERANCE = 1e-4  # of the mean loss's gradient


class LogisticSettings(Strict):
    """``l2`` None: for each task the value of L2_PATH with the best log loss on the validation split."""

    l2: float | None = Field(None, gt=0)
    min_count: int = Field(10, ge=1)


def suggest_logistic(trial: Any) -> dict[str, Any]:
    """A trial's settings; ``trial`` is Optuna's."""
    return {
        "l2": trial.suggest_float("l2", 1e-5, 1e-1, log=True),
        "min_count": trial.suggest_int("min_count", 1, 1000, log=True),
    }


class Logistic:
    """Models of every task, fitted."""

    def __init__(self, settings: LogisticSettings, splits: Splits, seed: int) -> None:
        """Fit them; the optimizer (L-BFGS) starts at zero and draws nothing, so ``seed`` has no effect.

        Raises UnfitTask, and InputError where memory is lacking.
        """
        self._splits = splits
        coverage = splits.prepared.manifest["coverage"]
        entries = sum(counts["elements"] for split in coverage.values() for counts in split.values())
        require_memory(24.0 * entries, "logistic")  # value and column, twice while blocks are joined
        self._encoder = Encoder(splits, settings.min_count)
        matrices = {split: self._encoder.matrix(split) for split in ("train", "valid")}
        self.models = [_fit(settings, splits, matrices, task) for task in range(len(splits.tasks))]

    def scores(self, split: str) -> np.ndarray:
        """Probabilities of a split's rows, (R, G)."""
        matrix = self._encoder.matrix(split)
        return np.stack([model.predict_proba(matrix)[:, 1] for model in self.models], axis=1)


def _fit(settings: LogisticSettings, splits: Splits, matrices: dict[str, Any], task: int) -> Any:
    """The model at ``l2``, or the best of the path: it ends where a weaker one no longer helps validation."""
    rows, labels = splits.labels("train", task)
    valid_rows, valid_labels = splits.labels("valid", task)
    train, valid = matrices["train"][rows], matrices["valid"][valid_rows]
    best, lowest, start = None, np.inf, None
    for l2 in [settings.l2] if settings.l2 is not None else L2_PATH:
        model = fit_logistic(train, labels, l2, start)
        start = model
        loss = log_loss(valid_labels, model.predict_proba(valid)[:, 1])
        if best is not None and loss >= lowest:
            break
        best, lowest = model, loss
    return best


def fit_logistic(matrix: Any, labels: np.ndarray, l2: float, start: Any = None) -> Any:
    """Scikit-learn's model, fitted from the weights of ``start`` on."""
    from sklearn.exceptions import ConvergenceWarning
    from sklearn.linear_model import LogisticRegression

    model = LogisticRegression(
        C=1 / (l2 * len(labels)), tol=TOLERANCE, max_iter=MOST_STEPS, solver="lbfgs", warm_start=True
    )
    if start is not None:
        model.coef_, model.intercept_ = start.coef_.copy(), start.intercept_.copy()
        model.classes_, model.n_features_in_ = start.classes_, start.n_features_in_
    with warnings.catch_warnings():  # a fit that is cut short counts by its validation loss all the same
        warnings.simplefilter("ignore", ConvergenceWarning)
        return model.fit(matrix, labels)


def log_loss(labels: np.ndarray, probabilities: np.ndarray) -> float:
    """The mean log loss."""
    scores = np.clip(probabilities, 1e-15, 1 - 1e-15)
    return float(-np.mean(labels * np.log(scores) + (1 - labels) * np.log1p(-scores)))


class Encoder:
    """Rows as sparse vectors; which categories have a column of their own is learned in training."""

    def __init__(self, splits: Splits, min_count: int) -> None:
        self._splits = splits
        self._columns: dict[str, np.ndarray] = {}
        train = splits.window("train")
        for key, feature in enumerate(splits.prepared.schema.sparse_features):
            values, _ = train.sparse(key, 0, len(train))
            counts = np.bincount(values, minlength=splits.prepared.table_sizes[feature.table])
            self._columns[feature.name] = column_numbers(counts, min_count)

    def matrix(self, split: str) -> Any:
        """(R, columns), compressed by rows."""
        window = self._splits.window(split)
        features = self._splits.prepared.schema.sparse_features
        blocks = [self._block(window, key, feature) for key, feature in enumerate(features)]
        return sparse.hstack([*blocks, sparse.csr_matrix(window.dense.astype(np.float64))], format="csr")

    def _block(self, window: Window, key: int, feature: Feature) -> Any:
        values, lengths = window.sparse(key, 0, len(window))
        columns = self._columns[feature.name]
        offsets = np.zeros(len(window) + 1, dtype=np.int64)
        np.cumsum(np.broadcast_to(lengths, len(window)), out=offsets[1:])
        shape = (len(window), int(columns.max()) + 1)
        block = sparse.csr_matrix((np.ones(len(values)), columns[values], offsets), shape=shape)
        block.sum_duplicates()
        block.data[:] = 1.0
        return block


def column_numbers(counts: np.ndarray, min_count: int) -> np.ndarray:
    """The column of each index, by its ``counts`` in training.

    Column 0 is missing, column 1 all that is rare or unseen, then the frequent in order.
    """
    frequent = counts >= min_count
    frequent[:FIRST_INDEX] = False
    columns = np.ones(len(counts), dtype=np.int32)
    columns[MISSING_INDEX] = 0
    columns[frequent] = 2 + np.arange(frequent.sum())
    return columns
