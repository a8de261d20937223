"""Decides what kind of feature each column is, or why it is none."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import polars as pl

from datasets.draft import names
from datasets.draft.profile import Column, typed_values
from datasets.draft.roles import Belongings
from datasets.raw.text import WORDS_FOR_MISSING, category, cell, inner

GROUPS = ("user", "item", "history", "cross", "context")
FEW, FREE_TEXT = 12, 60  # values of an integer that is a code; characters of a text that is not a category
MOST_LISTED = 100
SKEWED = 5  # a number whose largest is this many times its mean is a count or an amount


@dataclass(frozen=True)
class Draft:
    """One feature of the draft; ``reason`` goes into its comment."""

    column: Column
    kind: str
    group: str
    embedding_dim: int
    reason: str
    normalization: str = "standard"
    max_length: int | None = None


def features(
    columns: Mapping[str, Column], belonging: Belongings, user: str, taken: Mapping[str, str]
) -> tuple[list[Draft], dict[str, str]]:
    """The features in the order of their groups, and the reason for each column that is none.

    ``taken`` are columns that have another role, with that role.
    """
    drafts, left_out = [], dict(taken)
    for column in columns.values():
        if column.name in taken:
            continue
        why = _why_none(column, user)
        if why:
            left_out[column.name] = why
        else:
            drafts.append(_feature(column, _group(column, belonging, user)))
    return sorted(drafts, key=lambda draft: GROUPS.index(draft.group)), left_out


def _why_none(column: Column, user: str) -> str | None:
    if column.form == "nothing":
        return "is empty"
    if column.form in ("list", "vector"):
        return None
    if column.distinct <= 1:
        return "holds one value in all rows"
    if column.form == "time" or (column.unit is not None and names.has(column.name, names.MOMENT)):
        return "is a moment, and later ones are never seen in training; give an age or an hour instead"
    if column.is_url:
        return "holds addresses"
    is_id = column.form == "text" or (column.form == "integer" and _is_named_id(column.name))
    if is_id and column.name != user and column.distinct > 0.8 * column.known and column.known > 50:
        return f"differs in nearly every row ({column.distinct:,} values)"
    if names.has(column.name, names.ROW) and is_id and column.distinct > 0.5 * column.known:
        return f"numbers the rows ({column.distinct:,} values)"
    if column.form == "text" and column.characters > FREE_TEXT:
        return "is free text; give its topics, or a vector that a language model makes of it"
    return None


def _is_named_id(name: str) -> bool:
    return names.has(name, names.ID)


def _feature(column: Column, group: str) -> Draft:
    if column.form == "vector":
        length = int(column.high or 0)
        return Draft(
            column, "vector", group, min(32, max(8, length // 16 * 8)), f"{length} numbers in every list"
        )
    if column.form == "list":
        lengths = column.sample.list.len().drop_nulls()
        most = int(lengths.quantile(0.95, "higher") or 1)
        is_sequence = group == "history"
        order = "in the order of time, the latest last" if is_sequence else "in no order"
        reason = f"lists of up to {column.high:,.0f}, {order} by its name"
        kind = "sequence" if is_sequence else "multi_hot"
        return Draft(column, kind, group, 16, reason, max_length=min(MOST_LISTED, _rounded(most)))
    if column.form in ("text", "boolean") or column.is_binary or _is_code(column):
        return Draft(column, "categorical", group, _width(column.distinct), f"{column.distinct:,} categories")
    reason = f"numbers from {column.low:g} to {column.high:g}"
    return Draft(
        column, "numeric", group, 8, reason, normalization="log1p" if _is_skewed(column) else "standard"
    )


def _is_code(column: Column) -> bool:
    """Whether integers are codes rather than amounts."""
    if column.form != "integer":
        return False
    if _is_named_id(column.name):
        return True
    if names.has(column.name, names.COUNT):
        return column.distinct <= 2
    is_entity = names.has(column.name, names.USER + names.ITEM + names.ITEM_PROPERTY)
    is_context = names.has(column.name, names.CONTEXT) and column.distinct <= 1000
    return column.distinct <= FEW or is_entity or is_context


def _is_skewed(column: Column) -> bool:
    values = column.sample.drop_nulls()
    mean, low = values.mean(), column.low
    if low is None or low < 0 or not isinstance(mean, float) or mean <= 0:
        return False
    median = values.median()
    assert isinstance(median, float), "there are values"
    return bool((column.high or 0) > SKEWED * mean or mean > 2 * max(median, 1e-9))


def _width(categories: int) -> int:
    return 4 if categories <= 4 else 8 if categories <= 100 else 16


def _rounded(length: int) -> int:
    """Rounded up to the next of 1, 2, 3, 4, 5, 10, 15, 20 ..."""
    return length if length <= 5 else -(-length // 5) * 5


def _group(column: Column, belonging: Belongings, user: str) -> str:
    """The group by the column's name, otherwise by whether it is constant for each user or each item."""
    name = column.name
    if name == user:
        return "user"
    if name == belonging.item:
        return "item"
    is_user, is_item = names.has(name, names.USER), names.has(name, names.ITEM + names.ITEM_PROPERTY)
    is_past = names.has(name, names.HISTORY)
    if column.form == "list" and (is_past or names.is_verb_first(name)):
        return "history"
    if is_user and is_item:
        return "cross"
    if is_user or name in belonging.to_user or (names.has(name, names.PERSON) and not is_item):
        return "user"
    is_count = column.form in ("integer", "number") and not _is_code(column)
    if is_count and names.has(name, names.ITEM_PROPERTY) and names.has(name, names.LABEL):
        return "item" if name in belonging.to_item else "cross"
    if name in belonging.to_item or (is_item and not is_past):
        return "item"
    if names.has(name, names.PAST):
        return "cross"
    return "context"


def as_category(column: Column) -> pl.Expr:
    """A column's categories as text, written as preparation compares them; lists element by element."""
    value = typed_values(column)
    if column.form == "list":
        element = inner(column.dtype) if column.dtype != pl.String else pl.String()
        return value.list.eval(category(pl.element(), element, pl.String()))
    if column.dtype == pl.String:
        return category(cell(pl.col(column.name), WORDS_FOR_MISSING), pl.String(), pl.String())
    return category(pl.col(column.name), column.dtype, pl.String())
