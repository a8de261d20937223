"""What only the whole of a table's text tells: which ids are integers, how lists and times are written.

One pass counts what cells look like, and what cannot be read as it was meant is refused with its place.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import polars as pl

from datasets.errors import InputError
from datasets.schema import Feature, Schema
from datasets.tables.blocks import LINE_COLUMN
from datasets.tables.columns import Use, uses
from datasets.tables.files import TableFile
from datasets.tables.parquet import FILE_COLUMN
from datasets.tables.times import time_facts
from datasets.text import (
    INTEGER,
    WORDS_FOR_MISSING,
    Notation,
    TextFacts,
    category,
    cell,
    elements,
    inner,
    is_no_number,
)

LEADING_ZERO = r"^-?0\d+$"
BRACKETED = r"(?s)^(\[.*\]|\(.*\)|\{.*\})$"
NUMBERS_ALONE = r"^[\[({][-+.\d\seE]*[\])}]$"


@dataclass(frozen=True)
class RawTable:
    """A table's files, its rows as they lie there, and their types."""

    schema: Schema
    files: list[TableFile]
    frame: pl.LazyFrame
    types: Mapping[str, pl.DataType]

    def cell(self, column: str) -> pl.Expr:
        """A text column's cleaned cells."""
        return cell(pl.col(column), self.schema.missing)

    def counts(self, conditions: Mapping[str, pl.Expr]) -> dict[str, int]:
        """How many rows meet each condition, in one pass."""
        if not conditions:
            return {}
        sums = [condition.sum().cast(pl.Int64).alias(name) for name, condition in conditions.items()]
        return self.frame.select(sums).collect(engine="streaming").row(0, named=True)

    def example(self, column: str, condition: pl.Expr) -> tuple[str, object]:
        """Where the first row that meets the condition stands, and what it holds."""
        row = (
            self.frame.filter(condition)
            .select(pl.col(column).alias("value"), FILE_COLUMN, LINE_COLUMN)
            .head(1)
            .collect(engine="streaming")
        )
        file = self.files[row[FILE_COLUMN][0]]
        unit = "row {} (counted from 0)" if file.format == "parquet" else "line {}"
        return f"{file.path}: {unit.format(row[LINE_COLUMN][0])}", row["value"][0]


def text_facts(table: RawTable) -> tuple[TextFacts, dict[str, int | float | str]]:
    """How the table's text is written, and notes for its owner.

    Raises InputError, with file and line, on a number that is none, a word that may stand for a missing
    value, a list that is not cut as its separator says, ids with leading zeros beside integers, and times
    that are written in several ways.
    """
    found = uses(table.schema)
    text = [use for use in found if table.types[use.column] == pl.String]
    _check_numbers(table, [use for use in text if use.role == "number"])
    _check_words(table, [use for use in text if use.role in ("category", "list", "text")])
    lists, notes = _lists(
        table, [use.feature for use in text if use.role in ("list", "vector") and use.feature]
    )
    _check_vectors(table, [use for use in found if use.role == "vector"], lists)
    time, offset = time_facts(table)
    integers = _integers(table, [use for use in found if use.vocabulary], lists)
    return TextFacts(frozenset(integers), lists, time, offset), notes


def _check_numbers(table: RawTable, numbers: list[Use]) -> None:
    bad = {use.column: is_no_number(table.cell(use.column)) for use in numbers}
    counts = table.counts(bad)
    for use in numbers:
        if counts[use.column]:
            place, value = table.example(use.column, bad[use.column])
            hint = (
                f", or say missing: [{value!r}] if it stands for a missing value"
                if value in WORDS_FOR_MISSING
                else ""
            )
            raise InputError(
                f"{place}: column {use.column!r} holds {value!r}, which is no number, but {use.what} needs "
                f"numbers; mend it or choose another column{hint}"
            )


def _check_vectors(table: RawTable, vectors: list[Use], lists: Mapping[str, Notation]) -> None:
    """Every element of a vector that is written as text is a number."""
    bad: dict[str, pl.Expr] = {}
    for use in vectors:
        dtype = table.types[use.column]
        assert use.feature is not None, "vectors are features"
        if dtype == pl.String:
            listed = elements(table.cell(use.column), lists[use.feature.name], use.feature.separator)
        elif isinstance(dtype, pl.List) and dtype.inner == pl.String:
            listed = pl.col(use.column).list.eval(cell(pl.element(), table.schema.missing))
        else:
            continue
        bad[use.column] = listed.list.eval(is_no_number(pl.element())).list.any().fill_null(False)
    counts = table.counts(bad)
    for use in vectors:
        if counts.get(use.column):
            place, value = table.example(use.column, bad[use.column])
            raise InputError(
                f"{place}: column {use.column!r} holds {str(value)[:100]!r}, which is no list of numbers, "
                f"but {use.what} needs them; mend it or choose another column"
            )


