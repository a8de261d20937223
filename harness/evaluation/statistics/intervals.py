"""A mean over runs with its interval: over seeds or, where there are several worlds, over worlds.

The runs of one world share its data, so they are no independent samples of what another world would give:
with several worlds the mean and its spread are taken over the means of the worlds.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from scipy.special import stdtrit

LEVEL = 0.95

World = int | None


@dataclass(frozen=True)
class Spread:
    """A mean, its standard deviation (NaN: not known) and the degrees of freedom that this rests on."""

    mean: float
    sd: float
    df: float

    def half_width(self, level: float = LEVEL) -> float:
        """Half of Student's t interval; NaN where the standard deviation is."""
        return float(stdtrit(max(self.df, 1), 0.5 + level / 2)) * self.sd


def spread_of_mean(values: Sequence[float], worlds: Sequence[World] = ()) -> Spread:
    """The mean of some runs' values and how it varies.

    Args
        values: one a run.
        worlds: the world of each; without them, all are of one world.

    >>> spread_of_mean([1.0, 3.0, 5.0, 7.0], [0, 0, 1, 1])
    Spread(mean=4.0, sd=2.0, df=1)
    """
    by_world: dict[World, list[float]] = {}
    for value, world in zip(values, worlds or [None] * len(values), strict=True):
        by_world.setdefault(world, []).append(value)
    if len(by_world) > 1:
        values = [float(np.mean(group)) for group in by_world.values()]
    if not values:
        return Spread(math.nan, math.nan, 0)
    df = len(values) - 1
    sd = float(np.std(values, ddof=1)) / math.sqrt(len(values)) if df else math.nan
    return Spread(float(np.mean(values)), sd, df)


def mean_interval(
    values: Sequence[float], worlds: Sequence[World] = (), level: float = LEVEL
) -> tuple[float, float, float]:
    """Mean and Student-t interval: (mean, low, high); NaN where there are too few values."""
    spread = spread_of_mean(values, worlds)
    half = spread.half_width(level)
    return spread.mean, spread.mean - half, spread.mean + half
