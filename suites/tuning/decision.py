"""The one-standard-error rule: whether what a search found is better than the defaults by more than noise.

The best of many trials on one seed is good partly by luck. So the best few settings and the defaults are
trained again from other seeds, each setting paired with the defaults seed by seed. A setting beats the
defaults if the mean of its differences to them exceeds their standard error; of those that do, the one with
the best mean is taken, and where none does, the defaults are kept.

With three seeds, a setting that is no better passes with a probability of .21 (Student's t, two degrees of
freedom, above one), and of three such settings, compared with the same defaults, one at least with .42: the
rule keeps out more than half of the noise, and the test split alone tells what tuning is worth.
"""

from __future__ import annotations

import statistics
from collections.abc import Mapping, Sequence
from typing import Any

from pydantic import Field

from harness.data import InputError
from harness.records.spec import Strict


class Settings(Strict):
    """The fields of a row that tuning sets: of its training, its config and its tokens."""

    training: dict[str, Any]
    config: dict[str, Any]
    tokens: dict[str, Any] = Field(default_factory=dict)


class Rescored(Settings):
    """Settings with their score in the search (trial ``trial``) and from each further seed.

    All scores are the metric on the validation split, mean over tasks; None: training diverged. ``mean`` is
    over the further seeds, ``difference`` the mean paired difference to the defaults and ``standard_error``
    its standard error; None where a run diverged, and of the defaults themselves.
    """

    trial: int
    is_default: bool = False
    search_score: float | None
    scores: dict[int, float | None]
    mean: float | None = None
    difference: float | None = None
    standard_error: float | None = None


def compared(rescored: Sequence[Rescored]) -> list[Rescored]:
    """The same with means, and with paired differences to the defaults, which stand first."""
    defaults = rescored[0].scores
    return [
        row.model_copy(
            update={"mean": mean_of(row.scores)}
            | ({} if row.is_default else paired_difference(row.scores, defaults))
        )
        for row in rescored
    ]


def mean_of(scores: Mapping[int, float | None]) -> float | None:
    """The mean over seeds; None where one diverged or there are none."""
    finished = [score for score in scores.values() if score is not None]
    return statistics.fmean(finished) if finished and len(finished) == len(scores) else None


def paired_difference(
    scores: Mapping[int, float | None], defaults: Mapping[int, float | None]
) -> dict[str, float | None]:
    """Mean and standard error of the differences seed by seed; None where a run diverged."""
    pairs = [(score, defaults[seed]) for seed, score in scores.items()]
    differences = [a - b for a, b in pairs if a is not None and b is not None]
    if len(differences) < len(pairs):
        return {"difference": None, "standard_error": None}
    return {
        "difference": statistics.fmean(differences),
        "standard_error": statistics.stdev(differences) / len(differences) ** 0.5,
    }


def choose(rescored: Sequence[Rescored]) -> Rescored:
    """The settings that the rule takes, of settings that were `compared`, the defaults first.

    Settings that diverged from any seed are not taken; defaults that did are beaten by any that did not.
    Raises InputError where nothing is left.
    """
    defaults, candidates = rescored[0], rescored[1:]
    if not candidates:
        return defaults  # no other trial reached its end, so nothing was scored again
    better = [row for row in candidates if row.mean is not None and _beats(row, defaults)]
    if not better and defaults.mean is None:
        raise InputError(
            "its defaults and its best trials diverge from other seeds; narrow the learning rates in search"
        )
    return max(better, key=lambda row: row.mean or 0.0, default=defaults)


def _beats(row: Rescored, defaults: Rescored) -> bool:
    if defaults.mean is None:
        return True
    assert row.difference is not None
    assert row.standard_error is not None
    return row.difference > row.standard_error