def _check_words(table: RawTable, categories: list[Use]) -> None:
    """A word such as NaN may be a category or a missing value; only the owner knows."""
    if table.schema.missing is not None:
        return
    words = {use.column: pl.col(use.column).str.strip_chars().is_in(WORDS_FOR_MISSING) for use in categories}
    counts = table.counts(words)
    for use in categories:
        if counts[use.column]:
            place, value = table.example(use.column, words[use.column])
            raise InputError(
                f"{place}: column {use.column!r} of {use.what} holds {value!r} ({counts[use.column]:,} such "
                f"rows); add missing: [{value!r}] to the schema if that stands for a missing value, or "
                "missing: [] if it is a category"
            )


def _lists(table: RawTable, features: list[Feature]) -> tuple[dict[str, Notation], dict]:
    """How each feature's lists are written, and how many of its cells hold more than one element."""
    conditions: dict[str, pl.Expr] = {}
    for feature in features:
        value = table.cell(feature.source_column)
        bracketed = value.str.contains(BRACKETED)
        body = value.str.slice(1, value.str.len_chars() - 2)
        looks = {
            "cells": value.is_not_null(),
            "bracketed": bracketed,
            "quotes": bracketed & body.str.contains("['\"]"),
            "commas": bracketed & body.str.contains(",", literal=True),
            "numbers": bracketed & value.str.contains(NUMBERS_ALONE),
            "spaces": bracketed & body.str.strip_chars().str.contains(r"\s"),
            "cut short": bracketed & body.str.contains("...", literal=True),
            "nested": bracketed & body.str.contains(r"[\[({]"),
        }
        if feature.separator is not None:
            holds = value.str.contains(feature.separator, literal=True)
            doubled = value.str.contains(feature.separator * 2, literal=True)
            looks |= {
                "holds": holds,
                "ends": holds & value.str.ends_with(feature.separator),
                "doubled": doubled,
            }
        conditions |= {f"{feature.name} {look}": condition for look, condition in looks.items()}
    counts = table.counts(conditions)
    notations: dict[str, Notation] = {}
    notes: dict[str, int | float | str] = {}
    for feature in features:
        own = {
            key.removeprefix(feature.name + " "): number
            for key, number in counts.items()
            if key.partition(" ")[0] == feature.name
        }
        notations[feature.name] = _notation(table, feature, own)
        notes |= _list_notes(feature, own, notations[feature.name])
    return notations, notes | _share_of_longer(table, features, notations)


def _notation(table: RawTable, feature: Feature, counts: Mapping[str, int]) -> Notation:
    column = feature.source_column
    value = table.cell(column)
    where = f"column {column!r} of feature {feature.name!r}"
    if counts["bracketed"] and counts["bracketed"] == counts["cells"]:
        if counts["cut short"]:
            place, held = table.example(column, value.str.contains("...", literal=True))
            raise InputError(
                f"{place}: {where} holds {held!r}, a list that was cut short when it was printed"
            )
        if counts["quotes"]:
            listed = elements(value, "quoted", None)
            broken = value.is_not_null() & listed.is_null()
            if table.counts({"broken": broken})["broken"]:
                place, held = table.example(column, broken)
                raise InputError(f"{place}: {where} holds {held!r}, which is no JSON or Python list; mend it")
            return "quoted"
        if counts["nested"]:
            place, held = table.example(column, value.str.slice(1).str.contains(r"[\[({]"))
            raise InputError(f"{place}: {where} holds {held!r}, a list within a list; flatten it")
        spaced = counts["spaces"] and not counts["commas"] and counts["numbers"] == counts["cells"]
        return "spaced" if spaced else "brackets"
    if counts["bracketed"] and (feature.separator is None or counts["commas"] or counts["quotes"]):
        place, held = table.example(column, value.is_not_null() & ~value.str.contains(BRACKETED))
        raise InputError(
            f"{place}: {where} holds {held!r}, where other cells hold lists in brackets; write all alike"
        )
    if feature.separator is None:
        return "separated"  # staging refuses text without a separator
    if counts["cells"] and not counts["holds"]:
        place, held = table.example(column, value.is_not_null())
        raise InputError(
            f"{place}: no cell of {where} holds the separator {feature.separator!r} (this one holds "
            f"{held!r}); mend the separator, or make the feature categorical"
        )
    # A separator behind the last element is a way of writing only where every list has it.
    return "terminated" if 0 < counts["ends"] == counts["holds"] else "separated"


