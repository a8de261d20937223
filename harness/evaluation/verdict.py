"""Whether scores on these data say anything of ranking: the rule that every verdict asks first.

A feature that knows the outcome makes every model right and all differences meaningless. Where the data
hold a leak that their owner did not acknowledge, or a model's AUC is above .99 without an acknowledged
feature that could explain it, numbers are shown and nobody is called better.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import pandas as pd

from harness.evaluation.comparisons import TEST_COLUMNS
from harness.records.record import Leak, Leaks, Record

TOO_GOOD = 0.99
WITHHELD = "no verdict"  # in place of yes or no in "resolved", where the data leak


@dataclass(frozen=True)
class TooGood:
    """A task on which a model's AUC is above .99, and the acknowledged features that may explain it."""

    task: str
    auc: float
    model: str
    explained_by: list[str]


@dataclass(frozen=True)
class Doubts:
    """What speaks against a verdict: leaks that bear on the tasks, and AUCs that are too good."""

    leaks: list[Leak]
    acknowledged: list[Leak]
    too_good: list[TooGood]

    @property
    def unexplained(self) -> list[TooGood]:
        return [found for found in self.too_good if not found.explained_by]

    @property
    def withhold(self) -> bool:
        """Whether no verdict may be given."""
        return bool(self.leaks or self.unexplained)


def known_leaks(asked: Leaks | None, records: list[Record]) -> Leaks:
    """What the last run of the suite found and acknowledged; without it, what the newest record says."""
    recorded = [record.dataset_info.leaks for record in records if record.dataset_info.leaks is not None]
    return asked or (recorded[-1] if recorded else Leaks())


def doubts(records: list[Record], tasks: list[str], leaks: Leaks) -> Doubts:
    """What the records and the leaks of their data say against a verdict on ``tasks``.

    Args:
        records: those of one dataset, reference rows too, which do not count.
    """
    bearing = [leak for leak in leaks.found if leak.task is None or leak.task in tasks]
    return Doubts(
        leaks=[leak for leak in bearing if leak.feature not in leaks.leak_ok],
        acknowledged=[leak for leak in bearing if leak.feature in leaks.leak_ok],
        too_good=[
            TooGood(task, *best, _explaining(task, leaks))
            for task in dict.fromkeys(task for record in records for task in record.metrics)
            if (best := max(_aucs(records, task), default=(0.0, "")))[0] > TOO_GOOD
        ],
    )


def withheld(compared: pd.DataFrame) -> pd.DataFrame:
    """Differences with their intervals, of which none is called resolved, unresolved or significant."""
    tests = {name: math.nan for name in TEST_COLUMNS if name in compared}
    verdict = {"resolved": WITHHELD} if "resolved" in compared else {}
    return compared.assign(**tests, **verdict)


def _explaining(task: str, leaks: Leaks) -> list[str]:
    """Acknowledged features that may make this task easy: found to tell it, or found to leak nothing."""
    told = {leak.feature for leak in leaks.found if leak.task == task}
    found = {leak.feature for leak in leaks.found}
    return [name for name in leaks.leak_ok if name in told or name not in found]


def _aucs(records: list[Record], task: str) -> list[tuple[float, str]]:
    return [
        (record.metrics[task].auc or 0.0, record.contestant.label)
        for record in records
        if record.kind == "model" and record.status == "finished" and task in record.metrics
    ]
