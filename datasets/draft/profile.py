"""Counts what the columns of a table hold, over all rows, a few columns at a time."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field, replace
from typing import Any, Literal

import polars as pl

from datasets.draft.table import DraftTable, Report
from datasets.raw.lists import BRACKETED, ONLY_TOKENS
from datasets.raw.text import (
    BOOLEAN,
    INTEGER,
    NUMBER,
    WORDS_FOR_MISSING,
    Notation,
    cell,
    elements,
    inner,
    is_no_number,
    number,
    time,
)
from datasets.raw.times import TYPES, WRITTEN

COLUMNS_AT_ONCE = 6
SAMPLE_ROWS = 60_000
SAMPLE_SLICES = 12
LIST_SEPARATORS = ("|", ";", ",", " ", "^", "#")
EPOCHS = {"s": 1, "ms": 10**3, "us": 10**6, "ns": 10**9}
FIRST_EPOCH, LAST_EPOCH = 946_684_800, 2_524_608_000  # 2000 to 2050, in seconds
URL = r"^(https?|ftp|s3)://"
MOST_CATEGORIES = 5_000_000

Form = Literal["integer", "number", "boolean", "text", "list", "vector", "time", "nothing"]


@dataclass(frozen=True)
class Column:
    """One column: its form, and what was counted over all rows.

    ``low`` and ``high`` are those of numbers, the shortest and longest of lists. ``unit`` is that of an
    epoch, which is a time as well as a number. ``words`` are texts that may stand for a missing value.
    """

    name: str
    dtype: pl.DataType
    rows: int
    missing: int
    distinct: int
    form: Form
    low: float | None = None
    high: float | None = None
    unit: Literal["s", "ms", "us", "ns"] | None = None
    time_type: pl.DataType | None = None
    notation: Notation | None = None
    separator: str | None = None
    words: tuple[str, ...] = ()
    characters: float = 0.0  # of a text, on average
    is_url: bool = False
    sample: pl.Series = field(default_factory=lambda: pl.Series([]), repr=False)

    @property
    def known(self) -> int:
        return self.rows - self.missing

    @property
    def is_binary(self) -> bool:
        return self.form == "boolean" or (
            self.form in ("integer", "number") and (self.low, self.high) == (0, 1) and self.distinct == 2
        )


def profile(table: DraftTable, report: Report) -> tuple[dict[str, Column], pl.DataFrame]:
    """Every column's profile, and a sample of rows in which each column has the type of its form."""
    names = list(table.types)
    raw = sample(table)
    columns: dict[str, Column] = {}
    for first in range(0, len(names), COLUMNS_AT_ONCE):
        stretch = names[first : first + COLUMNS_AT_ONCE]
        report(f"counting {stretch[0]}", first / len(names))
        counts = table.frame.select(list(_counts(table.types, stretch))).collect(engine="streaming")
        found = counts.row(0, named=True)
        for name in stretch:
            own = {key[len(name) + 1 :]: value for key, value in found.items() if key.startswith(f"{name}\0")}
            columns[name] = _judged(name, table.types[name], own, raw[name])
    report("", 1.0)
    columns = {name: replace(column, sample=typed(raw, column)) for name, column in columns.items()}
    return columns, pl.DataFrame({name: column.sample for name, column in columns.items()})


def sample(table: DraftTable) -> pl.DataFrame:
    """Up to SAMPLE_ROWS rows, in blocks spread over the files, in their order."""
    rows = [part.select(pl.len()).collect().item() for part in table.parts]
    total = sum(rows)
    if total <= SAMPLE_ROWS:
        return table.frame.collect()
    length = SAMPLE_ROWS // SAMPLE_SLICES
    starts = [round(number * (total - length) / (SAMPLE_SLICES - 1)) for number in range(SAMPLE_SLICES)]
    pieces = []
    for start in starts:
        before = 0
        for part, height in zip(table.parts, rows, strict=True):
            first, last = max(start, before) - before, min(start + length, before + height) - before
            if last > first:
                pieces.append(part.slice(first, last - first).collect())
            before += height
    return pl.concat(pieces)


def _counts(types: Mapping[str, pl.DataType], names: list[str]) -> Iterator[pl.Expr]:
    """The counts of each column; each is named by the column, a zero byte and a key."""
    for name in names:
        dtype = types[name]
        for key, value in _facts_by_type(pl.col(name), dtype).items():
            yield value.alias(f"{name}\0{key}")


def _facts_by_type(value: pl.Expr, dtype: pl.DataType) -> dict[str, pl.Expr]:
    if dtype == pl.String:
        return _text_facts(value)
    if isinstance(dtype, pl.List | pl.Array):
        return _list_facts(value.cast(pl.List(inner(dtype))), inner(dtype))
    known = value.is_not_null()
    if dtype.is_numeric():
        value = pl.when(value.cast(pl.Float64).is_finite()).then(value)
        known = value.is_not_null()
    found = {"rows": pl.len(), "known": known.sum(), "distinct": value.drop_nulls().approx_n_unique()}
    if dtype.is_numeric():
        floats = value.cast(pl.Float64)
        found |= {"low": floats.min(), "high": floats.max(), "whole": (floats.floor() == floats).all()}
    return found


