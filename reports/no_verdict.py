"""Sentences that say why a report gives no verdict, and which leaks were acknowledged.

The rule is in ``harness/evaluation/verdict.py``.
"""

from __future__ import annotations

from harness.evaluation.verdict import Doubts, TooGood
from reports.cells import fixed

MOST_NAMED = 3


def no_verdict(doubts: Doubts) -> str:
    """Why the section gives no verdict, and what to do about it; empty where it gives one."""
    if not doubts.withhold:
        return ""
    reasons = [f"feature {leak.feature!r} {leak.says}" for leak in doubts.leaks[:MOST_NAMED]]
    if len(doubts.leaks) > MOST_NAMED:
        reasons.append(f"{len(doubts.leaks) - MOST_NAMED} more leaks, which data describe shows")
    reasons += [_reached(found) for found in doubts.unexplained]
    names = ", ".join(dict.fromkeys(leak.feature for leak in doubts.leaks))
    if doubts.leaks:
        mend = f"remove what leaks, or acknowledge it in the schema with leak_ok: [{names}]"
    else:
        mend = (
            "look for features that are known only after the outcome, remove them, or acknowledge them in "
            "the schema with leak_ok: [their names]"
        )
    return f"No verdict: {'; '.join(reasons)}; {mend}."


def acknowledged(doubts: Doubts) -> list[str]:
    """A sentence for each leak, and each AUC above .99, that the data's owner acknowledged."""
    sentences = [
        f"Acknowledged with leak_ok: feature {leak.feature!r} {leak.says}." for leak in doubts.acknowledged
    ]
    return sentences + [
        f"Acknowledged with leak_ok: [{', '.join(found.explained_by)}]: {_reached(found)}."
        for found in doubts.too_good
        if found.explained_by
    ]


def _reached(found: TooGood) -> str:
    return (
        f"{found.model} reaches AUC {fixed(found.auc, 4)} on {found.task!r}, "
        "as it would if a feature knew the outcome"
    )
