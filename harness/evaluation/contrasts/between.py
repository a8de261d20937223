"""What a difference is in one kind of data less what it is in another, world by world.

World w of two kinds of the built-in log has the same users, items and main effects, and its runs start from
the same weights. What these do to a difference in both kinds alike cancels in a pair of worlds.
"""

from __future__ import annotations

import pandas as pd

from harness.evaluation.contrasts.along_rows import FAMILY, PAIR, RUN, judged


def contrasts_between(one: pd.DataFrame, other: pd.DataFrame) -> pd.DataFrame:
    """The mean over worlds of each pair's difference in ``one`` less that in ``other``.

    A family has all pairs. Worlds and seeds that only one of the two has do not count.

    Args:
        one, other: :func:`harness.evaluation.contrasts.along_rows.paired_differences` of two results, at one
            number of rows each.

    Columns: task, metric, the pair, repeats, and those of
    :func:`harness.evaluation.statistics.families.judge`.
    """
    both = one.merge(other, on=[*FAMILY, *PAIR, *RUN], suffixes=("", "_other"))
    differences = both.assign(
        diff=both["diff"] - both["diff_other"], failed=both["failed"].combine(both["failed_other"], max)
    )
    return judged(differences, PAIR)
