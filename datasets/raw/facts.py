"""Facts that need all of a table's text: which ids are integers, how lists and times are written.

One pass counts what cells look like. Cells that may mean something else than they say are refused, with
their file and line.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from functools import partial

import polars as pl

from datasets.raw.columns import Use, uses
from datasets.raw.lists import list_notations
from datasets.raw.table import RawTable
from datasets.raw.text import (
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
from datasets.raw.times import time_facts
from files.errors import InputError

LEADING_ZERO = r"^-?0[0-9]+$"
# As spreadsheets and floats print large integers, whose last digits are lost: 1.23E+15, 9.007e+15.
ROUNDED_ID = r"^-?[0-9](\.[0-9]+)?[eE]\+[0-9]{2,3}$"
FLOAT_ID, EXACT_FLOAT = r"^-?[0-9]{16,}\.0$", 2**53
# Control characters, soft hyphen, zero-width space, marks of direction, byte order mark.
INVISIBLE = r"[\x00-\x1f\x7f-\x9f\u00ad\u200b\u200e\u200f\u202a-\u202e\u2060\u2066-\u2069\ufeff]"
COMBINING = r"\p{Mn}"


def text_facts(table: RawTable) -> tuple[TextFacts, dict[str, int | float | str]]:
    """How the table's text is written, and notes for its owner.

    Raises InputError, with file and line, on text that is no number where one is needed, a word that may
    stand for a missing value, a list without its separator, ids that a float has rounded, ids with leading
    zeros where others of the vocabulary are integers, and times that are written in several ways.
    """
    found = uses(table.schema)
    text = [use for use in found if table.types[use.column] == pl.String]
    _check_numbers(table, [use for use in text if use.role == "number"])
    lists, notes = list_notations(
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
    """Refuses a vector written as text of which an element is no number."""
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
    """Refuses words that may stand for a missing value, and rounded ids; notes on invisible differences."""
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
                "spreadsheet or a float has rounded away; export it again as integers or text"
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


def _integers(table: RawTable, categories: list[Use], lists: Mapping[str, Notation]) -> set[str]:
    """The vocabularies whose values are all integers, also where they are written as text or floats.

    So a table has the same vocabulary in every file format. Refuses ids with leading zeros where another
    column of the vocabulary holds integers.
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
                f"{place}: column {use.column!r} of {use.what} holds {value!r} with a leading zero, but "
                f"column {has_integers[vocabulary]!r} of the same vocabulary holds integers, which have "
                "none; write both in the same way"
            )
    return {name for name, whole in is_integer.items() if whole}


def _first(cells: tuple[pl.Expr, bool], condition: Callable[[pl.Expr], pl.Expr]) -> pl.Expr:
    """The first element of a row that meets the condition."""
    value, is_list = cells
    return value.list.eval(pl.element().filter(condition(pl.element()))).list.first() if is_list else value


def _is_no_integer(element: pl.DataType, value: pl.Expr) -> pl.Expr:
    return is_no_integer(category(value, element, pl.String()))


def _cells(table: RawTable, use: Use, lists: Mapping[str, Notation]) -> tuple[pl.Expr, bool]:
    """The known categories of a use, in the column's type, and whether each row has a list of them."""
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
