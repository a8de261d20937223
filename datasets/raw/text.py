"""Turns text into numbers, categories, lists and times, each value without regard to the rest of its column.

The rules are the same for a cell of a CSV file, a value of a JSON line and a text column of parquet:

- whitespace around a value is ignored; empty text is missing, and so are the schema's ``missing`` words;
  a ``missing`` word that is a number is also missing in columns of numbers;
- a category is what is written, but a whole number loses its ".0": "7.0" is "7" and "007" is not "7";
- a number is written with the digits 0 to 9, a point and an exponent; true and false are 1 and 0.
"""

from __future__ import annotations

import ast
import json
import re
from collections.abc import Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Literal

import polars as pl

# [0-9] rather than \d, which matches every Unicode digit: polars cannot read Arabic or full-width digits.
NUMBER = r"^[+-]?([0-9]+\.?[0-9]*|\.[0-9]+)([eE][+-]?[0-9]+)?$"
NOT_FINITE = r"(?i)^[+-]?(nan|inf|infinity)$"
BOOLEAN = r"(?i)^(true|false)$"
WHOLE_FLOAT = r"^(-?[0-9]+)\.0*$"
WHOLE_NUMBER = r"^[+-]?[0-9]{1,38}(\.0*)?$"  # which fits Int128
WRITTEN_OTHERWISE = r"^-?[0-9]+\.0*$|^-0$"  # whole numbers that are another category as text
INTEGER = r"^(0|-?[1-9][0-9]{0,18})$"  # canonical
BRACKETS = {"[": "]", "(": ")", "{": "}"}
# Words that programs write for a missing value; among categories, only the schema can make them missing.
WORDS_FOR_MISSING = (
    *("nan", "NaN", "NAN", "null", "NULL", "Null", "None", "NA", "N/A", "n/a", "#N/A", "<NA>", "NaT", "nil"),
    "\\N",
)

WORDS_IN_BRACKETS = ("null", "NULL", "None", "nan", "NaN")
QUOTED = re.compile(r"""'(?:[^'\\]|\\.)*'|"(?:[^"\\]|\\.)*\"""", re.DOTALL)

Notation = Literal["separated", "terminated", "enclosed", "brackets", "cut in brackets", "spaced", "quoted"]


@dataclass(frozen=True)
class TextFacts:
    """Facts that need all of a table's text.

    ``integers`` holds the vocabularies (and "@user") whose text is all integers, ``lists`` the notation of
    each feature's lists, and ``whole`` the columns of computed labels whose numbers are all whole. ``time``
    is the type of the time column's text, and ``time_offset`` a zone offset
    in it other than UTC.
    """

    integers: frozenset[str] = frozenset()
    lists: dict[str, Notation] = field(default_factory=dict)
    whole: frozenset[str] = frozenset()
    time: pl.DataType | None = None
    time_offset: str | None = None


def cell(value: pl.Expr, missing: Sequence[str] | None) -> pl.Expr:
    """The text without the whitespace around it; null where it is empty or one of the ``missing`` words.

    A word that is a whole number also stands for its float: -1 for "-1.0".
    """
    text = value.str.strip_chars()
    kept = ~text.is_in(["", *(missing or [])])
    if numbers := _numbers(missing):
        kept &= ~text.str.replace(WHOLE_FLOAT, "$1").is_in(numbers)
    return pl.when(kept).then(text)


def without_missing(value: pl.Expr, dtype: pl.DataType, missing: Sequence[str] | None) -> pl.Expr:
    """A value of any type; null where it is one of the ``missing`` words: text, number, time or boolean."""
    if dtype == pl.String:
        return cell(value, missing)
    if dtype in (pl.Date, pl.Datetime):
        return _without_missing_times(value, dtype, missing)
    if dtype == pl.Boolean and missing:
        return pl.when(~value.cast(pl.String).is_in(list(missing)).fill_null(False)).then(value)
    numbers = _numbers(missing)
    if not numbers or not dtype.is_numeric():
        return value
    is_missing = category(value, dtype, pl.String()).is_in(numbers).fill_null(False)
    return pl.when(~is_missing).then(value)


def _without_missing_times(value: pl.Expr, dtype: pl.DataType, missing: Sequence[str] | None) -> pl.Expr:
    """Null where a word is that date or time, by the column's own clock unless the word names a zone."""
    zone = getattr(dtype, "time_zone", None)
    kept = value
    for word in missing or []:
        if not re.match(r"[0-9]{4}-[0-9]{2}-[0-9]{2}", word):
            continue
        try:
            moment = datetime.fromisoformat(word)
        except ValueError:
            continue
        clock = value if zone is None else value.dt.replace_time_zone(None)
        if moment.tzinfo is not None and zone is not None:
            moment = moment.astimezone(UTC).replace(tzinfo=None)
            clock = value.dt.convert_time_zone("UTC").dt.replace_time_zone(None)
        if moment.tzinfo is None:
            kept = pl.when(clock.cast(pl.Datetime("us")) != moment).then(kept)
    return kept


