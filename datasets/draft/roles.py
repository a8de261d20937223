"""Finds candidates for user, time, labels and split, with score and reason."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import polars as pl

from datasets.draft import names
from datasets.draft.profile import Column

SAME_IN_A_GROUP = 0.95
FEWEST_GROUPS = 5
MOST_LABELS = 4
TRAIN = ("train", "training", "tr")
VALID = ("valid", "validation", "val", "dev", "eval")
TEST = ("test", "testing", "te", "holdout")
EXPOSED = ("event", "request", "log", "show", "shown", "exposure", "impression", "server", "action", "visit")


@dataclass(frozen=True)
class Candidate:
    """A column that may play a role; the higher the score, the likelier."""

    column: str
    score: float
    reason: str


@dataclass(frozen=True)
class Label:
    """A label: a column, or an expression over columns."""

    name: str
    reason: str
    column: str | None = None
    expression: str | None = None


@dataclass(frozen=True)
class Belongings:
    """Columns that are the same in all rows of a user, and in all rows of an item."""

    item: str | None
    to_user: frozenset[str]
    to_item: frozenset[str]


def _ranked(candidates: list[Candidate]) -> list[Candidate]:
    return sorted(candidates, key=lambda candidate: -candidate.score)


def users(columns: Mapping[str, Column]) -> list[Candidate]:
    """Columns that identify the user: by name, without missing values, and with several rows per user."""
    found = []
    for column in columns.values():
        known = names.words(column.name)
        if column.form not in ("integer", "text") or column.is_url or not names.has(column.name, names.USER):
            continue
        others = names.stems(column.name) - set(names.USER) - set(names.ID)
        if not names.has(column.name, names.ID) and len(known) > 1:
            continue  # a user's age is no user
        score = 10.0 - 3 * len(others)
        reason = f"named so; {column.distinct:,} of them in {column.rows:,} rows"
        if column.missing:
            score, reason = score - 20, f"named so, but {column.missing:,} rows have none"
        elif column.distinct > 0.8 * column.rows or column.distinct < 2:
            score -= 5
        if len(known) == 1:
            score -= 0.5  # user_id before user, which may be a name
        found.append(Candidate(column.name, score, reason))
    return [candidate for candidate in _ranked(found) if candidate.score > 0]


def likely_ids(columns: Mapping[str, Column]) -> list[str]:
    """Columns of repeated ids, to suggest where no user is found."""
    return [
        column.name
        for column in columns.values()
        if column.form in ("integer", "text")
        and not column.missing
        and 20 < column.distinct < 0.8 * column.rows
        and not names.has(column.name, names.COUNT)
    ][:6]


def times(columns: Mapping[str, Column]) -> list[Candidate]:
    """Columns that hold the time of a row."""
    found = []
    for column in columns.values():
        name = column.name
        is_named = names.has(name, names.MOMENT)
        if column.form == "time":
            is_day = column.time_type == pl.Date()
            score, kind = (2.0 if is_day else 4.0), "dates" if is_day else "dates and times"
        elif column.unit is not None and column.form in ("integer", "number") and is_named:
            score, kind = 3.5, f"numbers that are {column.unit} since 1970"
        elif column.form in ("integer", "number") and names.words(name)[-1:] in (
            ["timestamp"],
            ["time"],
            ["ts"],
        ):
            score, kind = 1.0, "numbers of an unknown unit"
        else:
            continue
        others = names.stems(name) - set(names.MOMENT)
        score += 3.0 * is_named + 1.0 * bool(others & set(EXPOSED)) - 0.5 * len(others - set(EXPOSED))
        if names.has(name, names.OTHER_MOMENT):
            score, kind = score - 4, f"{kind}, of another thing by its name"
        if names.has(name, names.AFTERWARDS) or names.has(name, names.OUTCOME):
            score, kind = score - 4, f"{kind}, of an outcome by its name"
        if column.distinct < 3:
            score -= 3
        if column.missing:
            score, kind = score - 20, f"{kind}, but {column.missing:,} rows have none"
        found.append(Candidate(name, score, kind))
    return [candidate for candidate in _ranked(found) if candidate.score > 0]


def split_column(columns: Mapping[str, Column]) -> tuple[str, dict[str, str]] | None:
    """A column that holds the split of a row, and its values for train, valid and test."""
    for column in columns.values():
        if column.form != "text" or column.missing or not names.has(column.name, names.SPLIT):
            continue
        values = column.sample.drop_nulls().unique().to_list()
        meant = {
            split: [value for value in values if value.lower() in known]
            for split, known in (("train", TRAIN), ("valid", VALID), ("test", TEST))
        }
        if len(values) == 3 and all(len(found) == 1 for found in meant.values()):
            return column.name, {split: found[0] for split, found in meant.items()}
    return None


def belongings(columns: Mapping[str, Column], sample: pl.DataFrame, user: str) -> Belongings:
    """The columns that describe the user or the item: constant in all rows of one user, or of one item."""
    items = [
        column
        for column in columns.values()
        if column.form in ("integer", "text")
        and names.has(column.name, names.ITEM)
        and not names.stems(column.name) - set(names.ITEM) - set(names.ID)
        and column.distinct > 20
    ]
    item = max(items, key=lambda column: column.distinct).name if items else None
    to_user = _same_within(columns, sample, user)
    to_item = _same_within(columns, sample, item) if item else set()
    return Belongings(item, frozenset(to_user), frozenset(to_item - to_user))


def _same_within(columns: Mapping[str, Column], sample: pl.DataFrame, key: str) -> set[str]:
    others = [
        c for c in columns.values() if c.name != key and c.distinct > 1 and c.form not in ("list", "vector")
    ]
    counts = [pl.col(column.name).drop_nulls().n_unique().alias(column.name) for column in others]
    groups = sample.group_by(pl.col(key).alias("@key")).agg(pl.len().alias("@rows"), *counts)
    groups = groups.filter(pl.col("@rows") > 1)
    if groups.height < FEWEST_GROUPS:
        return set()
    found = set()
    for column in others:
        is_same = float((groups[column.name] <= 1).sum()) / groups.height
        most = _share_of_most_frequent(sample[column.name])
        # A flag that is nearly always 0 is the same within most groups without belonging to them.
        by_chance = (most ** groups["@rows"] + (1 - most) ** groups["@rows"]).sum() / groups.height
        if is_same > SAME_IN_A_GROUP and by_chance < 1 - 4 * (1 - SAME_IN_A_GROUP):
            found.add(column.name)
    return found


def _share_of_most_frequent(values: pl.Series) -> float:
    counts = values.drop_nulls().value_counts(sort=True)
    return counts["count"][0] / counts["count"].sum() if counts.height else 1.0


def outcomes(columns: Mapping[str, Column]) -> dict[str, str]:
    """Outcomes, by their names and values, with the reason; they cannot be features."""
    found = {}
    for column in columns.values():
        name = column.name
        is_past = names.has(name, names.PAST) or column.form in ("list", "vector", "text")
        if is_past or column.form == "time":
            continue
        if names.has(name, names.OUTCOME) and not column.is_binary:
            found[name] = "looks like what came of the row"
        elif names.stems(name) & set(names.RATING) and len(names.words(name)) == 1 and column.distinct <= 11:
            found[name] = "looks like the user's verdict"
    return found


def labels(columns: Mapping[str, Column], belonging: Belongings) -> tuple[list[Label], list[Label]]:
    """Labels to train on, and further columns and expressions that could be labels."""
    chosen = []
    for column in columns.values():
        if not column.is_binary:
            continue
        owner = (
            "user" if column.name in belonging.to_user else "item" if column.name in belonging.to_item else ""
        )
        is_named = names.has(column.name, names.LABEL) and not names.has(column.name, names.PAST)
        share = float(column.sample.cast(pl.Float64).mean() or 0)  # type: ignore[arg-type]
        if is_named and not owner:  # what is the same in all rows of a user is known before
            chosen.append(Label(column.name, f"0 or 1, {share:.1%} are 1", column=column.name))
    computed = _computed(columns)
    if not chosen:
        return computed[:1], computed[1:]
    return chosen[:MOST_LABELS], chosen[MOST_LABELS:] + computed


def _computed(columns: Mapping[str, Column]) -> list[Label]:
    """Expressions over outcomes: watched to the end, rated well."""
    found = []
    came = outcomes(columns)
    for name in came:
        column = columns[name]
        if names.stems(name) & set(names.RATING):
            bound = column.high * 0.8 if column.high is not None else 4
            found.append(Label("like", "a good rating", expression=f"{_written(name)} >= {bound:g}"))
            continue
        for other in columns.values():
            is_length = names.has(other.name, names.LENGTH) and other.name not in came
            if is_length and other.form in ("integer", "number") and _alike(column, other):
                text = f"{_written(name)} >= {_written(other.name)}"
                found.append(Label("finish", "to the end", expression=text))
                break
    return found


def _alike(one: Column, other: Column) -> bool:
    """Whether two amounts seem to be in the same unit, by their size."""
    medians = [float(column.sample.drop_nulls().median() or 0) for column in (one, other)]  # type: ignore[arg-type]
    return min(medians) > 0 and 0.02 < medians[0] / medians[1] < 50


def _written(column: str) -> str:
    return column if column.isidentifier() and column.isascii() else f'col("{column}")'
