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
    inner,
    is_no_integer,
    is_no_number,
    is_no_whole_number,
    without_missing,
)
from datasets.raw.times import time_facts
from files.errors import InputError

LEADING_ZERO = r"^-?0[0-9]+(\.0*)?$"
ZEROS, NO_LEADING_ZERO = r"^(-?)0+([0-9])", r"^(0|-?[1-9][0-9]*)$"
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
    categories = [use for use in found if use.vocabulary and _may_be_category(_element(table, use))]
    texts = [*categories, *(use for use in text if use.role == "text")]
    more, padded = _check_categories(table, texts, lists)
    integers = _integers(table, categories, lists)
    notes |= more | _compare_zeros(table, categories, padded, lists)
    return TextFacts(frozenset(integers), lists, whole, time, offset), notes


def _element(table: RawTable, use: Use) -> pl.DataType:
    """The type of one category."""
    dtype = table.types[use.column]
    return inner(dtype) if isinstance(dtype, pl.List | pl.Array) else dtype


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
    texts = [use for use in categories if _element(table, use) == pl.String]
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
        cells = _cells(table, use, lists)
        conditions |= {f"{number} {look}": _any(cells, condition) for look, condition in looks.items()}
    counts = table.counts(conditions)
    notes: dict[str, int | float | str] = {}
    for number, use in enumerate(texts):
        where = f"column {use.column!r} of {use.what}"
        if rows := counts.get(f"{number} word"):
            word = _first(_cells(table, use, lists), _words_looked_for(table, use) or _is_word_for_missing)
            place, value = table.example(use.column, conditions[f"{number} word"], word)
            raise InputError(
                f"{place}: {where} holds {value!r} ({rows:,} such rows); {_mend_of_word(table, use, value)}"
            )
        if rows := counts.get(f"{number} rounded"):
            id_ = _first(_cells(table, use, lists), _is_rounded)
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
        str(number): _any(_cells(table, use, lists), _is_suspect_or_padded)
        for number, use in enumerate(texts)
    }
    counts = table.counts(conditions)
    left = [use for number, use in enumerate(texts) if counts[str(number)]]
    conditions = {}
    for number, use in enumerate(left):
        conditions[f"{number} suspect"] = _any(_cells(table, use, lists), _is_suspect)
        conditions[f"{number} padded"] = _any(_cells(table, use, lists), _has_leading_zero)
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


def _has_leading_zero(text: pl.Expr) -> pl.Expr:
    return text.str.contains(LEADING_ZERO)


def _integers(table: RawTable, categories: list[Use], lists: Mapping[str, Notation]) -> set[str]:
    """The vocabularies whose values are all integers, also where they are written as text or floats.

    So a table has the same vocabulary in every file format. Refuses ids with leading zeros where another
    column of the vocabulary holds integers.
    """
    plain: list[Use] = []
    others: list[Use] = []
    for use in categories:
        element = _element(table, use)
        is_plain = element.is_integer() and element not in (pl.UInt64, pl.Int128, pl.UInt128)
        (plain if is_plain or element == pl.Null else others).append(use)
    columns = {use.vocabulary: use.column for use in categories if _element(table, use).is_integer()}
    is_integer = {use.vocabulary: True for use in plain}
    for use, found in zip(others, _hold_integers(table, others, lists), strict=True):
        is_integer[use.vocabulary] = is_integer.get(use.vocabulary, True) and found
    _check_zeros(table, [use for use in others if use.vocabulary in columns], columns, lists)
    return {name for name, whole in is_integer.items() if name is not None and whole}


def _hold_integers(table: RawTable, categories: list[Use], lists: Mapping[str, Notation]) -> list[bool]:
    """Whether each use's values are all integers, however they are written.

    It takes long to tell, so first rows are asked first, then what is written as Python prints integers.
    """
    conditions = {
        str(number): _any(_cells(table, use, lists), partial(_is_no_integer, _element(table, use)))
        for number, use in enumerate(categories)
    }
    first = replace(table, frame=table.frame.head(FIRST_ROWS)).counts(conditions)
    left = {key: condition for key, condition in conditions.items() if not first[key]}
    unusual = {
        key: _any(_cells(table, use, lists), _is_no_canonical_integer)
        for key, use in ((key, categories[int(key)]) for key in left)
        if _element(table, use) == pl.String
    }
    is_unusual = table.counts(unusual)
    counts = table.counts({key: left[key] for key in left if is_unusual.get(key, 1)})
    return [not first[key] and not counts.get(key) for key in conditions]


def _is_no_canonical_integer(text: pl.Expr) -> pl.Expr:
    return text.cast(pl.Int64, strict=False).cast(pl.String).ne_missing(text) & text.is_not_null()


