r"""Holm's correction for how many differences were looked at, and effect sizes.

**Holm**: the family is all models of one suite, dataset, task and metric (in ``tiers.csv``: and tier), each
held against the same base. Holm's step-down procedure keeps the chance of any false finding within a family
below the level, whatever the dependence, which differences to one base have. Across tasks, metrics and
datasets nothing is corrected. Reference rows are no contestants and in no family.

**Effect size**: the difference in standard deviations of one run's metric over seeds, pooled over the
dataset's models after what a seed does to all of them alike is taken out. It says how many runs show the
difference to the naked eye, and not how large it is to a user.
"""

from __future__ import annotations

import math

import numpy as np
from numpy.typing import NDArray


def holm(p_values: NDArray[np.float64]) -> NDArray[np.float64]:
    """Holm's adjusted p-values (N,) of one family; NaN ones are no tests and stay NaN.

    >>> holm(np.array([0.01, 0.04, 0.03, np.nan]))
    array([0.03, 0.06, 0.06,  nan])
    """
    adjusted = np.full(len(p_values), math.nan)
    tested = np.flatnonzero(~np.isnan(p_values))
    ordered = tested[np.argsort(p_values[tested], kind="stable")]
    steps = p_values[ordered] * np.arange(len(ordered), 0, -1)
    adjusted[ordered] = np.minimum(np.maximum.accumulate(steps), 1.0)
    return adjusted


def effect_size(diff: float, seeds_sd: float) -> float:
    r"""``diff`` in standard deviations of one run; a paired difference varies by :math:`\sqrt 2` of those.

    NaN where the spread over seeds is unknown or zero.
    """
    return diff * math.sqrt(2) / seeds_sd if seeds_sd > 0 else math.nan
