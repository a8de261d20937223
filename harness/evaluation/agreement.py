"""How alike models score: the correlation of their logits on the test rows, ``agreement.csv``.

Two models of one AUC may rank the same rows first or other ones; of such that differ an ensemble gains. What
two seeds of one model have is the yardstick.
"""

from __future__ import annotations

import itertools

import numpy as np
from numpy.typing import NDArray
from scipy.special import logit

from harness.evaluation.comparisons import ComparableRuns, Rows
from harness.records.contestant import Contestant
from harness.records.record import Record

COLUMNS = [
    *("suite", "dataset", "task", "architecture", "variant", "other_architecture", "other_variant"),
    *("correlation", "pairs"),
]
_LEAST = 1e-7  # a score of 0 or 1 has no logit


def agreement_rows(runs: ComparableRuns, task: str) -> Rows:
    """One row a pair of models: the mean correlation of their runs from the same seed in the same world.

    Of a model with itself, of its runs from different seeds; without several, there is no such row.
    """
    correlations: dict[tuple[Contestant, Contestant], list[float]] = {}
    for world, of_world in runs.by_world.items():
        matrix = _correlations(runs.predicted[world][task].scores)
        models = [place for place, run in enumerate(of_world) if not run.is_reference]
        for i, j in itertools.combinations(models, 2):
            if _are_compared(of_world[i], of_world[j]):
                pair = of_world[i].contestant, of_world[j].contestant
                correlations.setdefault(pair, []).append(float(matrix[i, j]))
    return [
        runs.shared_cells(task)
        | {"architecture": who.architecture, "variant": who.variant}
        | {"other_architecture": other.architecture, "other_variant": other.variant}
        | {"correlation": float(np.mean(found)), "pairs": len(found)}
        for (who, other), found in correlations.items()
    ]


def _correlations(scores: list[NDArray]) -> NDArray[np.float64]:
    """(runs, runs): Pearson's correlation of their logits; NaN of a run whose scores are all the same."""
    with np.errstate(invalid="ignore", divide="ignore"):
        return np.atleast_2d(
            np.corrcoef([logit(each.astype(float).clip(_LEAST, 1 - _LEAST)) for each in scores])
        )


def _are_compared(one: Record, other: Record) -> bool:
    return (one.contestant == other.contestant) != (one.seed == other.seed)