def _text_facts(value: pl.Expr) -> dict[str, pl.Expr]:
    text = cell(value, WORDS_FOR_MISSING)
    written = {f"time {way}": text.str.contains(pattern).sum() for way, pattern in WRITTEN.items()}
    numbers = pl.when(~is_no_number(text)).then(number(text))
    return {
        "rows": pl.len(),
        "known": text.is_not_null().sum(),
        "distinct": text.drop_nulls().approx_n_unique(),
        "numbers": text.str.contains(NUMBER).sum(),
        "integers": text.str.contains(INTEGER).sum(),
        "booleans": text.str.contains(BOOLEAN).sum(),
        "bracketed": text.str.contains(BRACKETED).sum(),
        "urls": text.str.contains(URL).sum(),
        "characters": text.str.len_chars().mean(),
        "low": numbers.min(),
        "high": numbers.max(),
        "words": value.str.strip_chars()
        .filter(value.str.strip_chars().is_in(WORDS_FOR_MISSING))
        .unique()
        .sort()
        .implode(),
        **written,
        **{f"holds {s}": text.str.contains(s, literal=True).sum() for s in LIST_SEPARATORS},
    }


def _list_facts(value: pl.Expr, element: pl.DataType) -> dict[str, pl.Expr]:
    lengths = pl.when(value.list.len() > 0).then(value.list.len())
    found = {
        "rows": pl.len(),
        "known": lengths.is_not_null().sum(),
        "distinct": lengths.drop_nulls().approx_n_unique(),
        "low": lengths.min(),
        "high": lengths.max(),
        "numbers": pl.lit(element.is_float()),
    }
    if element == pl.String:
        is_float = value.list.eval(pl.element().str.contains(NUMBER) & ~pl.element().str.contains(INTEGER))
        found["numbers"] = is_float.list.any().fill_null(False).any()
    elif element.is_float():
        whole = value.list.eval(pl.element().floor() == pl.element()).list.all()
        found["numbers"] = ~whole.fill_null(True).all()
    return found


def _judged(name: str, dtype: pl.DataType, counts: dict[str, Any], raw: pl.Series) -> Column:
    rows, known = counts["rows"], counts["known"] or 0
    # A sketch of the distinct values may err by some percent; it cannot exceed what there is.
    column = Column(name, dtype, rows, rows - known, min(counts["distinct"] or 0, known), "nothing")
    if not known:
        return replace(column, words=tuple(counts.get("words") or ()))
    if dtype == pl.String:
        return _judged_text(column, counts, raw)
    if isinstance(dtype, pl.List | pl.Array):
        is_vector = counts["numbers"] and counts["low"] == counts["high"] > 1
        form: Form = "vector" if is_vector else "list"
        return replace(column, form=form, low=counts["low"], high=counts["high"])
    if dtype == pl.Boolean:
        return replace(column, form="boolean", low=0, high=1)
    if dtype.is_temporal():
        return replace(column, form="time", time_type=dtype)
    return _as_number(column, counts["low"], counts["high"], counts["whole"], dtype.is_integer())


def _as_number(column: Column, low: float, high: float, is_whole: bool, is_integer: bool) -> Column:
    form: Form = "integer" if is_whole else "number"
    unit = None
    for name, per_second in EPOCHS.items():
        if FIRST_EPOCH * per_second <= low and high <= LAST_EPOCH * per_second:
            unit = name
    kind = pl.Int64() if is_integer else pl.Float64()
    distinct = min(column.distinct, int(high - low) + 1) if is_whole else column.distinct
    return replace(column, form=form, low=low, high=high, unit=unit, time_type=kind, distinct=distinct)  # type: ignore[arg-type]


def _judged_text(column: Column, counts: dict[str, Any], raw: pl.Series) -> Column:
    known = column.known
    column = replace(
        column,
        words=tuple(counts["words"]),
        characters=counts["characters"] or 0.0,
        is_url=counts["urls"] > 0.9 * known,
    )
    ways = [way for way in WRITTEN if counts[f"time {way}"] == known]
    if ways and not TYPES[ways[0]].is_numeric():
        return replace(column, form="time", time_type=TYPES[ways[0]])
    if counts["booleans"] == known:
        return replace(column, form="boolean", low=0, high=1)
    if counts["numbers"] == known:
        is_integer = counts["integers"] == known
        has_leading_zeros = not is_integer and counts["low"] == int(counts["low"]) and _leads_with_zero(raw)
        if has_leading_zeros:
            return replace(column, form="text")
        whole = is_integer or _is_whole(raw)
        return _as_number(column, counts["low"], counts["high"], whole, is_integer)
    if counts["bracketed"] == known:
        return _judged_list(column, None, raw)
    for separator in LIST_SEPARATORS:
        if counts[f"holds {separator}"] and _is_list_separator(raw, separator, counts, column):
            return _judged_list(column, separator, raw)
    return replace(column, form="text")


