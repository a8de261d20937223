r"""Which differences are real: those between two contestants, with intervals over users, seeds and worlds.

A difference is the mean over the pairs of runs, one of each contestant, that share world and seed. It has
these sources of chance, and an interval that leaves one out promises too much:

- **Users** (``users_low``, ``users_high``): other test users might have come. Paired bootstrap over users,
  seeds averaged (``harness/evaluation/statistics/bootstrap.py``). Empty with fewer than ``MIN_USERS`` users.
- **Seeds** (``seeds_low``, ``seeds_high``): other seeds might have been drawn. Student's t interval of the
  pairs' own differences :math:`d_s`, whose half-width is :math:`t_{n-1} \, sd(d) / \sqrt n`. What a seed does
  to both alike (it orders the rows and fills the tables alike) cancels in a pair. Nothing is pooled over
  other rows: architectures vary unequally, and a verdict must not depend on which neighbours a row has. Empty
  with one pair of runs in each world.
- **Worlds**: another simulated world (or another draw of this log's training rows) might have come. With W of
  them, the spread is that of the worlds' mean differences, with W - 1 degrees of freedom; what seeds do is in
  it. So is what users do where every world has users of its own; where all worlds are tested on the same
  rows, users are drawn beside, the same in all worlds. Draws of one log's training rows stand for no other
  log: their interval is about the mean over draws of this one. A world whose test rows do not define a
  metric is left out of it; ``worlds`` says how many are in.

``low`` and ``high`` are the middle 95% of all this: of users and seeds (or worlds) drawn together
(``harness/evaluation/statistics/joint.py``), or over worlds alone. ``p_value`` is below .05 where they leave
out zero. ``p_holm`` is the p-value after Holm's correction over the rows of the dataset, task and metric
(``statistics/significance.py``), and ``resolved`` says whether that is below .05: "yes" or "no". A row whose
runs are the base's under another name (tuning kept the defaults, say) is "no", and no test of the family.
Where no verdict is given it says why: "few seeds" or "few worlds" (of either ``MIN_RUNS`` are needed, and a
row that ran in one of several worlds has few worlds), "few users", "failed seeds", or "overlapping splits":
worlds that are one log split at several times share most rows, and vary too little. A failed run counts
against its contestant: what it would have reached is not known, so the mean over the others is shown and not
judged. ``detectable`` is the difference that the row
could have shown with 80% power, ``effect_size`` the difference in standard deviations of one run over seeds.

Reference rows are no contestants and know no seeds (``seeds`` is 1): each is held against every seed of the
base, and the seed part is the base's own. Each is a family of its own, and has no effect size.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from harness.evaluation.statistics.bootstrap import DECIMALS, METRICS, MIN_USERS, UserBootstrap
from harness.evaluation.statistics.intervals import LEVEL, Spread, World, spread_of_mean
from harness.evaluation.statistics.joint import JointDraws
from harness.evaluation.statistics.significance import detectable, effect_size, holm
from harness.records.contestant import Contestant
from harness.records.record import Record

MIN_RUNS = (
    3  # seeds or, where there are several, worlds: two have one degree of freedom, too few for a verdict
)

Pair = tuple[Contestant, Contestant]  # a contestant, and the one that it is compared with
Pairs = list[tuple[int, int]]  # numbers of the runs of either


@dataclass(frozen=True)
class MeasuredWorld:
    """The finished runs of one world, and their bootstrap in the same order.

    ``has_own_users`` is False where the other worlds have the same test rows, and the same draws of users;
    ``overlaps`` is True of splits of one log at other times, which share most rows.
    """

    world: World
    runs: list[Record]
    measured: UserBootstrap
    has_own_users: bool = True
    overlaps: bool = False


def differences(
    worlds: Sequence[MeasuredWorld], pairs: Sequence[Pair], failed: Mapping[Contestant, int]
) -> list[dict]:
    """For each metric that some world defines, the difference of every pair that has runs, with intervals.

    The pairs of a metric are one family of Holm's.

    Args
        failed: how many runs of each contestant failed.
    """
    found: list[dict] = []
    for metric in METRICS:
        defined = [each for each in worlds if not np.isnan(each.measured.point[metric]).any()]
        compared = {
            (who, other): _compare(parts, metric, failed.get(who, 0) + failed.get(other, 0), len(worlds) > 1)
            for who, other in pairs
            if (parts := _parts(defined, who, other))
        }
        for pair, row in zip(compared, _judged(list(compared.values())), strict=True):
            found.append({"metric": metric} | _names(*pair) | row)
    return found


def _names(who: Contestant, other: Contestant) -> dict[str, str]:
    return {
        "architecture": who.architecture,
        "variant": who.variant,
        "base": other.architecture,
        "base_variant": other.variant,
    }


# --- One pair ---------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class _Part:
    """A pair of contestants in one world: which runs to compare."""

    world: MeasuredWorld
    pairs: Pairs

    @property
    def is_reference(self) -> bool:
        return self.world.runs[self.pairs[0][0]].is_reference

    def values(self, metric: str) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
        """The metric of both sides, (pairs,) each."""
        point = self.world.measured.point[metric]
        ours, others = np.array(self.pairs).T
        return point[ours], point[others]

    @property
    def is_one_model(self) -> bool:
        """Whether both sides have the same runs, as where tuning kept the defaults: equal in every metric."""
        return all(np.array_equal(*self.values(metric), equal_nan=True) for metric in METRICS)

    def difference(self, metric: str) -> float:
        return self.world.measured.difference(metric, *self._numbers())

    def drawn(self, metric: str) -> NDArray[np.float64]:
        """The difference on each draw of users; empty with few users."""
        return self.world.measured.drawn_differences(metric, *self._numbers())

    def _numbers(self) -> tuple[list[int], list[int]]:
        return [i for i, _ in self.pairs], [j for _, j in self.pairs]


def _parts(worlds: Sequence[MeasuredWorld], who: Contestant, other: Contestant) -> list[_Part]:
    """The worlds in which both have runs."""
    return [_Part(world, pairs) for world in worlds if (pairs := _pairs(world.runs, who, other))]


def _pairs(runs: list[Record], who: Contestant, other: Contestant) -> Pairs:
    """Numbers of the runs (of ``who``, of ``other``) that share a seed; a reference shares every seed."""
    ours = [(i, run) for i, run in enumerate(runs) if run.contestant == who]
    others = [(j, run) for j, run in enumerate(runs) if run.contestant == other]
    return [
        (i, j) for j, other_run in others for i, run in ours if run.is_reference or run.seed == other_run.seed
    ]


@dataclass(frozen=True)
class _Difference:
    """A difference in one metric; ``unknown`` says why no verdict can be given, or is empty."""

    columns: dict
    joint: JointDraws
    unknown: str
    is_reference: bool
    is_one_model: bool

    @property
    def is_in_family(self) -> bool:
        """Whether it is a test: a model that is the other one under another name cannot differ from it."""
        return not (self.unknown or self.is_reference or self.is_one_model)


def _compare(parts: list[_Part], metric: str, failed: int, several: bool) -> _Difference:
    """The difference over ``parts``; ``several``: whether the suite has several worlds."""
    by_seed = [np.subtract(*part.values(metric)) for part in parts]
    by_world = [part.difference(metric) for part in parts]
    diff = round(float(np.mean(by_world)), DECIMALS)
    users, seeds = mean_of_draws([part.drawn(metric) for part in parts]), spread_over_seeds(by_seed)
    joint = joint_draws(by_world, by_seed, users, parts[0].world.has_own_users)
    is_reference, num_users = parts[0].is_reference, _count_users(parts, metric)
    columns = {
        "seeds": 1 if is_reference else sum(map(len, by_seed)),
        "users": num_users,
        "mean": float(np.mean([part.values(metric)[0].mean() for part in parts])),
        "base_mean": float(np.mean([part.values(metric)[1].mean() for part in parts])),
        "diff": diff,
        **dict(zip(("users_low", "users_high"), _middle(users), strict=True)),
        "seeds_low": diff - seeds.half_width(),
        "seeds_high": diff + seeds.half_width(),
        **dict(zip(("low", "high"), joint.interval(LEVEL), strict=True)),
        "effect_size": math.nan if is_reference else effect_size(diff, _sd_of_a_pair(by_seed)),
        "worlds": len(parts),
        "failed_seeds": failed,
    }
    unknown = "overlapping splits" if several and any(part.world.overlaps for part in parts) else ""
    unknown = _why_unknown(by_seed, num_users, failed, several) or unknown
    return _Difference(columns, joint, unknown, is_reference, all(part.is_one_model for part in parts))


def _count_users(parts: list[_Part], metric: str) -> int:
    counts = [part.world.measured.users[metric] for part in parts]
    return sum(counts) if parts[0].world.has_own_users else max(counts)


def joint_draws(
    by_world: Sequence[float],
    by_seed: list[NDArray[np.float64]],
    users: NDArray[np.float64],
    have_own_users: bool,
) -> JointDraws:
    """A mean over worlds when users and seeds, or users and worlds, are drawn anew together.

    Args
        by_world: each world's mean.
        by_seed: for each world what its seeds have, (seeds,).
        users: the mean over worlds on draws of users; not used where worlds ``have_own_users``.
    """
    if len(by_world) == 1:
        seeds = spread_over_seeds(by_seed)
        return JointDraws(users, seeds.sd, seeds.df)
    over_worlds = spread_of_mean(by_world)
    drawn = np.array([round(float(np.mean(by_world)), DECIMALS)]) if have_own_users else users
    return JointDraws(drawn, over_worlds.sd, over_worlds.df)


def spread_over_seeds(by_seed: list[NDArray[np.float64]]) -> Spread:
    """Of the mean over worlds of each world's mean over seeds, where only seeds are drawn anew.

    Args
        by_seed: for each world the paired differences, (seeds,).
    """
    repeated = [values for values in by_seed if len(values) > 1]
    if len(repeated) < len(by_seed):
        return Spread(math.nan, math.nan, 0)
    variance = sum(values.var(ddof=1) / len(values) for values in by_seed) / len(by_seed) ** 2
    return Spread(math.nan, math.sqrt(variance), sum(len(values) - 1 for values in by_seed))


def _sd_of_a_pair(by_seed: list[NDArray[np.float64]]) -> float:
    """Standard deviation over seeds of one paired difference, within worlds."""
    df = sum(len(values) - 1 for values in by_seed)
    squares = sum(float(np.sum((values - values.mean()) ** 2)) for values in by_seed)
    return math.sqrt(squares / df) if df else math.nan


def mean_of_draws(by_world: list[NDArray[np.float64]]) -> NDArray[np.float64]:
    """The mean difference over worlds on draws of each world's users; empty where one has few users."""
    shortest = min(map(len, by_world))
    return np.mean([draws[:shortest] for draws in by_world], axis=0)


