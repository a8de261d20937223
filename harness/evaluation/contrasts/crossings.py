"""Where two learning curves cross: the numbers of rows between which a mean difference changes its sign."""

from __future__ import annotations

import math
from collections.abc import Iterable
from itertools import pairwise

import pandas as pd

from harness.evaluation.contrasts.along_rows import FAMILY, PAIR

ENDS = ("few", "most")
COLUMNS = [
    *(*FAMILY, *PAIR, "repeats"),
    *(f"{name}{end}" for end in ENDS for name in ("", "diff_", "resolved_")),
    *("before", "after", "crossing", "resolved_before", "resolved_after", "resolved"),
]


def crossings(contrasts: pd.DataFrame) -> pd.DataFrame:
    """One row a pair and change of sign; a pair whose difference keeps its sign has one row all the same.

    A change of sign lies between two measured points, ``before`` and ``after``. ``crossing`` is where the
    straight line between them, over the logarithm of rows, is zero: between measured points nothing is
    known. A mean of exactly zero has no sign, and is passed over. ``resolved`` is "yes" where the nearest
    resolved differences on both sides have the signs of these two points: that the curves cross is then no
    chance, though where they do may be.

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
            _change(signed[: place + 1], signed[place + 1 :])
            for place, (before, after) in enumerate(pairwise(signed))
            if before["diff"] * after["diff"] < 0
        ]
        rows += [shared | change for change in changes or [{}]]
    return pd.DataFrame(rows, columns=COLUMNS)


def _change(until: list[dict], since: list[dict]) -> dict:
    """The change of sign between the last of the points ``until`` it and the first ``since``."""
    before, after = until[-1], since[0]
    share = before["diff"] / (before["diff"] - after["diff"])
    ends = [math.log(point["samples"]) for point in (before, after)]
    is_resolved = _keeps_sign(before, reversed(until)) and _keeps_sign(after, since)
    return {
        "before": before["samples"],
        "after": after["samples"],
        "crossing": math.exp(ends[0] + share * (ends[1] - ends[0])),
        "resolved_before": before["resolved"],
        "resolved_after": after["resolved"],
        "resolved": "yes" if is_resolved else "no",
    }


def _keeps_sign(point: dict, outwards: Iterable[dict]) -> bool:
    """Whether the first resolved point on this side has the point's sign."""
    nearest = next((other for other in outwards if other["resolved"] == "yes"), None)
    return nearest is not None and nearest["diff"] * point["diff"] > 0
