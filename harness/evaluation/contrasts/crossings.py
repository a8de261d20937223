"""Where two learning curves cross: the numbers of rows between which a mean difference changes its sign."""

from __future__ import annotations

import math
from itertools import pairwise

import pandas as pd

from harness.evaluation.contrasts.along_rows import FAMILY, PAIR

ENDS = ("few", "most")
COLUMNS = [
    *(*FAMILY, *PAIR, "repeats"),
    *(f"{name}{end}" for end in ENDS for name in ("", "diff_", "resolved_")),
    *("before", "after", "crossing", "resolved_before", "resolved_after", "both_resolved"),
]


def crossings(contrasts: pd.DataFrame) -> pd.DataFrame:
    """One row a pair and change of sign; a pair whose difference keeps its sign has one row all the same.

    A change of sign lies between two measured points, ``before`` and ``after``. ``crossing`` is where the
    straight line between them, over the logarithm of rows, is zero: between measured points nothing is
    known. A mean of exactly zero has no sign, and is passed over. ``both_resolved`` is "yes" where the
    differences at both points are resolved; where they are not, the sign itself may be chance.

    Args:
        contrasts: of :func:`harness.evaluation.contrasts.along_rows.contrasts_along_rows`.

    Columns: task, metric, the pair, repeats; few and most rows, each with its difference and verdict; then
    those of the change of sign, empty without one.
    """
    rows: list[dict] = []
    for key, curve in contrasts.groupby([*FAMILY, *PAIR], sort=False):
        points = curve.sort_values("samples").to_dict("records")
        shared = dict(zip([*FAMILY, *PAIR], key, strict=True)) | {"repeats": points[-1]["repeats"]}
        for end, point in zip(ENDS, (points[0], points[-1]), strict=True):
            shared |= {end: point["samples"], f"diff_{end}": point["diff"]}
            shared[f"resolved_{end}"] = point["resolved"]
        signed = [point for point in points if point["diff"]]
        changes = [
            _change(before, after) for before, after in pairwise(signed) if before["diff"] * after["diff"] < 0
        ]
        rows += [shared | change for change in changes or [{}]]
    return pd.DataFrame(rows, columns=COLUMNS)


def _change(before: dict, after: dict) -> dict:
    share = before["diff"] / (before["diff"] - after["diff"])
    ends = [math.log(point["samples"]) for point in (before, after)]
    verdicts = [point["resolved"] for point in (before, after)]
    return {
        "before": before["samples"],
        "after": after["samples"],
        "crossing": math.exp(ends[0] + share * (ends[1] - ends[0])),
        "resolved_before": verdicts[0],
        "resolved_after": verdicts[1],
        "both_resolved": "yes" if verdicts == ["yes", "yes"] else "no",
    }
