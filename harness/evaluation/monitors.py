"""What a validation is judged by: a metric, or a sum or difference of two.

The sums are those of the published runs of BARS: AUC + gAUC where rows belong to users, AUC - log loss.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np

PARTS = {"auc+gauc": {"auc": 1.0, "gauc": 1.0}, "auc-logloss": {"auc": 1.0, "logloss": -1.0}}


def monitored(metrics: Mapping[str, Mapping[str, Any]], monitor: str) -> float | None:
    """The mean over tasks of ``monitor``, higher being better; None where a task does not define it.

    ``metrics`` are those of each task: the fields of `harness.evaluation.metrics.Metrics`.
    """
    parts = PARTS.get(monitor, {monitor: 1.0})
    found = [[values[name] for name in parts] for values in metrics.values()]
    if any(None in values for values in found):
        return None
    signs = list(parts.values())
    return float(np.mean([sum(s * v for s, v in zip(signs, values, strict=True)) for values in found]))
