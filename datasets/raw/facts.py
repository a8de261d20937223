"""What only the whole of a table's text tells: which ids are integers, how lists and times are written.

One pass counts what cells look like, and what cannot be read as it was meant is refused with its place.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import partial

import polars as pl

from datasets.errors import InputError
from datasets.raw.columns import FILE_COLUMN, LINE_COLUMN, Use, uses
from datasets.raw.files import TableFile
from datasets.raw.times import time_facts
from datasets.schema import Feature, Schema
from datasets.text import (
    WORDS_FOR_MISSING,
    Notation,
    TextFacts,
    category,
    cell,
    elements,
    inner,
    is_no_integer,
    is_no_number,
    without_missing,
)

LEADING_ZERO = r"^-?0[0-9]+$"
# As spreadsheets and floats print large integers, whose last digits are lost: 1.23E+15, 9.007e+15.
ROUNDED_ID = r"^-?[0-9](\.[0-9]+)?[eE]\+[0-9]{2,3}$"
FLOAT_ID, EXACT_FLOAT = r"^-?[0-9]{16,}\.0$", 2**53
# Control characters, soft hyphen, zero-width space, marks of direction, byte order mark.
INVISIBLE = r"[\x00-\x1f\x7f-\x9f\u00ad\u200b\u200e\u200f\u202a-\u202e\u2060\u2066-\u2069\ufeff]"
COMBINING = r"\p{Mn}"
CUT_SHORT = r"[\[({\s,]\.\.\.[\])}\s,]"
BRACKETED = r"(?s)^(\[.*\]|\(.*\)|\{.*\})$"
NUMBERS_ALONE = r"^[\[({][-+.0-9\seE]*[\])}]$"


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

    def example(self, column: str, condition: pl.Expr, value: pl.Expr | None = None) -> tuple[str, object]:
        """Where the first row that meets the condition stands, and the ``value`` there, or what it holds."""
        shown = pl.col(column) if value is None else value
        row = (
            self.frame.filter(condition)
            .select(shown.alias("value"), FILE_COLUMN, LINE_COLUMN)
            .head(1)
            .collect(engine="streaming")
        )
        file = self.files[row[FILE_COLUMN][0]]
        unit = "row {} (counted from 0)" if file.format == "parquet" else "line {}"
        return f"{file.path}: {unit.format(row[LINE_COLUMN][0])}", row["value"][0]


def text_facts(table: RawTable) -> tuple[TextFacts, dict[str, int | float | str]]:
    """How the table's text is written, and notes for its owner.

    Raises InputError, with file and line, on a number that is none, a word that may stand for a missing
    value, a list that is not cut as its separator says, ids that a float has rounded, ids with leading
    zeros beside integers, and times that are written in several ways.
    """
    found = uses(table.schema)
    text = [use for use in found if table.types[use.column] == pl.String]
    _check_numbers(table, [use for use in text if use.role == "number"])
    lists, notes = _lists(
        table, [use.feature for use in text if use.role in ("list", "vector") and use.feature]
    )
    _check_vectors(table, [use for use in found if use.role == "vector"], lists)
    time, offset = time_facts(table)
    categories = [use for use in found if use.vocabulary and _may_be_category(_element(table, use))]
    notes |= _check_categories(table, [*categories, *(use for use in text if use.role == "text")], lists)
    integers = _integers(table, categories, lists)
    return TextFacts(frozenset(integers), lists, time, offset), notes


def _element(table: RawTable, use: Use) -> pl.DataType:
    """The type of one category."""
    dtype = table.types[use.column]
    return inner(dtype) if isinstance(dtype, pl.List | pl.Array) else dtype


def _may_be_category(dtype: pl.DataType) -> bool:
    """Staging refuses the rest."""
    return dtype.is_numeric() or dtype in (pl.String, pl.Boolean, pl.Null, pl.Date, pl.Datetime)


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


def _check_categories(table: RawTable, categories: list[Use], lists: Mapping[str, Notation]) -> dict:
    """Refuses words that may stand for a missing value, and rounded ids; notes for what the eye misses."""
    conditions: dict[str, pl.Expr] = {}
    texts = [use for use in categories if _element(table, use) == pl.String]
    for number, use in enumerate(texts):
        cells = _cells(table, use, lists)
        looks = {"rounded": _is_rounded, "invisible": _is_invisible, "decomposed": _is_decomposed}
        if table.schema.missing is None:
            looks["word"] = _is_word_for_missing
        conditions |= {f"{number} {look}": _any(cells, condition) for look, condition in looks.items()}
    counts = table.counts(conditions)
    notes: dict[str, int | float | str] = {}
    for number, use in enumerate(texts):
        where = f"column {use.column!r} of {use.what}"
        if rows := counts.get(f"{number} word"):
            word = _first(_cells(table, use, lists), _is_word_for_missing)
            place, value = table.example(use.column, conditions[f"{number} word"], word)
            raise InputError(
                f"{place}: {where} holds {value!r} ({rows:,} such rows); add missing: [{value!r}] to the "
                "schema if that stands for a missing value, or missing: [] if it is a category"
            )
        if rows := counts[f"{number} rounded"]:
            id_ = _first(_cells(table, use, lists), _is_rounded)
            place, value = table.example(use.column, conditions[f"{number} rounded"], id_)
            raise InputError(
                f"{place}: {where} holds {value!r} ({rows:,} such rows), an id whose last digits a "
                "spreadsheet or a float has rounded away; write it anew from its source, as integers or text"
            )
        if rows := counts[f"{number} invisible"]:
            notes[f"invisible characters in {use.column}"] = f"{rows} rows; they are part of the category"
        if rows := counts[f"{number} decomposed"]:
            notes[f"decomposed characters in {use.column}"] = (
                f"{rows} rows; a letter and its accent are another category than both in one (Unicode NFC)"
            )
    return notes


def _is_word_for_missing(text: pl.Expr) -> pl.Expr:
    """A word such as NaN may be a category or a missing value; only the owner knows."""
    return text.is_in(WORDS_FOR_MISSING)


def _is_rounded(text: pl.Expr) -> pl.Expr:
    beyond = text.cast(pl.Float64, strict=False).abs() >= EXACT_FLOAT
    return text.str.contains(ROUNDED_ID) | (text.str.contains(FLOAT_ID) & beyond)


def _is_invisible(text: pl.Expr) -> pl.Expr:
    return text.str.contains(INVISIBLE)


def _is_decomposed(text: pl.Expr) -> pl.Expr:
    return text.str.contains(COMBINING) & (text.str.normalize("NFC") != text)


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
            "cut short": bracketed & value.str.contains(CUT_SHORT),
            "nested": bracketed & body.str.contains(r"[\[({]"),
        }
        if feature.separator is not None:
            holds = value.str.contains(feature.separator, literal=True)
            doubled = value.str.contains(feature.separator * 2, literal=True)
            looks |= {
                "holds": holds,
                "within": bracketed & body.str.contains(feature.separator, literal=True),
                "starts": holds & value.str.starts_with(feature.separator),
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
        if counts["quotes"]:
            listed = elements(value, "quoted", None)
            broken = value.is_not_null() & listed.is_null()
            if table.counts({"broken": broken})["broken"]:
                place, held = table.example(column, broken)
                raise InputError(f"{place}: {where} holds {held!r}, which is no JSON or Python list; mend it")
            return "quoted"
        return _notation_in_brackets(table, feature, counts, where)
    if counts["bracketed"] and (feature.separator is None or counts["commas"] or counts["quotes"]):
        place, held = table.example(column, value.is_not_null() & ~value.str.contains(BRACKETED))
        raise InputError(
            f"{place}: {where} holds {held!r}, where other cells hold lists in brackets; write all alike"
        )
    if not counts["cells"]:
        return "brackets"  # of which there are none
    if feature.separator is None:
        place, held = table.example(column, value.is_not_null())
        raise InputError(
            f"{place}: {where} holds {held!r}, which is no list in brackets; add 'separator: \"|\"', with "
            "what separates its elements, or make the feature categorical"
        )
    if counts["cells"] and not counts["holds"]:
        place, held = table.example(column, value.is_not_null())
        raise InputError(
            f"{place}: no cell of {where} holds the separator {feature.separator!r} (this one holds "
            f"{held!r}); mend the separator, or make the feature categorical"
        )
    # A separator behind the last element is a way of writing only where every list has it.
    if counts["ends"] < counts["holds"]:
        return "separated"
    return "enclosed" if counts["starts"] == counts["holds"] else "terminated"


def _notation_in_brackets(
    table: RawTable, feature: Feature, counts: Mapping[str, int], where: str
) -> Notation:
    """The notation of lists that all stand in brackets, without quotes."""
    column, separator = feature.source_column, feature.separator
    value = table.cell(column)
    if counts["cut short"]:
        place, held = table.example(column, value.str.contains(CUT_SHORT))
        raise InputError(
            f"{place}: {where} holds {held!r}, a list that was cut short when it was printed; write it whole"
        )
    if counts["nested"]:
        place, held = table.example(column, value.str.slice(1).str.contains(r"[\[({]"))
        raise InputError(f"{place}: {where} holds {held!r}, with brackets in brackets; write plain values")
    if separator is not None and "," not in separator and counts["within"]:
        if not counts["commas"]:
            return "cut in brackets"
        if separator.strip():
            place, held = table.example(column, value.str.contains(separator, literal=True))
            raise InputError(
                f"{place}: {where} holds {held!r}, but other lists in brackets have commas between their "
                f"elements; remove the separator {separator!r} from the schema if a comma is meant, or the "
                "brackets from the table"
            )
    spaced = counts["spaces"] and not counts["commas"] and counts["numbers"] == counts["cells"]
    return "spaced" if spaced else "brackets"


def _list_notes(feature: Feature, counts: Mapping[str, int], notation: Notation) -> dict:
    if notation in ("terminated", "enclosed"):
        places = "ends" if notation == "terminated" else "begins and ends"
        return {f"lists of {feature.name}": f"every list {places} with a separator, which adds no element"}
    gaps = sum(counts.get(look, 0) for look in ("doubled", "starts", "ends"))
    if notation == "separated" and gaps:
        kept = "keep their place as missing" if feature.kind == "sequence" else "are dropped"
        return {f"lists of {feature.name}": f"{gaps} cells have elements without text, which {kept}"}
    return {}


def _share_of_longer(table: RawTable, features: list[Feature], notations: Mapping[str, Notation]) -> dict:
    conditions: dict[str, pl.Expr] = {}
    for feature in features:
        listed = elements(table.cell(feature.source_column), notations[feature.name], feature.separator)
        conditions |= {feature.name: listed.list.len() > 1, feature.name + " all": listed.list.len() > 0}
    counts = table.counts(conditions)
    return {
        f"share of {name} with more than one element": counts[name] / max(1, counts[name + " all"])
        for name in conditions
        if not name.endswith(" all")
    }


def _integers(table: RawTable, categories: list[Use], lists: Mapping[str, Notation]) -> set[str]:
    """The vocabularies of integers alone, be they text or floats; refuses leading zeros beside integers.

    So a table has the same vocabulary whatever the format of its files.
    """
    text: dict[str, pl.Expr] = {}
    zeros: dict[str, pl.Expr] = {}
    is_integer: dict[str, bool] = {}
    has_integers: dict[str, str] = {}
    for number, use in enumerate(categories):
        assert use.vocabulary is not None, "categories are compared in a vocabulary"
        element = _element(table, use)
        if element.is_integer():
            has_integers[use.vocabulary] = use.column
        if (element.is_integer() and element not in (pl.UInt64, pl.Int128, pl.UInt128)) or element == pl.Null:
            is_integer.setdefault(use.vocabulary, True)
            continue
        cells = _cells(table, use, lists)
        key = f"{number} {use.vocabulary}"
        text[key] = _any(cells, partial(_is_no_integer, element))
        if element == pl.String:
            zeros[key] = _any(cells, lambda value: value.str.contains(LEADING_ZERO))
    counts = table.counts(text | {f"zeros {key}": condition for key, condition in zeros.items()})
    for key in text:
        position, _, vocabulary = key.partition(" ")
        use = categories[int(position)]
        is_integer[vocabulary] = is_integer.get(vocabulary, True) and counts[key] == 0
        if vocabulary in has_integers and counts.get(f"zeros {key}"):
            place, value = table.example(use.column, zeros[key])
            raise InputError(
                f"{place}: column {use.column!r} of {use.what} holds {value!r} with a leading zero, while "
                f"column {has_integers[vocabulary]!r} of the same vocabulary holds integers, that have none; "
                "write both alike"
            )
    return {name for name, whole in is_integer.items() if whole}


def _first(cells: tuple[pl.Expr, bool], condition: Callable[[pl.Expr], pl.Expr]) -> pl.Expr:
    """The element that meets the condition, of a row that has one."""
    value, is_list = cells
    return value.list.eval(pl.element().filter(condition(pl.element()))).list.first() if is_list else value


def _is_no_integer(element: pl.DataType, value: pl.Expr) -> pl.Expr:
    return is_no_integer(category(value, element, pl.String()))


def _cells(table: RawTable, use: Use, lists: Mapping[str, Notation]) -> tuple[pl.Expr, bool]:
    """A use's categories that are not missing, of the column's type: one a row, or (True) a list of them."""
    dtype, element, missing = table.types[use.column], _element(table, use), table.schema.missing
    found = pl.col(use.column)
    if isinstance(dtype, pl.List | pl.Array):
        found = found.cast(pl.List(element))
    elif use.role == "list" and use.feature is not None and dtype == pl.String:
        found = elements(table.cell(use.column), lists[use.feature.name], use.feature.separator)
    else:
        return without_missing(found, element, missing), False
    return found.list.eval(without_missing(pl.element(), element, missing)), True


def _any(cells: tuple[pl.Expr, bool], condition: Callable[[pl.Expr], pl.Expr]) -> pl.Expr:
    value, is_list = cells
    if is_list:
        return value.list.eval(condition(pl.element().drop_nulls()).any()).list.first().fill_null(False)
    return condition(value)
