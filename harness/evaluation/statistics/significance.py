r"""Holm's correction for how many differences were looked at, effect sizes, and what a table could find.

**Holm**: the family is all models of one suite, dataset, task and metric; in ``variants.csv`` and
``contrasts.csv`` all rows of these, in ``tiers.csv`` those of one tier. Holm's step-down procedure keeps the
chance of any false finding within a family below the level, whatever the dependence, which differences to one
base have. Across tasks, metrics and datasets nothing is corrected. A reference row is a family of its own.

**Effect size**: the difference in standard deviations of one run's metric over seeds, after what a seed does
to both models alike is taken out. It says how many runs show the difference to the naked eye, and not how
large it is to a user.

**Smallest detectable difference**: a true difference of this size would survive the correction in 80 of 100
repetitions, if its row spreads as it did here. A difference below it that is not resolved is no evidence that
there is none.
"""

from __future__ import annotations

import math

import numpy as np
from numpy.typing import NDArray
from scipy.optimize import brentq
from scipy.special import chdtri, ndtr, stdtr, stdtrit

LEVEL, POWER = 0.05, 0.8


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


def detectable(seeds_sd: float, df: float, users_sd: float, tests: int) -> float:
    """The smallest detectable difference of a row among ``tests``, of which it has the smallest p-value.

    The test is that of ``joint.py`` beside this: with s, the standard deviation over seeds that comes
    out, a difference is found beyond the (1 - .05 / 2K) quantile of N(0, users_sd) + s t(df). What comes out
    varies as a chi-square with ``df`` does, and the difference by both variances.

    Args
        seeds_sd, df: true standard deviation of the mean difference over seeds (or worlds), and the degrees
            of freedom with which it is estimated.
        users_sd: standard deviation of the difference over draws of users.
        tests: K, the family's size.

    NaN where one is not known.
    """
    if math.isnan(seeds_sd + users_sd) or df < 1 or tests < 1:
        return math.nan
    found_sds = seeds_sd * np.sqrt(chdtri(df, 1 - _MIDDLES) / df)
    beyond = _critical_values(found_sds, df, users_sd, LEVEL / 2 / tests)
    spread = math.hypot(seeds_sd, users_sd)
    if spread == 0:
        return 0.0
    return float(
        brentq(lambda size: np.mean(ndtr((size - beyond) / spread)) - POWER, 0, beyond.max() + 9 * spread)
    )


_MIDDLES = (np.arange(16) + 0.5) / 16  # of 16 equal parts of a probability
_USERS = np.linspace(-6, 6, 97)  # of a standard normal distribution: its tails count
_USERS_SHARES = np.exp(-(_USERS**2) / 2) / np.exp(-(_USERS**2) / 2).sum()


def _critical_values(
    found_sds: NDArray[np.float64], df: float, users_sd: float, tail: float
) -> NDArray[np.float64]:
    """For each s (N,) the value that N(0, users_sd) + s t(df) exceeds with probability ``tail``."""
    users = users_sd * _USERS
    low = np.zeros_like(found_sds)
    high = found_sds * stdtrit(df, 1 - tail) + users.max() + 1e-12
    for _ in range(30):
        middle = (low + high) / 2
        with np.errstate(divide="ignore"):
            above = stdtr(df, (users - middle[:, None]) / found_sds[:, None]) @ _USERS_SHARES
        low, high = np.where(above > tail, middle, low), np.where(above > tail, high, middle)
    return high