def _middle(draws: NDArray[np.float64]) -> tuple[float, float]:
    if not len(draws):
        return math.nan, math.nan
    low, high = np.quantile(draws, [(1 - LEVEL) / 2, (1 + LEVEL) / 2])
    return float(low), float(high)


def _why_unknown(by_seed: list[NDArray[np.float64]], num_users: int, failed: int, several: bool) -> str:
    """Why no verdict can be given, or an empty text."""
    if failed:
        return "failed seeds"
    if several and len(by_seed) < MIN_RUNS:
        return "few worlds"
    if not several and len(by_seed[0]) < MIN_RUNS:
        return "few seeds"
    return "few users" if num_users < MIN_USERS else ""


# --- A family of pairs ----------------------------------------------------------------------------------


def _judged(family: list[_Difference]) -> list[dict]:
    """The columns of the differences in one metric, with those that depend on how many they are."""
    p_values = np.array([math.nan if each.unknown else each.joint.p_value() for each in family])
    in_family = np.array([each.is_in_family for each in family], dtype=bool)
    p_holm = holm(np.where(in_family, p_values, math.nan))
    tests = int(in_family.sum())
    return [
        each.columns
        | {
            "resolved": each.unknown or _verdict(float(p if each.is_reference else corrected)),
            "p_value": float(p),
            "p_holm": float(corrected),
            "detectable": math.nan if each.unknown else _detectable(each, tests),
        }
        for each, p, corrected in zip(family, p_values, p_holm, strict=True)
    ]


def _verdict(p_value: float) -> str:
    return "yes" if p_value < 1 - LEVEL else "no"


def _detectable(difference: _Difference, tests: int) -> float:
    """NaN where the family is so large that no p-value of so few draws of users would survive it."""
    joint, tests = difference.joint, 1 if difference.is_reference else tests
    if joint.least_p_value * tests >= 1 - LEVEL:
        return math.nan
    return detectable(joint.seed_sd, joint.df, joint.users_sd, tests)