def _list_notes(feature: Feature, counts: Mapping[str, int], notation: Notation) -> dict:
    if notation == "terminated":
        return {f"lists of {feature.name}": "every list ends with a separator, which adds no element"}
    if notation == "separated" and (gaps := counts.get("doubled", 0) + counts.get("ends", 0)):
        kept = "keep their place as missing" if feature.kind == "sequence" else "are dropped"
        return {f"lists of {feature.name}": f"{gaps} cells have elements without text, which {kept}"}
    return {}


def _share_of_longer(table: RawTable, features: list[Feature], notations: Mapping[str, Notation]) -> dict:
    conditions: dict[str, pl.Expr] = {}
    for feature in features:
        if notations[feature.name] == "separated" and feature.separator is None:
            continue
        listed = elements(table.cell(feature.source_column), notations[feature.name], feature.separator)
        conditions |= {feature.name: listed.list.len() > 1, feature.name + " all": listed.list.len() > 0}
    counts = table.counts(conditions)
    return {
        f"share of {name} with more than one element": counts[name] / max(1, counts[name + " all"])
        for name in conditions
        if not name.endswith(" all")
    }


def _integers(table: RawTable, categories: list[Use], lists: Mapping[str, Notation]) -> set[str]:
    """The vocabularies whose text is integers in every column; refuses leading zeros beside integers."""
    text: dict[str, pl.Expr] = {}
    zeros: dict[str, pl.Expr] = {}
    is_integer: dict[str, bool] = {}
    has_integers: dict[str, str] = {}
    for number, use in enumerate(categories):
        assert use.vocabulary is not None, "categories are compared in a vocabulary"
        dtype = table.types[use.column]
        listed = isinstance(dtype, pl.List | pl.Array)
        element = inner(dtype) if listed else dtype
        if element == pl.String:
            values = _values(table, use, listed, lists)
            key = f"{number} {use.vocabulary}"
            text[key] = _any(values, lambda value: ~value.str.contains(INTEGER))
            zeros[key] = _any(values, lambda value: value.str.contains(LEADING_ZERO))
        else:
            fits = element.is_integer() and element not in (pl.UInt64, pl.Int128, pl.UInt128)
            is_integer[use.vocabulary] = is_integer.get(use.vocabulary, True) and (fits or element == pl.Null)
            if element.is_integer():
                has_integers[use.vocabulary] = use.column
    counts = table.counts(text | {f"zeros {key}": condition for key, condition in zeros.items()})
    for key in text:
        position, _, vocabulary = key.partition(" ")
        use = categories[int(position)]
        is_integer[vocabulary] = is_integer.get(vocabulary, True) and counts[key] == 0
        if vocabulary in has_integers and counts[f"zeros {key}"]:
            place, value = table.example(use.column, zeros[key])
            raise InputError(
                f"{place}: column {use.column!r} of {use.what} holds {value!r} with a leading zero, while "
                f"column {has_integers[vocabulary]!r} of the same vocabulary holds integers, that have none; "
                "write both alike"
            )
    return {name for name, whole in is_integer.items() if whole}


def _values(table: RawTable, use: Use, listed: bool, lists: Mapping[str, Notation]) -> tuple[pl.Expr, bool]:
    """A use's categories as text: one a row, or (True) a list of them."""
    if use.role != "list":
        return category(table.cell(use.column), pl.String(), pl.String()), False
    assert use.feature is not None, "lists belong to features"
    if listed:
        found = pl.col(use.column)
    else:
        found = elements(table.cell(use.column), lists[use.feature.name], use.feature.separator)
    return found.list.eval(category(pl.element(), pl.String(), pl.String())), True


def _any(values: tuple[pl.Expr, bool], condition) -> pl.Expr:
    value, is_list = values
    if is_list:
        return value.list.eval(condition(pl.element().drop_nulls()).any()).list.first().fill_null(False)
    return condition(value)
