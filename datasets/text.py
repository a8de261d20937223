"""How text becomes numbers, categories, lists and times: value by value, whatever the rest of a column holds.

The rules are the same for a cell of a CSV file, a value of a JSON line and a text column of parquet:

- whitespace around a value does not count; empty text is missing, and so are the schema's ``missing`` words;
- a category is what is written, but a whole number loses its ".0": "7.0" is "7" and "007" is not "7";
- a number is written with digits, a point and an exponent; true and false are 1 and 0.
"""

from __future__ import annotations

import ast
import json
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Literal

import polars as pl

NUMBER = r"^[+-]?(\d+\.?\d*|\.\d+)([eE][+-]?\d+)?$"
NOT_FINITE = r"(?i)^[+-]?(nan|inf|infinity)$"
BOOLEAN = r"(?i)^(true|false)$"
WHOLE_FLOAT = r"^(-?\d+)\.0*$"
INTEGER = r"^(0|-?[1-9]\d{0,17})$"  # canonical, and within 64 bits
BRACKETS = {"[": "]", "(": ")", "{": "}"}
# Words that programs write for a missing value; as a category they are one only where the schema says so.
WORDS_FOR_MISSING = (
    *("nan", "NaN", "NAN", "null", "NULL", "Null", "None", "NA", "N/A", "n/a", "#N/A", "<NA>", "NaT", "nil"),
    "\\N",
)

WORDS_IN_BRACKETS = ("null", "NULL", "None", "nan", "NaN")

Notation = Literal["separated", "terminated", "brackets", "spaced", "quoted"]


@dataclass(frozen=True)
class TextFacts:
    """What only the whole of a table's text tells.

    ``integers`` are the vocabularies, and "@user", all of whose text is integers. ``lists`` says how the
    lists of a feature are written. ``time`` is the type of the time column's text, ``time_offset`` a zone
    offset that it carries, other than UTC.
    """

    integers: frozenset[str] = frozenset()
    lists: dict[str, Notation] = field(default_factory=dict)
    time: pl.DataType | None = None
    time_offset: str | None = None


def cell(value: pl.Expr, missing: Sequence[str] | None) -> pl.Expr:
    """The text without the whitespace around it; null where it is empty or one of the ``missing`` words."""
    text = value.str.strip_chars()
    return pl.when(~text.is_in(["", *(missing or [])])).then(text)


def is_no_number(text: pl.Expr) -> pl.Expr:
    """Whether a cell that is not missing is neither a number nor true or false."""
    is_one = text.str.contains(NUMBER) | text.str.contains(NOT_FINITE) | text.str.contains(BOOLEAN)
    return text.is_not_null() & ~is_one


def number(text: pl.Expr) -> pl.Expr:
    """A cell as Float64; null where it is no number."""
    words = {"true": 1.0, "false": 0.0}
    flag = text.str.to_lowercase().replace_strict(words, default=None, return_dtype=pl.Float64)
    return pl.coalesce(pl.when(~is_no_number(text)).then(text).cast(pl.Float64, strict=False), flag)


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
        text = value.str.strip_chars()
        text = pl.when(text != "").then(text).str.replace(WHOLE_FLOAT, "$1").str.replace(r"^-0$", "0")
    else:
        text = value.cast(pl.String)
    return text.cast(target)


def elements(text: pl.Expr, notation: Notation, separator: str | None) -> pl.Expr:
    """The elements of a cell as a list of text, each cleaned as a cell is; a missing cell has no list.

    ``separated``: cut at ``separator``. ``terminated``: the last element has one behind it, too.
    ``brackets``: [1, 2], (1, 2) or {1, 2}. ``spaced``: [1 2], as numpy prints it. ``quoted``: brackets
    around quoted text, as JSON or Python writes it. Within brackets null, None and NaN are missing.
    """
    if notation == "quoted":
        return text.map_elements(quoted_elements, return_dtype=pl.List(pl.String))
    if notation in ("brackets", "spaced"):
        body = text.str.slice(1, text.str.len_chars() - 2).str.strip_chars()
        cut = (body.str.replace_all(r"\s+", ",") if notation == "spaced" else body).str.split(",")
        listed = pl.when(body != "").then(cut).when(text.is_not_null()).then(pl.lit([], pl.List(pl.String)))
        return listed.list.eval(cell(pl.element(), WORDS_IN_BRACKETS))
    assert separator is not None, "text is cut by a separator"
    if notation == "terminated":
        text = text.str.strip_suffix(separator)
    return text.str.split(separator).list.eval(cell(pl.element(), None))


def quoted_elements(text: str) -> list[str | None] | None:
    """The elements of a JSON or Python list; None where it is neither, or holds lists itself."""
    try:
        found = json.loads(text, parse_int=str, parse_float=str)  # numbers stay as they are written
    except (ValueError, RecursionError):
        try:
            found = ast.literal_eval(text)
        except (ValueError, SyntaxError, MemoryError, RecursionError, TypeError):
            return None
    nested = (list, tuple, dict, set)
    if not isinstance(found, list | tuple | set) or any(isinstance(value, nested) for value in found):
        return None
    return [None if value is None or value != value else str(value).strip() or None for value in found]


def time(text: pl.Expr, dtype: pl.DataType) -> pl.Expr:
    """Cells as the type that all are written in; null where a cell is no such time."""
    if dtype.is_numeric():
        return text.cast(dtype, strict=False)
    if dtype == pl.Date:
        return text.str.to_date("%Y-%m-%d", strict=False)
    whole = text.str.replace("T", " ", literal=True).str.replace(r"^(\S+ \d\d:\d\d)($|[^:\d])", "$1:00$2")
    if getattr(dtype, "time_zone", None) is None:
        return whole.str.to_datetime("%Y-%m-%d %H:%M:%S%.f", time_unit="us", strict=False)
    zoned = whole.str.replace(r" ?Z$", "+00:00").str.replace(r" ([+-]\d\d:?\d\d)$", "$1")
    zoned = zoned.str.replace(r"([+-]\d\d)(\d\d)$", "$1:$2")
    return zoned.str.to_datetime("%Y-%m-%d %H:%M:%S%.f%:z", time_unit="us", time_zone="UTC", strict=False)


def inner(dtype: pl.DataType) -> pl.DataType:
    """The type of a list's elements."""
    found = dtype.inner  # type: ignore[attr-defined]
    return found() if isinstance(found, type) else found


def first_line(error: Exception) -> str:
    """The first line of an error of polars, which is all that does not speak of a query's plan."""
    lines = str(error).strip().splitlines()
    return lines[0].partition("Resolved plan")[0].strip() if lines else type(error).__name__
