"""Chooses the user, time, labels and split: as the command line states, otherwise by guessing."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import polars as pl

from datasets.draft import names
from datasets.draft.bounds import bounds, training_rows
from datasets.draft.leaks import label_of, label_values
from datasets.draft.profile import Column
from datasets.draft.roles import (
    Belongings,
    Candidate,
    Label,
    labels,
    likely_ids,
    outcomes,
    split_column,
    times,
    users,
)
from datasets.draft.table import DraftTable
from datasets.expressions.syntax import ExpressionError, columns_of
from files.errors import InputError


@dataclass(frozen=True)
class Wishes:
    """The roles that the command line states; those left empty are guessed."""

    user: str | None = None
    time: str | None = None
    labels: tuple[str, ...] = ()


def _given(columns: Mapping[str, Column], name: str, flag: str) -> Column:
    if name not in columns:
        known = ", ".join(list(columns)[:20]) + (", ..." if len(columns) > 20 else "")
        raise InputError(f"{flag} {name}: the files have no such column; they have {known}")
    return columns[name]


def choose_user(columns: Mapping[str, Column], wishes: Wishes) -> tuple[str, list[Candidate]]:
    if wishes.user is not None:
        column = _given(columns, wishes.user, "--user")
        if column.missing:
            raise InputError(
                f"--user {column.name}: {column.missing:,} of {column.rows:,} rows have none; drop these "
                "rows or choose another column"
            )
        return column.name, [Candidate(column.name, 1, "as --user says")]
    found = users(columns)
    if not found:
        perhaps = likely_ids(columns)
        hint = f" (perhaps {', '.join(perhaps)})" if perhaps else ""
        raise InputError(f"data init: no column is named like a user's id; name it with --user{hint}")
    return found[0].column, found


def choose_labels(
    columns: Mapping[str, Column], belonging: Belongings, sample: pl.DataFrame, wishes: Wishes
) -> tuple[list[Label], list[Label]]:
    guessed, others = labels(columns, belonging)
    if not wishes.labels:
        if not guessed:
            raise InputError(
                "data init: no column of 0 and 1 is named like a label; name one with --label COLUMN, "
                "or compute it with --label 'NAME: EXPRESSION', such as 'like: rating >= 4'"
            )
        return guessed, others
    wished = [_given_label(columns, text, sample) for text in wishes.labels]
    used = {label.name for label in wished}
    return wished, [label for label in (*guessed, *others) if label.name not in used]


def _given_label(columns: Mapping[str, Column], text: str, sample: pl.DataFrame) -> Label:
    name, colon, expression = text.partition(":")
    if text not in columns and colon:
        try:
            for operand in columns_of(expression):
                _given(columns, operand, f"--label {name}: column")
        except ExpressionError as error:
            raise InputError(f"--label {name}: {error}") from None
        label = Label(name.strip(), "as --label says", expression=expression.strip())
        label_values(label, columns, sample)  # refuses types that do not fit
        return label
    column = _given(columns, text, "--label")
    if not column.is_binary:
        raise InputError(
            f"--label {text}: the column holds other values than 0 and 1; compute a label from it, such as "
            f"--label '{text}_high: {text} >= 4'"
        )
    return Label(column.name, "as --label says", column=column.name)


@dataclass(frozen=True)
class SplitDraft:
    """The schema's fields for time and split, and the condition for training rows."""

    fields: dict[str, object]
    reason: str
    train: pl.Expr | None = None
    time: str | None = None
    candidates: tuple[Candidate, ...] = ()
    column: str | None = None


def choose_split(table: DraftTable, columns: Mapping[str, Column], wishes: Wishes) -> SplitDraft:
    time, candidates = _time(columns, wishes)
    fields: dict[str, object] = {"time": time} if time else {}
    if time and columns[time].unit:
        fields["time_unit"] = columns[time].unit
    if given := split_column(columns):
        name, values = given
        fields["split"] = {"by": "column", "column": name, **values}
        train = pl.col(name).cast(pl.String).str.strip_chars() == values["train"]
        return SplitDraft(fields, "the files say it themselves", train, time, tuple(candidates), name)
    if time is None:
        raise InputError(
            "data init: no column holds the time or the split of a row; name the "
            "time with --time, or add a column split of train, valid and test"
        )
    found = bounds(table.frame, columns[time])
    if found is None:
        raise InputError(
            f"data init: column {time!r} has too few different moments for a split by time; name another "
            "with --time, or add a column split of train, valid and test"
        )
    fields["split"] = {"by": "time", "valid_from": found.valid_from, "test_from": found.test_from}
    shares = " / ".join(f"{100 * share:.1f}" for share in found.shares)
    train = training_rows(columns[time], found)
    return SplitDraft(fields, f"{shares} % of the rows", train, time, tuple(candidates))


def _time(columns: Mapping[str, Column], wishes: Wishes) -> tuple[str | None, list[Candidate]]:
    if wishes.time is not None:
        column = _given(columns, wishes.time, "--time")
        if column.missing or column.form not in ("time", "integer", "number"):
            what = f"{column.missing:,} rows have none" if column.missing else f"it holds {column.dtype}"
            raise InputError(f"--time {column.name}: {what}; choose a column of dates, times or numbers")
        return column.name, [Candidate(column.name, 1, "as --time says")]
    found = times(columns)
    return (found[0].column if found else None), found


def trainable(
    table: DraftTable, columns: Mapping[str, Column], chosen: list[Label], split: SplitDraft
) -> list[Label]:
    """The labels of which both values occur in the training rows."""
    assert split.train is not None, "some rows train"
    counts = table.frame.filter(split.train).select(
        total
        for number, label in enumerate(chosen)
        for total in (
            (label_of(label, columns) == 1).sum().alias(f"{number} positive"),
            (label_of(label, columns) == 0).sum().alias(f"{number} negative"),
        )
    )
    found = counts.collect(engine="streaming").row(0, named=True)
    kept = [
        label
        for number, label in enumerate(chosen)
        if found[f"{number} positive"] and found[f"{number} negative"]
    ]
    if not kept:
        raise InputError(
            f"data init: the training rows have only one value of {chosen[0].name!r}, so there is nothing to "
            "learn; name another label with --label, or other times with --time"
        )
    return kept


def taken_columns(
    columns: Mapping[str, Column], chosen: list[Label], suggested: list[Label], split: SplitDraft
) -> dict[str, str]:
    """Columns that cannot be features because they have a role, with that role."""
    taken = dict(outcomes(columns))
    for label in suggested:
        if label.column:
            taken[label.column] = "may be a label"
    for label in chosen:
        if label.column:
            taken[label.column] = "is a label"
        elif label.expression:
            read = columns_of(label.expression)
            late = [name for name in read if not names.has(name, names.LENGTH)] or read
            taken |= dict.fromkeys(late, f"the label {label.name} is computed from it")
    if split.time:
        taken[split.time] = "is the time"
    if split.column:
        taken[split.column] = "is the split"
    return taken


def explained(chosen: str, candidates: list[Candidate] | tuple[Candidate, ...]) -> str:
    own = next((candidate.reason for candidate in candidates if candidate.column == chosen), "")
    others = [f"{other.column} ({other.reason})" for other in candidates if other.column != chosen]
    return f"{chosen} ({own})" + (f"; else {', '.join(others[:3])}" if others else "")
