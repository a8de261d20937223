"""What a difference is in one kind of data less what it is in another, each kind of several worlds.

The worlds of two kinds are independent draws, and need not vary alike: Welch's t over the worlds' mean
differences.
"""

from __future__ import annotations

import pandas as pd

from harness.evaluation.contrasts.along_rows import FAMILY, PAIR, mean_over_repeats, repeats, why_unknown
from harness.evaluation.statistics.families import JUDGED, judge, welch


def contrasts_between(one: pd.DataFrame, other: pd.DataFrame) -> pd.DataFrame:
    """The mean difference of each pair in ``one`` less that in ``other``; a family has all pairs.

    Args:
        one, other: :func:`harness.evaluation.contrasts.along_rows.paired_differences` of two results, at one
            number of rows each.

    Columns: task, metric, the pair, repeats and other_repeats (worlds of either), and those of
    :func:`harness.evaluation.statistics.families.judge`.
    """
    rows: list[dict] = []
    for family, of_family in one.groupby(FAMILY, sort=False):
        found, means, unknown = [], [], []
        for key, runs in of_family.groupby(PAIR, sort=False):
            named = dict(zip([*FAMILY, *PAIR], [*family, *key], strict=True))  # type: ignore[misc]
            others = other[(other[list(named)] == pd.Series(named)).all(axis=1)]
            if len(others):
                found.append(named | {"repeats": repeats(runs), "other_repeats": repeats(others)})
                means.append(welch(mean_over_repeats(runs), mean_over_repeats(others)))
                unknown.append(why_unknown(runs) or why_unknown(others))
        rows += [row | verdict for row, verdict in zip(found, judge(means, unknown), strict=True)]
    return pd.DataFrame(rows, columns=[*FAMILY, *PAIR, "repeats", "other_repeats", *JUDGED])
