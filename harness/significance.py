r"""p-values of differences to the base, Holm's correction for how many were looked at, and effect sizes.

**p-value**: the level at which the interval of ``harness/compare.py`` would just touch zero. That interval at
confidence :math:`1 - p` reaches from the difference towards zero by

.. math:: h(p) = \sqrt{(z_{1 - p/2}\, s_u)^2 + (t_{df,\,1 - p/2}\, s_s)^2},

with :math:`s_s = sd / \sqrt n` of the seeds, and :math:`s_u` the users' half-width on the side of zero over
:math:`z_{0.975}`: beyond the 95% that the bootstrap measured, users are taken as normal. At :math:`p = 0.05`
it is the interval in the file, so p < 0.05 exactly where a difference is resolved.

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
from scipy import stats
from scipy.optimize import brentq

SMALLEST_P = 1e-12  # the approximations say nothing of smaller ones


def p_value(
    diff: float, users_half_width: float, seeds_sd: float, seeds: int, df: int, level: float
) -> float:
    """Two-sided p-value of a difference from the two parts of its interval; NaN where a part is unknown.

    Args
        users_half_width: of the users' interval at ``level``, on the side of zero.
        seeds_sd: standard deviation of a paired difference of one seed, with ``df`` degrees of freedom.
        seeds: how many seeds ``diff`` is the mean of.
    """
    if seeds < 2 or df < 1 or any(map(math.isnan, (diff, users_half_width, seeds_sd))):
        return math.nan
    users = abs(users_half_width) / stats.norm.ppf((1 + level) / 2)
    of_seeds = seeds_sd / math.sqrt(seeds)

    def short_of_zero(log_p: float) -> float:
        tail = math.exp(log_p) / 2
        return math.hypot(stats.norm.isf(tail) * users, stats.t.isf(tail, df) * of_seeds) - abs(diff)

    if diff == 0:
        return 1.0
    if short_of_zero(math.log(SMALLEST_P)) <= 0:
        return SMALLEST_P
    return math.exp(brentq(short_of_zero, math.log(SMALLEST_P), 0.0))


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
