"""Differences between pairs of models at each point of a learning curve, and how rows and size change them.

A pair's runs are compared where they share world, seed and the number of rows trained on. Intervals are
Student's t over worlds or, in one world, over seeds: users are not drawn anew, since predictions on the way
are not kept. A change, from the fewest rows to the most or from the least size to the largest, is taken in
each world (or seed) by itself, so that what a world does to both ends cancels.

Every frame has its verdicts after Holm's correction over a family: all differences of its task and metric.
``resolved`` is "yes", "no", "few worlds", "few seeds" or "failed seeds", as in
``harness/evaluation/differences.py``.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Sequence

import pandas as pd

from harness.evaluation.differences import MIN_RUNS, Pair
from harness.evaluation.learning_curves import curve_points
from harness.evaluation.statistics.families import JUDGED, judge
from harness.evaluation.statistics.intervals import Spread, spread_of_mean
from harness.records.contestant import Contestant, size_of_name
from harness.records.record import Record

FAMILY = ["task", "metric"]
PAIR = ["architecture", "variant", "base", "base_variant", "size"]
RUN = ["world", "seed"]
ABOUT = ["failed", "several"]  # how many runs failed; whether intervals are over worlds
ENDS = ["diff_least", "diff_most"]
_LINE = ["architecture", "line", "base", "base_line"]


def same_size_pairs(contestants: Iterable[Contestant], base: Contestant) -> list[Pair]:
    """Each model with the base of its own size; none without such a base, and not the base itself."""
    known = list(contestants)
    bases = {who.size: who for who in known if is_of(who, base)}
    return [(who, bases[who.size]) for who in known if not is_of(who, base) and who.size in bases]


def is_of(who: Contestant, line: Contestant) -> bool:
    """Whether a row is this one at any size."""
    named = (line.architecture, line.variant_without_size)
    return (who.architecture, who.variant_without_size) == named


def paired_differences(records: Sequence[Record], pairs: Sequence[Pair]) -> pd.DataFrame:
    """One row a pair, task, metric, number of rows and pair of runs, the pairs in their order.

    Columns: task, metric, `PAIR`, line and base_line (variants without their sizes), samples, world, seed,
    diff, and `ABOUT`.
    """
    points = curve_points(records, "tested")
    failed = Counter(record.contestant for record in records if record.status == "failed")
    several = len({record.world for record in records if record.kind == "model"}) > 1
    keys = [*FAMILY, "samples", *RUN]
    found = [pd.DataFrame(columns=[*keys, *PAIR, "line", "base_line", "diff", *ABOUT])]
    for who, other in pairs:
        both = _points_of(points, who).merge(_points_of(points, other), on=keys, suffixes=("", "_other"))
        found.append(
            both[keys].assign(
                architecture=who.architecture,
                variant=who.variant,
                base=other.architecture,
                base_variant=other.variant,
                size=who.size,
                line=who.variant_without_size,
                base_line=other.variant_without_size,
                diff=both["value"] - both["value_other"],
                failed=failed[who] + failed[other],
                several=several,
            )
        )
    whole = [each for each in found[1:] if len(each)] or found[:1]
    return pd.concat(whole, ignore_index=True)


def _points_of(points: pd.DataFrame, who: Contestant) -> pd.DataFrame:
    return points[(points["architecture"] == who.architecture) & (points["variant"] == who.variant)]


def contrasts_along_rows(paired: pd.DataFrame) -> pd.DataFrame:
    """The mean difference of each pair after each number of rows; a family has all pairs and points.

    Args:
        paired: of `paired_differences`.

    Columns: task, metric, `PAIR`, samples, repeats (worlds or seeds), and those of
    :func:`harness.evaluation.statistics.families.judge`.
    """
    return judged(paired, [*PAIR, "samples"])


def change_with_rows(paired: pd.DataFrame) -> pd.DataFrame:
    """How much each pair's difference at the most rows is above that at the fewest; a family has all pairs.

    Columns: as of `contrasts_along_rows`, with ``few`` and ``most`` rows in place of samples, and the mean
    differences at both as ``diff_least`` and ``diff_most``.
    """
    keys = [*FAMILY, *PAIR]
    ends = _ends(paired, keys, "samples")
    return judged(ends.rename(columns={"least": "few"}), [*PAIR, "few", "most"], ENDS)


def change_with_size(paired: pd.DataFrame) -> pd.DataFrame:
    """How much each pair's difference at its largest size is above that at its least, at the most rows.

    Columns: as of `contrasts_along_rows`, with architecture, line, base, base_line, and the names of the
    sizes as ``smallest`` and ``largest``; the mean differences at both as ``diff_least`` and ``diff_most``.
    """
    sized = at_most_rows(paired[paired["size"] != ""])
    sized = sized.assign(target=[size_of_name(size) for size in sized["size"]])
    ends = _ends(sized, [*FAMILY, *_LINE], "target", kept=["size"])
    names = {"size_least": "smallest", "size_most": "largest"}
    return judged(ends.rename(columns=names), [*_LINE, *names.values()], ENDS)


def at_most_rows(paired: pd.DataFrame) -> pd.DataFrame:
    """The differences after the most rows that each pair was measured at."""
    most = paired.groupby([*FAMILY, *PAIR], sort=False)["samples"].transform("max")
    return paired[paired["samples"] == most]


def _ends(paired: pd.DataFrame, keys: list[str], along: str, kept: Sequence[str] = ()) -> pd.DataFrame:
    """Each run's difference at the largest value of ``along`` less that at the least one.

    The values are in ``least`` and ``most``; of the columns ``kept`` those of both ends, as ``size_least``.
    """
    groups = paired.groupby(keys, sort=False)[along]
    marked = paired.assign(least=groups.transform("min"), most=groups.transform("max"))
    marked = marked[marked["least"] < marked["most"]]
    first = marked[marked[along] == marked["least"]]
    last = marked[marked[along] == marked["most"]]
    both = first.merge(last, on=[*keys, *RUN, "least", "most"], suffixes=("_least", "_most"))
    columns = [*keys, *RUN, "least", "most", *(f"{name}_{end}" for name in kept for end in ("least", "most"))]
    return both[[*columns, *ENDS]].assign(
        diff=both["diff_most"] - both["diff_least"],
        failed=both["failed_least"].combine(both["failed_most"], max),
        several=both["several_most"],
    )


def judged(differences: pd.DataFrame, keys: list[str], also: Sequence[str] = ()) -> pd.DataFrame:
    """The mean of each group of runs, with its interval and verdict; a family is a task and metric.

    Args:
        differences: one row a group (of ``keys`` within a task and metric), world and seed, with diff and
            `ABOUT`.
        also: further columns, of which the means over worlds or seeds are taken.
    """
    rows: list[dict] = []
    for family, of_family in differences.groupby(FAMILY, sort=False):
        groups = [(key, runs) for key, runs in of_family.groupby(keys, sort=False)]
        verdicts = judge(
            [mean_over_repeats(runs) for _, runs in groups], [why_unknown(runs) for _, runs in groups]
        )
        for (key, runs), verdict in zip(groups, verdicts, strict=True):
            named = dict(zip([*FAMILY, *keys], [*family, *key], strict=True))  # type: ignore[misc]
            others = {name: mean_over_repeats(runs, name).mean for name in also}
            rows.append(named | {"repeats": repeats(runs)} | others | verdict)
    return pd.DataFrame(rows, columns=[*FAMILY, *keys, "repeats", *also, *JUDGED])


def mean_over_repeats(runs: pd.DataFrame, column: str = "diff") -> Spread:
    """The mean over worlds or, in one world, over seeds."""
    return spread_of_mean(runs[column].tolist(), runs["world"].tolist())


def repeats(runs: pd.DataFrame) -> int:
    """How many worlds, or in one world seeds, a mean is over."""
    return int(runs["world" if runs["several"].any() else "seed"].nunique())


def why_unknown(runs: pd.DataFrame) -> str:
    """Why no verdict can be given on the mean of some runs, or an empty text."""
    if runs["failed"].any():
        return "failed seeds"
    return "" if repeats(runs) >= MIN_RUNS else "few worlds" if runs["several"].any() else "few seeds"