def _leads_with_zero(raw: pl.Series) -> bool:
    return bool(raw.str.strip_chars().str.contains(r"^-?0\d").any())


def _is_whole(raw: pl.Series) -> bool:
    floats = raw.str.strip_chars().cast(pl.Float64, strict=False)
    return bool((floats.floor() == floats).all())


def _is_list_separator(raw: pl.Series, separator: str, counts: dict[str, Any], column: Column) -> bool:
    """Whether texts are lists: elements repeat, and there are fewer different elements than texts.

    Ordinary text has commas and spaces, too; with these separators the elements must be ids or tags.
    """
    texts = raw.str.strip_chars().drop_nulls().filter(raw.drop_nulls() != "")
    if counts[f"holds {separator}"] < 0.05 * column.known or not len(texts):
        return False
    parts = texts.str.split(separator).explode().str.strip_chars()
    parts = parts.filter(parts != "")
    if not len(parts) or parts.str.len_chars().mean() > 24:  # type: ignore[operator]
        return False
    if _are_vectors(texts, parts, separator):
        return True
    has_words = separator in (",", " ") and bool(parts.str.contains(r"\s").any())
    if separator == " ":
        has_words = has_words or not parts.str.contains(r"^[-+.\deE]+$").all()
    return not has_words and parts.n_unique() < texts.n_unique() * (1 if separator in "|;^#" else 0.7) + 50


def _are_vectors(texts: pl.Series, parts: pl.Series, separator: str) -> bool:
    """Whether every text has the same number of numbers, and not all are integers."""
    counts = texts.str.count_matches(separator, literal=True)
    are_numbers = bool(parts.str.contains(NUMBER).all()) and not parts.str.contains(INTEGER).all()
    return are_numbers and counts.n_unique() == 1


def _judged_list(column: Column, separator: str | None, raw: pl.Series) -> Column:
    texts = cell(pl.col("x"), WORDS_FOR_MISSING)
    frame = raw.alias("x").to_frame().select(texts).drop_nulls()
    notation: Notation = "separated"
    if separator is None:
        body = frame["x"].str.slice(1)
        has_quotes = bool(body.str.contains("['\"]").any())
        has_commas = bool(body.str.contains(",", literal=True).any())
        has_spaces = bool(body.str.contains(r"\S\s+\S").any())
        notation = "quoted" if has_quotes else "brackets" if has_commas or not has_spaces else "spaced"
        if notation == "spaced" and not bool(frame["x"].str.contains(ONLY_TOKENS).all()):
            notation, separator = "cut in brackets", " "  # words, of which the schema must say it
    elif bool(
        frame["x"].filter(frame["x"].str.contains(separator, literal=True)).str.ends_with(separator).all()
    ):
        notation = "terminated"
    column = replace(column, form="list", notation=notation, separator=separator)
    listed = typed(raw.to_frame(), column).drop_nulls()
    lengths = listed.list.len()
    lengths = lengths.filter(lengths > 0)
    if not len(lengths):
        return replace(column, form="text")
    low, high = float(lengths.min()), float(lengths.max())  # type: ignore[arg-type]
    parts = listed.explode().drop_nulls()
    are_numbers = bool(parts.str.contains(NUMBER).all()) and not parts.str.contains(INTEGER).all()
    is_vector = are_numbers and low == high > 1
    return replace(column, form="vector" if is_vector else "list", low=low, high=high)


def typed(raw: pl.DataFrame, column: Column) -> pl.Series:
    """The sample of a column as :func:`typed_values`."""
    return raw.select(typed_values(column).alias(column.name)).to_series()


def typed_values(column: Column) -> pl.Expr:
    """A column as what it holds: numbers as Float64, times as they are, lists of text or of numbers."""
    value, dtype = pl.col(column.name), column.dtype
    text = cell(value, WORDS_FOR_MISSING) if dtype == pl.String else None
    if column.form in ("list", "vector"):
        if text is not None:
            assert column.notation is not None, "text is cut by some notation"
            value = elements(text, column.notation, column.separator)
        else:
            value = value.cast(pl.List(inner(dtype)))
        return pl.when(value.list.len() > 0).then(value)
    if column.form in ("integer", "number", "boolean"):
        value = number(text) if text is not None else value.cast(pl.Float64)
        return pl.when(value.is_finite()).then(value)
    if text is None:
        return value
    if column.form == "time":
        assert column.time_type is not None, "a time has a type"
        return time(text, column.time_type)
    return text
