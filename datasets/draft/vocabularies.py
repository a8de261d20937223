"""Counts categories over all rows, and finds columns that share them and categories too rare to learn."""

from __future__ import annotations

from collections.abc import Mapping

import polars as pl

from datasets.draft import names
from datasets.draft.kinds import Draft, as_category
from datasets.draft.table import Report

LOOKED_UP = ("categorical", "sequence", "multi_hot")
MOST_COUNTED = 20_000_000  # distinct values of one column that are counted exactly
ENOUGH = 200  # categories; with fewer, rare ones are not left out
RARE_SHARE = 0.02  # of all values, which may be lost to min_count
MIN_COUNTS = (10, 5, 3, 2)
COVERED = 0.5
MANY = 20  # categories; so many are not shared by chance
FEWEST = 5  # categories; sharing fewer proves nothing


def count_categories(frame: pl.LazyFrame, drafts: list[Draft], report: Report) -> dict[str, pl.DataFrame]:
    """Categories (value, count) of every sparse feature, with one streaming pass each."""
    found = {}
    looked_up = [draft for draft in drafts if draft.kind in LOOKED_UP]
    for number, draft in enumerate(looked_up):
        report(f"counting categories of {draft.column.name}", number / len(looked_up))
        if draft.column.distinct > MOST_COUNTED:
            continue
        values = frame.select(value=as_category(draft.column))
        if draft.column.form == "list":
            values = values.explode("value")
        counted = values.drop_nulls().group_by("value").agg(count=pl.len())
        found[draft.column.name] = counted.collect(engine="streaming")
    report("", 1.0)
    return found


def shared(drafts: list[Draft], counts: Mapping[str, pl.DataFrame]) -> dict[str, tuple[str, str]]:
    """For lists and ids with similar names: the column whose categories they hold, and the evidence.

    Small numbers occur among all ids, so values prove little by themselves: names must share a word,
    or a list's values cover a good part of the other's.
    """
    bases = [d for d in drafts if d.kind == "categorical" and d.column.name in counts]
    found: dict[str, tuple[str, str]] = {}
    for draft in sorted(drafts, key=lambda draft: draft.column.form != "list"):
        name = draft.column.name
        others = [base.column.name for base in bases if base.column.name not in (name, *found)]
        scored = [(_likeness(draft, other, counts), other) for other in others if name in counts]
        best, other = max(scored, default=(0.0, ""))
        if best > 0:
            inside = _inside(counts[name], counts[other])
            found[name] = other, f"{inside:.0%} of its categories are in {other}"
    owners = {owner for owner, _ in found.values()}
    return {name: where for name, where in found.items() if name not in owners}


def _likeness(draft: Draft, other: str, counts: Mapping[str, pl.DataFrame]) -> float:
    """The strength of the evidence that a column's categories are another's; 0 without any."""
    name = draft.column.name
    if min(counts[name].height, counts[other].height) < FEWEST:
        return 0.0
    likeness = _likeness_of_names(name, other)
    if draft.column.form != "list":
        are_ids = names.has(name, names.ID) and names.has(other, names.ID)
        if not (likeness == 1 and are_ids) or counts[name].height > counts[other].height:
            return 0.0
    inside = _inside(counts[name], counts[other])
    covered = inside * counts[name].height / counts[other].height
    is_evident = covered >= COVERED / 2 and counts[name].height >= MANY
    return inside + covered + 2 * likeness if inside >= COVERED and (likeness or is_evident) else 0.0


def _inside(one: pl.DataFrame, other: pl.DataFrame) -> float:
    """The share of one's categories that are among the other's."""
    return one.join(other, on="value", how="semi").height / max(1, one.height)


def _likeness_of_names(one: str, other: str) -> float:
    """The share of words in common, without words that only mean an id or a list of past events."""
    uninformative = set(names.ID) | set(names.HISTORY)
    first, second = (names.singular(name) - uninformative for name in (one, other))
    return len(first & second) / max(1, len(first | second))


def min_count(counts: list[pl.DataFrame]) -> tuple[int, str] | None:
    """The largest usual min_count that loses few values, and what it does; None where none is useful."""
    together = pl.concat(counts).group_by("value").agg(pl.col("count").sum())
    if together.height < ENOUGH:
        return None
    total = int(together["count"].sum())
    for least in MIN_COUNTS:
        rare = together.filter(pl.col("count") < least)
        share = int(rare["count"].sum()) / total
        if rare.height and share <= RARE_SHARE:
            return (
                least,
                f"{rare.height:,} of {together.height:,} categories are rarer, {share:.1%} of the values",
            )
    return None