def _numbers(missing: Sequence[str] | None) -> list[str]:
    return [re.sub(WHOLE_FLOAT, r"\1", word) for word in missing or [] if re.match(NUMBER, word)]


def is_no_number(text: pl.Expr) -> pl.Expr:
    """Whether a cell that is not missing is neither a number that a float64 can hold nor true or false."""
    is_number = text.str.contains(NUMBER) & text.cast(pl.Float64, strict=False).is_finite().fill_null(False)
    is_word = text.str.contains(NOT_FINITE) | text.str.contains(BOOLEAN)
    return text.is_not_null() & ~is_number & ~is_word


def is_no_integer(text: pl.Expr) -> pl.Expr:
    """Whether a category that is not missing is no canonically written 64-bit integer."""
    is_integer = text.str.contains(INTEGER) & text.cast(pl.Int64, strict=False).is_not_null()
    return text.is_not_null() & ~is_integer


def number(text: pl.Expr) -> pl.Expr:
    """A cell as Float64; null where it is no number."""
    # Not replace_strict: its words are a column of their own, for which polars holds the whole table.
    word = text.str.to_lowercase()
    flag = pl.when(word == "true").then(1.0).when(word == "false").then(0.0)
    return pl.coalesce(pl.when(~is_no_number(text)).then(text).cast(pl.Float64, strict=False), flag)


def is_no_whole_number(text: pl.Expr) -> pl.Expr:
    """Whether a number, as `number` reads it, is not whole; a missing one may be NaN."""
    return text.is_not_null() & ~(text.str.contains(WHOLE_NUMBER) | text.str.contains(NOT_FINITE))


def whole_number(text: pl.Expr) -> pl.Expr:
    """A cell as Int128, exactly; null where it is no whole number."""
    return text.str.replace(r"\.0*$", "").cast(pl.Int128, strict=False)


def category(value: pl.Expr, dtype: pl.DataType, target: pl.DataType) -> pl.Expr:
    """A category of any type as Int64 or text; whole numbers have no ".0", so that ids match as text, too.

    Text is taken as it is written, without the whitespace around it.
    """
    if target == pl.Int64 and dtype.is_integer():
        return value.cast(pl.Int64)
    if dtype.is_float():
        finite = pl.when(value.is_finite()).then(value)
        whole = pl.when(finite.floor() == finite).then(finite.cast(pl.Int64, strict=False).cast(pl.String))
        text = pl.coalesce(whole, finite.cast(pl.String))
    elif isinstance(dtype, pl.Decimal):
        text = value.cast(pl.String).str.replace(r"(\.\d*?)0+$", "$1").str.strip_suffix(".")
    elif dtype == pl.String:
        text = value.map_batches(_text_category, return_dtype=pl.String(), is_elementwise=True)
    else:
        text = value.cast(pl.String)
    return text.cast(target)


def canonical(text: str) -> str:
    """A text as `category` writes it: "7.0" is "7"."""
    return _text_category(pl.Series([text]))[0] or ""


def _text_category(values: pl.Series) -> pl.Series:
    text = values.str.strip_chars()
    text = text.set(text.str.len_bytes() == 0, None)
    if not text.str.contains(WRITTEN_OTHERWISE).any():  # which takes half the time of the replacements
        return text
    return text.str.replace(WHOLE_FLOAT, "$1").str.replace(r"^-0$", "0")


