"""The one gate before every word of verdict: whether scores on these data say anything of ranking.

A feature that knows the outcome makes every model right and all differences meaningless. Where the data
hold a leak that their owner did not acknowledge, or a model's AUC is above .99, a report shows its numbers
and says nothing of who is better or whether the paper agrees.
"""

from __future__ import annotations

import math

import pandas as pd

from reports.cells import fixed
from reports.comparisons import TEST_COLUMNS, WITHHELD
from reports.records import Leak, Leaks, Record

TOO_GOOD = 0.99
MOST_NAMED = 3


def known_leaks(asked: Leaks | None, records: list[Record]) -> Leaks:
    """What the last run of the suite found and acknowledged; without it, what the newest record says."""
    recorded = [record.dataset_info.leaks for record in records if record.dataset_info.leaks is not None]
    return asked or (recorded[-1] if recorded else Leaks())


def no_verdict(records: list[Record], tasks: list[str], leaks: Leaks) -> str:
    """Why the section gives no verdict and what mends it; empty where it gives one.

    Args:
        records: those of the section, reference rows too, which do not count.
    """
    unknown = [leak for leak in _bearing_on(tasks, leaks) if leak.feature not in leaks.leak_ok]
    reasons = [f"feature {leak.feature!r} {leak.says}" for leak in unknown[:MOST_NAMED]]
    if len(unknown) > MOST_NAMED:
        reasons.append(f"{len(unknown) - MOST_NAMED} more leaks, which data describe shows")
    unexplained = [task for task in _too_good(records) if not _explaining(task, leaks)]
    reasons += [_reached(records, task) for task in unexplained]
    if not reasons:
        return ""
    names = ", ".join(dict.fromkeys(leak.feature for leak in unknown))
    if not unknown:
        mend = (
            "look for features that are known only after the outcome, remove them, or acknowledge them in "
            "the schema with leak_ok: [their names]"
        )
    else:
        mend = f"remove what leaks, or acknowledge it in the schema with leak_ok: [{names}]"
    return f"No verdict: {'; '.join(reasons)}; {mend}."


def acknowledged(records: list[Record], tasks: list[str], leaks: Leaks) -> list[str]:
    """A sentence for each leak, and each AUC above .99, that the data's owner acknowledged."""
    said = [
        f"Acknowledged with leak_ok: feature {leak.feature!r} {leak.says}."
        for leak in _bearing_on(tasks, leaks)
        if leak.feature in leaks.leak_ok
    ]
    for task in _too_good(records):
        if names := _explaining(task, leaks):
            said.append(f"Acknowledged with leak_ok: [{', '.join(names)}]: {_reached(records, task)}.")
    return said


def withheld(compared: pd.DataFrame) -> pd.DataFrame:
    """Differences with their intervals, of which none is called resolved, unresolved or significant."""
    known = {name: math.nan for name in TEST_COLUMNS if name in compared}
    return compared.assign(resolved=WITHHELD, **known) if "resolved" in compared else compared


def _bearing_on(tasks: list[str], leaks: Leaks) -> list[Leak]:
    return [leak for leak in leaks.found if leak.task is None or leak.task in tasks]


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


def _too_good(records: list[Record]) -> list[str]:
    tasks = dict.fromkeys(task for record in records for task in record.metrics)
    return [task for task in tasks if max(_aucs(records, task), default=(0.0, ""))[0] > TOO_GOOD]


def _reached(records: list[Record], task: str) -> str:
    auc, name = max(_aucs(records, task))
    return f"{name} reaches AUC {fixed(auc, 4)} on {task!r}, as it would if a feature knew the outcome"
