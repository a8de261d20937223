r"""A difference when users and seeds are drawn anew together: its 95% interval and its p-value.

A joint draw takes one draw of users (``bootstrap.py`` beside this), on which every run is measured,
and for the runs of a difference one draw of what their seeds do. Users, of whom there are hundreds, are drawn
from those that came. Seeds, of which there are few, cannot be: two seeds have three samples, whose spread is
half of the truth. So a seed's effect is drawn from the normal distribution, and its spread from what the
pair's own differences over n seeds say of it (``harness/evaluation/differences.py``), which together is
Student's t:

.. math:: d^* = d^*_{users} + \frac{sd}{\sqrt n}\, t_{n-1}

This is the Behrens-Fisher interval for the sum of two variances. It holds the truth 95% of the time or a
little oftener; Satterthwaite's degrees of freedom hold it less often with few seeds (``docs/coverage.md``).

The draws of users are R numbers; the seeds' are summed over exactly, instead of drawn: the distribution is
the mean of R t distributions, each about its draw of users. Its quantiles are the interval, twice its smaller
side of zero is the p-value, and so p < 0.05 where the interval leaves out zero.

A part of the spread is the interplay of the two, a run that suits some users by luck. It is in the spread
over users and in that over seeds, and both are in the interval: it errs on the wide side, by at most a factor
of :math:`\sqrt 2`, and not as far as drawing seeds on each draw of users would, which has it three times.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy.optimize import brentq
from scipy.special import stdtr, stdtrit


@dataclass(frozen=True)
class JointDraws:
    """A mean difference over draws of users and seeds.

    Args
        user_draws: (R,) the difference on each draw of users, without undefined ones. Empty: not known. The
            difference alone, if ``seed_sd`` holds what users do as well, as that over worlds does.
        seed_sd: standard deviation of the mean difference over seeds. NaN: not known.
        df: degrees of freedom that it rests on.
    """

    user_draws: NDArray[np.float64]
    seed_sd: float
    df: float

    def share_below(self, value: float) -> float:
        """Share of the joint draws below ``value``; one that is the value itself counts half."""
        distance = value - self.user_draws
        if self.seed_sd == 0:
            return float(np.mean((distance > 0) + 0.5 * (distance == 0)))
        return float(np.mean(stdtr(self.df, distance / self.seed_sd)))

    def interval(self, level: float) -> tuple[float, float]:
        """The middle ``level`` of the joint draws; (NaN, NaN) where a part is not known."""
        if not self._is_known():
            return math.nan, math.nan
        tail = (1 - level) / 2
        return self._quantile(tail), self._quantile(1 - tail)

    def p_value(self) -> float:
        """Twice the share on the smaller side of zero; NaN where a part is not known.

        Never below ``least_p_value``.
        """
        if not self._is_known():
            return math.nan
        below = self.share_below(0.0)
        return min(1.0, max(2 * min(below, 1 - below), self.least_p_value))

    @property
    def least_p_value(self) -> float:
        """1 / (R + 1): of what happens less often than that, R draws of users tell nothing."""
        return 1 / (len(self.user_draws) + 1) if len(self.user_draws) > 1 else 0.0

    @property
    def users_sd(self) -> float:
        """Standard deviation over the draws of users; NaN without any."""
        return float(self.user_draws.std()) if len(self.user_draws) else math.nan

    def _is_known(self) -> bool:
        return len(self.user_draws) > 0 and self.df >= 1 and not math.isnan(self.seed_sd)

    def _quantile(self, share: float) -> float:
        if self.seed_sd == 0:
            return float(np.quantile(self.user_draws, share))
        reach = self.seed_sd * float(stdtrit(self.df, share))
        # Of every single t distribution the quantile is its draw + reach, so that of their mean lies between.
        low, high = float(self.user_draws.min()) + reach, float(self.user_draws.max()) + reach
        # To rounding, it may be an end itself: where the draws of users hardly differ, or there are few.
        if self.share_below(low) >= share:
            return low
        if self.share_below(high) <= share:
            return high
        return float(brentq(lambda value: self.share_below(value) - share, low, high, xtol=1e-12))