def _check_zeros(
    table: RawTable, texts: list[Use], columns: Mapping[str | None, str], lists: Mapping[str, Notation]
) -> None:
    """Refuses ids with leading zeros where a column of the vocabulary, in ``columns``, holds integers."""
    zeros = {
        str(number): _any(_cells(table, use, lists), _has_leading_zero)
        for number, use in enumerate(texts)
        if _element(table, use) == pl.String
    }
    for key, rows in table.counts(zeros).items():
        if rows:
            use = texts[int(key)]
            place, value = table.example(use.column, zeros[key])
            raise InputError(
                f"{place}: column {use.column!r} of {use.what} holds {value!r} with a leading zero, but "
                f"column {columns[use.vocabulary]!r} of the same vocabulary holds integers, which have "
                "none; write both in the same way"
            )


def _compare_zeros(
    table: RawTable, categories: list[Use], padded: list[Use], lists: Mapping[str, Notation]
) -> dict[str, int | float | str]:
    """Notes on ids that a column holds with leading zeros and without, as 007 and 7.

    Refuses those that a column of a vocabulary holds with them, and another only without, as `_check_zeros`
    does.
    """
    notes: dict[str, int | float | str] = {}
    for vocabulary in dict.fromkeys(use.vocabulary for use in padded):
        those = [use for use in padded if use.vocabulary == vocabulary]
        every = [use for use in categories if use.vocabulary == vocabulary]
        if not _have_several_widths(table, every, lists):
            continue
        ids = _ids_with_zeros(table, those, lists)
        in_both_ways: set[str] = set()
        for use in those:
            pairs = _pairs(table, use, lists, ids)
            if pairs.height:
                in_both_ways |= set(pairs["value"])
                what = "users" if vocabulary == "@user" else "categories"
                notes[f"leading zeros in {use.column}"] = (
                    f"{pairs['value'].n_unique()} ids are there with and without them, as "
                    f"{pairs['padded'][0]} and {pairs['value'][0]}, which are two {what}"
                )
        for use in every:
            if use not in those:
                pairs = _pairs(table, use, lists, ids).filter(~pl.col("value").is_in(in_both_ways))
                if pairs.height:
                    raise _lacks_zeros(table, use, those[0], lists, pairs)
    return notes


def _lacks_zeros(
    table: RawTable, use: Use, other: Use, lists: Mapping[str, Notation], pairs: pl.DataFrame
) -> InputError:
    value, element = pairs["value"][0], _element(table, use)
    holds = _any(_cells(table, use, lists), lambda cell: category(cell, element, pl.String()) == value)
    place, _ = table.example(use.column, holds)
    return InputError(
        f"{place}: column {use.column!r} of {use.what} holds {value!r}, but column {other.column!r} of the "
        f"same vocabulary holds {pairs['padded'][0]!r}, which is another category; write both in the same way"
    )


def _have_several_widths(table: RawTable, uses: list[Use], lists: Mapping[str, Notation]) -> bool:
    """Whether an integer without leading zeros is shorter than one with them: else all are of one width."""
    text, width = pl.col("value"), pl.col("value").str.len_bytes()
    widths = pl.concat([_categories(table, use, lists) for use in uses]).select(
        pl.when(_has_leading_zero(text)).then(width).max().alias("padded"),
        pl.when(text.str.contains(NO_LEADING_ZERO)).then(width).min().alias("plain"),
    )
    padded, plain = widths.collect(engine="streaming").row(0)
    return plain is not None and plain < padded


def _ids_with_zeros(table: RawTable, uses: list[Use], lists: Mapping[str, Notation]) -> pl.DataFrame:
    """Every id with leading zeros (``padded``), and what it is without them (``value``)."""
    ids = pl.concat([_categories(table, use, lists) for use in uses])
    without = pl.col("value").str.replace(ZEROS, "$1$2").str.replace("^-0$", "0")
    found = ids.filter(_has_leading_zero(pl.col("value"))).unique().select(padded="value", value=without)
    return found.collect(engine="streaming")


def _pairs(table: RawTable, use: Use, lists: Mapping[str, Notation], ids: pl.DataFrame) -> pl.DataFrame:
    """The ids without leading zeros that a use holds, each beside those with them, sorted."""
    found = _categories(table, use, lists).join(ids.lazy(), on="value").unique()
    return found.collect(engine="streaming").sort("value", "padded")


def _categories(table: RawTable, use: Use, lists: Mapping[str, Notation]) -> pl.LazyFrame:
    """The categories of a use as text, one a row."""
    cells, is_list = _cells(table, use, lists)
    values = table.frame.select(value=cells)
    if is_list:
        values = values.explode("value")
    return values.select(category(pl.col("value"), _element(table, use), pl.String())).drop_nulls()


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
