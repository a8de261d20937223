"""Mean differences of one family, each with its interval, its p-value and, corrected, its verdict.

What stands behind a mean is its runs' spread alone, over seeds or worlds: Student's t. Where users are drawn
anew as well, ``joint.py`` beside this holds what differs.
"""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np
from scipy.special import stdtr

from harness.evaluation.statistics.bootstrap import DECIMALS
from harness.evaluation.statistics.intervals import Spread
from harness.evaluation.statistics.significance import LEVEL, holm

JUDGED = ["diff", "diff_low", "diff_high", "p_value", "p_holm", "resolved"]


def judge(family: Sequence[Spread], unknown: Sequence[str]) -> list[dict]:
    """The columns ``JUDGED`` of each difference of a family, which Holm's correction is over.

    Args:
        unknown: for each, why no verdict can be given, such as "few worlds"; empty where one can. Such a
            difference is no test: it counts for nothing in the correction.
    """
    p_values = np.array(
        [math.nan if why else p_value(mean) for mean, why in zip(family, unknown, strict=True)], dtype=float
    )
    return [
        {
            "diff": round(mean.mean, DECIMALS),
            "diff_low": mean.mean - mean.half_width(),
            "diff_high": mean.mean + mean.half_width(),
            "p_value": float(p),
            "p_holm": float(corrected),
            "resolved": why or ("yes" if corrected < LEVEL else "no"),
        }
        for mean, why, p, corrected in zip(family, unknown, p_values, holm(p_values), strict=True)
    ]


def p_value(mean: Spread) -> float:
    """Of Student's t test that the mean is zero, on both sides; NaN where the spread is not known.

    >>> round(p_value(Spread(mean=2.0, sd=0.5, df=2)), 3)
    0.057
    """
    if math.isnan(mean.sd):
        return math.nan
    if mean.sd == 0:
        return float(round(mean.mean, DECIMALS) == 0)
    return float(2 * stdtr(mean.df, -abs(mean.mean) / mean.sd))