def elements(text: pl.Expr, notation: Notation, separator: str | None) -> pl.Expr:
    """The elements of a cell as a list of text, each cleaned as a cell is; a missing cell has no list.

    ``separated``: cut at ``separator``. ``terminated``: there is one after the last element, too.
    ``enclosed``: and one before the first. ``brackets``: [1, 2], (1, 2) or {1, 2}. ``cut in brackets``:
    [1|2], cut at ``separator``, or at every run of spaces if that is a space. ``spaced``: [1 2], as numpy
    prints it. ``quoted``: brackets around quoted text, as JSON, Python or numpy writes it. Within brackets
    null, None and NaN are missing.
    """
    if notation == "quoted":
        return text.map_elements(quoted_elements, return_dtype=pl.List(pl.String))
    if notation in ("brackets", "cut in brackets", "spaced"):
        body = text.str.slice(1, text.str.len_chars() - 2).str.strip_chars()
        if notation == "spaced":
            body = body.str.replace_all(r"\s+", ",")
        if notation == "brackets":
            body = body.str.strip_suffix(",")  # Python's tuple of one, (7,)
        if notation == "cut in brackets" and separator == " ":
            body = body.str.replace_all(r"\s+", " ")  # numpy pads its numbers and wraps its lines
        cut = body.str.split(separator or "," if notation == "cut in brackets" else ",")
        listed = pl.when(body != "").then(cut).when(text.is_not_null()).then(pl.lit([], pl.List(pl.String)))
        return listed.list.eval(cell(pl.element(), WORDS_IN_BRACKETS))
    assert separator is not None, "text is cut by a separator"
    if notation in ("terminated", "enclosed"):
        text = text.str.strip_suffix(separator)
    if notation == "enclosed":
        text = text.str.strip_prefix(separator)
    return text.str.split(separator).list.eval(cell(pl.element(), None))


def quoted_elements(text: str) -> list[str | None] | None:
    """The elements of a JSON, Python or numpy list; None where it is no list, or a list of lists."""
    try:
        found = json.loads(text, parse_int=str, parse_float=str)  # numbers stay as they are written
    except (ValueError, RecursionError):
        found = _python_elements(text)
    if not isinstance(found, list | tuple) or not all(_is_single(value) for value in found):
        return None
    return [None if value is None or value != value else str(value).strip() or None for value in found]


def _python_elements(text: str) -> object:
    """Python's lists, tuples and sets (in the order written), and numpy's: ['a' 'b']."""
    marks = QUOTED.sub("'", text)
    if re.search(r"'\s*'", marks):  # Python would join them into one text
        if "," in marks:
            return None
        text = "[" + ",".join(QUOTED.findall(text)) + "]" if re.fullmatch(r"\[['\s]*\]", marks) else ""
    if text.startswith("{"):
        text = "[" + text[1:-1] + "]"
    try:
        return ast.literal_eval(text)
    except (ValueError, SyntaxError, MemoryError, RecursionError, TypeError):
        return None


def _is_single(value: object) -> bool:
    return value is None or isinstance(value, str | int | float)


NANOSECOND_YEARS = (1678, 2261)  # those that 64 bits of nanoseconds hold whole


def time(text: pl.Expr, dtype: pl.DataType) -> pl.Expr:
    """Cells as times of ``dtype``; null where a cell is no such time."""
    if dtype.is_numeric():
        return text.cast(dtype, strict=False)
    if dtype == pl.Date:
        return text.str.to_date("%Y-%m-%d", strict=False)
    whole = text.str.replace("T", " ", literal=True).str.replace(r"^(\S+ \d\d:\d\d)($|[^:\d])", "$1:00$2")
    assert isinstance(dtype, pl.Datetime), "a time is a number, a date or a datetime"
    if dtype.time_unit != "ns":
        return _datetime(whole, dtype)
    fits = _datetime(whole, pl.Datetime("us", dtype.time_zone)).dt.year().is_between(*NANOSECOND_YEARS)
    return pl.when(fits).then(_datetime(whole, dtype))  # polars makes other years some of these


def _datetime(text: pl.Expr, dtype: pl.Datetime) -> pl.Expr:
    unit = dtype.time_unit
    if dtype.time_zone is None:
        return text.str.to_datetime("%Y-%m-%d %H:%M:%S%.f", time_unit=unit, strict=False)
    zoned = text.str.replace(r" ?Z$", "+00:00").str.replace(r" ([+-]\d\d:?\d\d)$", "$1")
    zoned = zoned.str.replace(r"([+-]\d\d)(\d\d)$", "$1:$2")
    return zoned.str.to_datetime("%Y-%m-%d %H:%M:%S%.f%:z", time_unit=unit, time_zone="UTC", strict=False)


def inner(dtype: pl.DataType) -> pl.DataType:
    """The type of a list's elements."""
    found = dtype.inner  # type: ignore[attr-defined]
    return found() if isinstance(found, type) else found


# What polars raises on a damaged file; a PanicException is no Exception.
POLARS_ERRORS = (pl.exceptions.PolarsError, pl.exceptions.PanicException)


def first_line(error: BaseException) -> str:
    """The first line of an error of polars; the rest describes the query's plan."""
    lines = str(error).strip().splitlines()
    return lines[0].partition("Resolved plan")[0].strip() if lines else type(error).__name__
