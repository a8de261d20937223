r"""Which differences to the base are real: their intervals over users and seeds.

A difference is the mean over the seeds that both the row's runs and the base's finished; failed runs show in
``seeds`` alone. It has two sources of chance, and an interval that names one of them promises too much:

- **Users** (``users_low``, ``users_high``): other test users might have come. Paired bootstrap over users,
  seeds averaged (``harness/evaluation/bootstrap.py``). Empty with fewer than ``MIN_USERS`` users.
- **Seeds** (``seeds_low``, ``seeds_high``): other seeds might have been drawn. With metric
  :math:`y_{as}` of architecture a and seed s, in a randomised block design
  :math:`y_{as} = \mu_a + \beta_s + \varepsilon_{as}`: what a seed does to all architectures alike (it orders
  the rows and fills the tables alike) is the block :math:`\beta_s`, and **the rest is assumed to vary equally
  in every architecture**. Then :math:`sd^2 = 2 \sum \hat\varepsilon^2 / df` is the variance of a paired
  difference, pooled over all pairs of the dataset's architectures, and the half-width is
  :math:`t_{df} \, sd / \sqrt n`, with :math:`df = K (n - 1)` for K compared architectures of n seeds each.
  For K = 1 this is the paired t interval. Pooling the differences to the base alone would count the base's
  own seeds K times over, and its degrees of freedom would be too many.
  With one seed this part is unknown, and nothing is claimed.

``low`` and ``high`` are the middle 95% where users and seeds are drawn together
(``harness/evaluation/joint.py``). ``resolved`` is "yes" if that interval leaves out zero, "no" if it holds
zero, "one seed" or "few users" where a part is unknown. The intervals are not widened for the number of
comparisons: of twenty rows without a difference, one is expected to be "resolved". ``p_value`` is twice the
share of the joint draws on the smaller side of zero, ``p_holm`` the same after Holm's correction over the
models of the dataset, task and metric, ``effect_size`` the difference in standard deviations of one run over
seeds (``harness/evaluation/significance.py``).

Reference rows are no contestants and know no seeds (``seeds`` is 1): each is held against every seed of the
base, the seed part is the base's own (its paired t interval), and they are not pooled with the architectures.
They have a p-value, but are in no family, and have no effect size.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy import stats

from harness.evaluation.bootstrap import METRICS, UserBootstrap
from harness.evaluation.joint import JointDraws
from harness.evaluation.significance import effect_size, holm
from harness.records.contestant import Contestant
from harness.records.record import Record

LEVEL = 0.95


def differences(runs: list[Record], measured: UserBootstrap, base: Contestant) -> Iterator[dict]:
    """For each metric that the rows define, every contestant's difference to the base with its intervals.

    Args
        measured: the bootstrap of ``runs``, in their order.
    """
    contestants = [who for who in dict.fromkeys(run.contestant for run in runs) if who != base]
    for metric in METRICS:
        if np.isnan(measured.point[metric]).any():
            continue  # the test rows do not define it
        pooled = pooled_seed_spread(runs, measured.point[metric])
        named = {who: pairs for who in contestants if (pairs := _pairs(runs, who, base))}
        rows = [_compared(runs, measured, metric, pairs, pooled) for pairs in named.values()]
        in_family = [not runs[pairs[0][0]].is_reference for pairs in named.values()]
        family = [row["p_value"] if is_in else math.nan for row, is_in in zip(rows, in_family, strict=True)]
        for who, row, p_holm in zip(named, rows, holm(np.array(family)), strict=True):
            yield {
                "metric": metric,
                "architecture": who.architecture,
                "variant": who.variant,
                **row,
                "p_holm": float(p_holm),
            }


def _pairs(runs: list[Record], who: Contestant, base: Contestant) -> list[tuple[int, int]]:
    """Numbers of the runs (of ``who``, of the base) that share a seed; a reference shares every seed."""
    return [
        (i, j)
        for j, base_run in enumerate(runs)
        if base_run.contestant == base
        for i, run in enumerate(runs)
        if run.contestant == who and (run.is_reference or run.seed == base_run.seed)
    ]


@dataclass(frozen=True)
class SeedSpread:
    """Standard deviation of a paired difference between two runs of one seed, and what it rests on."""

    sd: float
    df: int

    def sd_of_mean(self, seeds: int) -> float:
        """Of the mean difference over ``seeds``; NaN with one seed, or without a degree of freedom."""
        return self.sd / math.sqrt(seeds) if seeds > 1 and self.df > 0 else math.nan

    def half_width(self, seeds: int) -> float:
        """Half the t interval of the mean difference; NaN where its standard deviation is."""
        return float(stats.t.ppf((1 + LEVEL) / 2, max(self.df, 1))) * self.sd_of_mean(seeds)


def pooled_seed_spread(runs: list[Record], values: NDArray[np.float64]) -> SeedSpread:
    """From the residuals of architecture + seed over all models' runs, of which some may be missing.

    Args
        values: (M,) the metric of every run.
    """
    models = [i for i, run in enumerate(runs) if not run.is_reference]
    design = np.concatenate(
        [_one_hot([runs[i].contestant for i in models]), _one_hot([runs[i].seed for i in models])], axis=1
    )
    y = values[models]
    effects, _, rank, _ = np.linalg.lstsq(design, y, rcond=None)
    df = len(y) - int(rank)
    return SeedSpread(math.sqrt(2 * float(np.sum((y - design @ effects) ** 2)) / df) if df else math.nan, df)


def _one_hot(values: list) -> NDArray[np.float64]:
    """(N, distinct values)"""
    levels = list(dict.fromkeys(values))
    return np.eye(len(levels))[[levels.index(value) for value in values]]


def _compared(
    runs: list[Record], measured: UserBootstrap, metric: str, pairs: list[tuple[int, int]], pooled: SeedSpread
) -> dict:
    point = measured.point[metric]
    ours, bases = [i for i, _ in pairs], [j for _, j in pairs]
    is_reference = runs[ours[0]].is_reference
    if is_reference:
        own_sd = float(np.std(point[ours] - point[bases], ddof=1)) if len(pairs) > 1 else math.nan
        pooled = SeedSpread(own_sd, len(pairs) - 1)
    diff = measured.difference(metric, ours, bases)
    users_low, users_high = measured.interval(metric, ours, bases, LEVEL)
    half = pooled.half_width(len(pairs))
    drawn = measured.drawn_differences(metric, ours, bases)
    joint = JointDraws(drawn, pooled.sd_of_mean(len(pairs)), pooled.df)
    low, high = joint.interval(LEVEL)
    return {
        "seeds": 1 if is_reference else len(pairs),
        "users": measured.users[metric],
        "mean": float(point[ours].mean()),
        "base_mean": float(point[bases].mean()),
        "diff": diff,
        "users_low": users_low,
        "users_high": users_high,
        "seeds_low": diff - half,
        "seeds_high": diff + half,
        "low": low,
        "high": high,
        "resolved": _resolved(users_low, half, low, high),
        "p_value": joint.p_value(),
        "effect_size": math.nan if is_reference else effect_size(diff, pooled.sd),
    }


def _resolved(users_low: float, seed_half_width: float, low: float, high: float) -> str:
    if math.isnan(seed_half_width):
        return "one seed"
    if math.isnan(users_low):
        return "few users"
    return "yes" if low > 0 or high < 0 else "no"
