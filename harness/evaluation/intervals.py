"""The mean of a metric over seeds, with its interval."""

from __future__ import annotations

import math

import numpy as np
from scipy.special import stdtrit


def mean_interval(values: list[float], confidence: float = 0.95) -> tuple[float, float, float]:
    """Mean and Student-t interval over seeds: (mean, low, high).

    The interval is NaN for one value, all three for none.
    """
    if not values:
        return math.nan, math.nan, math.nan
    mean = float(np.mean(values))
    if len(values) == 1:
        return mean, math.nan, math.nan
    half = float(
        stdtrit(len(values) - 1, 0.5 + confidence / 2) * np.std(values, ddof=1) / math.sqrt(len(values))
    )
    return mean, mean - half, mean + half
