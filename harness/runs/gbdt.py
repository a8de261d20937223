"""``gbdt``: gradient boosted trees (LightGBM), one model a task.

Trees are fitted to the training split alone; how many of them are kept is decided by the log loss of the
validation split. What they read: :mod:`harness.runs.tree_columns`.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import torch
from pydantic import Field

from files.errors import InputError
from harness.records.spec import Strict
from harness.runs.splits import Splits, require_memory
from harness.runs.tree_columns import Ids, bucket_ranks, tree_columns, tree_matrix

MOST_TREES = 1000
PATIENCE = 30  # trees without a better log loss


class GbdtSettings(Strict):
    """LightGBM's parameters of these names, at its own defaults.

    ``ids`` says how categories of over 1000 values are read: `harness.runs.tree_columns.tree_columns`.
    """

    learning_rate: float = Field(0.1, gt=0)
    num_leaves: int = Field(31, ge=2, le=131_072)
    min_data_in_leaf: int = Field(20, ge=0)
    feature_fraction: float = Field(1.0, gt=0, le=1)
    lambda_l2: float = Field(0.0, ge=0)
    cat_smooth: float = Field(10.0, ge=0)
    ids: Ids = "rank"


def suggest_gbdt(trial: Any) -> dict[str, Any]:
    """A trial's settings; ``trial`` is Optuna's."""
    return {
        "learning_rate": trial.suggest_float("learning_rate", 0.02, 0.2, log=True),
        "num_leaves": trial.suggest_int("num_leaves", 4, 256, log=True),
        "min_data_in_leaf": trial.suggest_int("min_data_in_leaf", 5, 1000, log=True),
        "feature_fraction": trial.suggest_float("feature_fraction", 0.3, 1.0),
        "lambda_l2": trial.suggest_float("lambda_l2", 0.0, 100.0),
        "cat_smooth": trial.suggest_float("cat_smooth", 1.0, 1000.0, log=True),
        "ids": trial.suggest_categorical("ids", ["rank", "category", "none"]),
    }


class Gbdt:
    """Trees of every task, fitted."""

    def __init__(self, settings: GbdtSettings, splits: Splits, seed: int, order: bool = True) -> None:
        """Fit them with as many threads as torch has; the threads do not change the trees.

        Without ``order`` they read of sequences what does not depend on it, as networks do that average them.

        Raises UnfitTask, and InputError where memory or LightGBM is lacking.
        """
        self._splits = splits
        prepared = splits.prepared
        self._columns = tree_columns(prepared.schema, prepared.table_sizes, settings.ids, order)
        # Features in 4 bytes, and LightGBM's copy in bins of 1 or 2.
        name = "gbdt" if order else "gbdt_unordered"
        require_memory(6.0 * sum(prepared.rows.values()) * len(self._columns), name)
        train = splits.window("train")
        self._ranks = bucket_ranks(self._columns, prepared.schema, prepared.table_sizes, train)
        matrices = {split: self._matrix(split) for split in ("train", "valid")}
        self.models = [self._fit(settings, matrices, task, seed) for task in range(len(splits.tasks))]

    def scores(self, split: str) -> np.ndarray:
        """Probabilities of a split's rows, (R, G)."""
        matrix = self._matrix(split)
        return np.stack(
            [model.predict(matrix, num_threads=torch.get_num_threads()) for model in self.models], axis=1
        )

    def _matrix(self, split: str) -> np.ndarray:
        window = self._splits.window(split)
        return tree_matrix(self._columns, self._splits.prepared.schema, window, self._ranks)

    def _fit(self, settings: GbdtSettings, matrices: dict[str, np.ndarray], task: int, seed: int) -> Any:
        lightgbm = _lightgbm()
        parameters = {
            **settings.model_dump(exclude={"ids"}),
            "objective": "binary",
            "metric": "binary_logloss",
            "seed": seed,
            "deterministic": True,
            "force_row_wise": True,
            "num_threads": torch.get_num_threads(),
            "verbosity": -1,
        }
        categories = [place for place, column in enumerate(self._columns) if column.is_category]
        data: dict[str, Any] = {}
        for split, matrix in matrices.items():
            rows, labels = self._splits.labels(split, task)
            data[split] = lightgbm.Dataset(
                matrix if len(rows) == len(matrix) else matrix[rows],
                labels,
                reference=data.get("train"),
                categorical_feature=categories,
                params=parameters,
            )
        stop = lightgbm.early_stopping(PATIENCE, verbose=False)
        return lightgbm.train(
            parameters, data["train"], MOST_TREES, valid_sets=[data["valid"]], callbacks=[stop]
        )


def _lightgbm() -> Any:
    """LightGBM, imported late: most commands do without. InputError where it cannot be loaded."""
    try:
        import lightgbm
    except (ImportError, OSError) as error:  # OSError: its own library needs the system's OpenMP
        raise InputError(
            f"gbdt: LightGBM cannot be loaded ({error}); install lightgbm and libgomp, or leave gbdt out "
            "with `references`"
        ) from None
    return lightgbm
