"""Facts that need all of a table's text: which ids are integers, how lists and times are written.

One pass counts what cells look like. Cells that may mean something else than they say are refused, with
their file and line.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from functools import partial

import polars as pl

from datasets.raw.cells import any_of, cells_of, element_of, first_of
from datasets.raw.columns import Use, uses
from datasets.raw.lists import list_lengths, list_notations
from datasets.raw.table import RawTable
from datasets.raw.text import (
    WORDS_FOR_MISSING,
    Notation,
    TextFacts,
    category,
    cell,
    elements,
    is_no_integer,
    is_no_number,
    is_no_whole_number,
)
from datasets.raw.times import time_facts
from datasets.raw.zeros import LEADING_ZERO, check_zeros, compare_zeros, has_leading_zero
from files.errors import InputError

# As spreadsheets and floats print large integers, whose last digits are lost: 1.23E+15, 9.007e+15; and as
# Java, Spark and MySQL do, from 10^7 on: 1.2345678E7. Without a point, 1e5 and 12E34 may be codes.
ROUNDED_ID = r"^-?[0-9](\.[0-9]+)?[eE]\+[0-9]{2,3}$|^-?[0-9]\.[0-9]+[eE][0-9]{1,3}$"
FLOAT_ID, EXACT_FLOAT = r"^-?[0-9]{16,}\.0$", 2**53
# Control characters, soft hyphen, zero-width space, marks of direction, byte order mark.
INVISIBLE = r"[\x00-\x1f\x7f-\x9f\u00ad\u200b\u200e\u200f\u202a-\u202e\u2060\u2066-\u2069\ufeff]"
COMBINING = r"\p{Mn}"
# All that may be one of these or a word for a missing value, found in a fraction of the time that they take.
SUSPECT = (
    r"[^ -~]|[eE]\+[0-9]|\.[0-9]+[eE][0-9]|[0-9]{15}\.0$|"
    f"^({'|'.join(map(re.escape, WORDS_FOR_MISSING))})$"
)
FIRST_ROWS = 1024  # mostly show whether text is integers


def text_facts(table: RawTable) -> tuple[TextFacts, dict[str, int | float | str]]:
    """How the table's text is written, and notes for its owner.

    Raises InputError, with file and line, on text that is no number where one is needed, a word that may
    stand for a missing value, a list without its separator, ids that a float has rounded, ids with leading
    zeros where another column of the vocabulary has them without, and times that are written in several ways.
    """
    found = uses(table.schema)
    text = [use for use in found if table.types[use.column] == pl.String]
    whole = _check_numbers(table, [use for use in text if use.role == "number"])
    lists, notes = list_notations(
        table, [use.feature for use in text if use.role in ("list", "vector") and use.feature]
    )
    held = [
        use for use in found if use.role == "list" and isinstance(table.types[use.column], pl.List | pl.Array)
    ]
    features = [use.feature for use in found if use.feature and (use in held or use.feature.name in lists)]
    notes |= list_lengths(table, features, lists)
    _check_vectors(table, [use for use in found if use.role == "vector"], lists)
    time, offset = time_facts(table)
    categories = [use for use in found if use.vocabulary and _may_be_category(element_of(table, use))]
    texts = [*categories, *(use for use in text if use.role == "text")]
    more, padded = _check_categories(table, texts, lists)
    integers = _integers(table, categories, lists)
    notes |= more | compare_zeros(table, categories, padded, lists)
    return TextFacts(frozenset(integers), lists, whole, time, offset), notes


def _may_be_category(dtype: pl.DataType) -> bool:
    """Staging refuses the rest."""
    return dtype.is_numeric() or dtype in (pl.String, pl.Boolean, pl.Null, pl.Date, pl.Datetime)


def _check_numbers(table: RawTable, numbers: list[Use]) -> frozenset[str]:
    """Refuses what is no number; the columns of computed labels whose numbers are all whole."""
    bad = {use.column: is_no_number(table.cell(use.column)) for use in numbers}
    operands = {column for task in table.schema.tasks if task.expression for column in task.columns}
    broken = {column: is_no_whole_number(table.cell(column)) for column in bad if column in operands}
    counts = table.counts(
        {f"bad {column}": condition for column, condition in bad.items()}
        | {f"broken {column}": condition for column, condition in broken.items()}
    )
    for use in numbers:
        if counts[f"bad {use.column}"]:
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
    return frozenset(column for column in broken if not counts[f"broken {column}"])


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


def _check_categories(
    table: RawTable, categories: list[Use], lists: Mapping[str, Notation]
) -> tuple[dict[str, int | float | str], list[Use]]:
    """Refuses words that may stand for a missing value, and rounded ids.

    Notes on invisible differences, and the uses that have a vocabulary and ids with leading zeros.
    """
    conditions: dict[str, pl.Expr] = {}
    texts = [use for use in categories if element_of(table, use) == pl.String]
    suspected, padded = _suspected(table, texts, lists)
    for number, use in enumerate(texts):
        if use not in suspected:
            continue
        looks: dict[str, Callable[[pl.Expr], pl.Expr]] = {
            "rounded": _is_rounded,
            "invisible": _is_invisible,
            "decomposed": _is_decomposed,
        }
        if is_word := _words_looked_for(table, use):
            looks["word"] = is_word
        cells = cells_of(table, use, lists)
        conditions |= {f"{number} {look}": any_of(cells, condition) for look, condition in looks.items()}
    counts = table.counts(conditions)
    notes: dict[str, int | float | str] = {}
    for number, use in enumerate(texts):
        where = f"column {use.column!r} of {use.what}"
        if rows := counts.get(f"{number} word"):
            word = first_of(
                cells_of(table, use, lists), _words_looked_for(table, use) or _is_word_for_missing
            )
            place, value = table.example(use.column, conditions[f"{number} word"], word)
            raise InputError(
                f"{place}: {where} holds {value!r} ({rows:,} such rows); {_mend_of_word(table, use, value)}"
            )
        if rows := counts.get(f"{number} rounded"):
            id_ = first_of(cells_of(table, use, lists), _is_rounded)
            place, value = table.example(use.column, conditions[f"{number} rounded"], id_)
            raise InputError(
                f"{place}: {where} holds {value!r} ({rows:,} such rows), an id whose last digits a "
                "spreadsheet or a float may have rounded away; export it again as integers or text"
            )
        if rows := counts.get(f"{number} invisible"):
            notes[f"invisible characters in {use.column}"] = f"{rows} rows; they are part of the category"
        if rows := counts.get(f"{number} decomposed"):
            notes[f"decomposed characters in {use.column}"] = (
                f"{rows} rows; a letter and its accent are another category than both in one (Unicode NFC)"
            )
    return notes, padded


def _suspected(
    table: RawTable, texts: list[Use], lists: Mapping[str, Notation]
) -> tuple[list[Use], list[Use]]:
    """The uses that may hold a word for a missing value, a rounded id or an invisible difference.

    And those with a vocabulary whose ids have leading zeros. Most have neither, which one look shows.
    """
    conditions = {
        str(number): any_of(cells_of(table, use, lists), _is_suspect_or_padded)
        for number, use in enumerate(texts)
    }
    counts = table.counts(conditions)
    left = [use for number, use in enumerate(texts) if counts[str(number)]]
    conditions = {}
    for number, use in enumerate(left):
        conditions[f"{number} suspect"] = any_of(cells_of(table, use, lists), _is_suspect)
        conditions[f"{number} padded"] = any_of(cells_of(table, use, lists), has_leading_zero)
    counts = table.counts(conditions)
    suspected = [use for number, use in enumerate(left) if counts[f"{number} suspect"]]
    return suspected, [use for n, use in enumerate(left) if use.vocabulary and counts[f"{n} padded"]]


def _is_suspect(text: pl.Expr) -> pl.Expr:
    return text.str.contains(SUSPECT)


def _is_suspect_or_padded(text: pl.Expr) -> pl.Expr:
    return text.str.contains(f"{SUSPECT}|{LEADING_ZERO}")


def _is_word_for_missing(text: pl.Expr, categories: Sequence[str] = ()) -> pl.Expr:
    """A word such as NaN may be a category or a missing value; only the owner knows (``categories``)."""
    return text.is_in([word for word in WORDS_FOR_MISSING if word not in categories])


def _words_looked_for(table: RawTable, use: Use) -> Callable[[pl.Expr], pl.Expr] | None:
    """What finds the words that the schema does not explain; None where it explains all.

    No word is a user, or all rows without one would be one user.
    """
    if use.vocabulary == "@user":
        return _is_word_for_missing
    if table.schema.missing == []:
        return None
    return partial(_is_word_for_missing, categories=table.schema.not_missing)


def _mend_of_word(table: RawTable, use: Use, word: object) -> str:
    if use.vocabulary == "@user":
        return (
            "if that stands for a missing user, drop the rows or give each its user; else write it otherwise"
        )
    if table.schema.missing is None and not table.schema.not_missing:
        return (
            f"add missing: [{word!r}] to the schema if that stands for a missing value, or missing: [] if it "
            "is a category"
        )
    return (
        f"add {word!r} to the schema's missing if that stands for a missing value, or "
        f"not_missing: [{word!r}] if it is a category"
    )


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
    plain: list[Use] = []
    others: list[Use] = []
    for use in categories:
        element = element_of(table, use)
        is_plain = element.is_integer() and element not in (pl.UInt64, pl.Int128, pl.UInt128)
        (plain if is_plain or element == pl.Null else others).append(use)
    columns = {use.vocabulary: use.column for use in categories if element_of(table, use).is_integer()}
    is_integer = {use.vocabulary: True for use in plain}
    for use, found in zip(others, _hold_integers(table, others, lists), strict=True):
        is_integer[use.vocabulary] = is_integer.get(use.vocabulary, True) and found
    check_zeros(table, [use for use in others if use.vocabulary in columns], columns, lists)
    return {name for name, whole in is_integer.items() if name is not None and whole}


def _hold_integers(table: RawTable, categories: list[Use], lists: Mapping[str, Notation]) -> list[bool]:
    """Whether each use's values are all integers, however they are written.

    It takes long to tell, so first rows are asked first, then what is written as Python prints integers.
    """
    conditions = {
        str(number): any_of(cells_of(table, use, lists), partial(_is_no_integer, element_of(table, use)))
        for number, use in enumerate(categories)
    }
    first = replace(table, frame=table.frame.head(FIRST_ROWS)).counts(conditions)
    left = {key: condition for key, condition in conditions.items() if not first[key]}
    unusual = {
        key: any_of(cells_of(table, use, lists), _is_no_canonical_integer)
        for key, use in ((key, categories[int(key)]) for key in left)
        if element_of(table, use) == pl.String
    }
    is_unusual = table.counts(unusual)
    counts = table.counts({key: left[key] for key in left if is_unusual.get(key, 1)})
    return [not first[key] and not counts.get(key) for key in conditions]


def _is_no_canonical_integer(text: pl.Expr) -> pl.Expr:
    return text.cast(pl.Int64, strict=False).cast(pl.String).ne_missing(text) & text.is_not_null()


def _is_no_integer(element: pl.DataType, value: pl.Expr) -> pl.Expr:
    return is_no_integer(category(value, element, pl.String()))
