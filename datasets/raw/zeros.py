"""Ids with leading zeros beside the same ids without them: 007 and 7 are two categories."""

from __future__ import annotations

from collections.abc import Mapping

import polars as pl

from datasets.raw.cells import any_of, cells_of, element_of
from datasets.raw.columns import Use
from datasets.raw.table import RawTable
from datasets.raw.text import Notation, category
from files.errors import InputError

LEADING_ZERO = r"^-?0[0-9]+(\.0*)?$"
ZEROS, NO_LEADING_ZERO = r"^(-?)0+([0-9])", r"^(0|-?[1-9][0-9]*)$"


def check_zeros(
    table: RawTable, texts: list[Use], columns: Mapping[str | None, str], lists: Mapping[str, Notation]
) -> None:
    """Refuses ids with leading zeros where a column of the vocabulary, in ``columns``, holds integers."""
    zeros = {
        str(number): any_of(cells_of(table, use, lists), has_leading_zero)
        for number, use in enumerate(texts)
        if element_of(table, use) == pl.String
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


def compare_zeros(
    table: RawTable, categories: list[Use], padded: list[Use], lists: Mapping[str, Notation]
) -> dict[str, int | float | str]:
    """Notes on ids that a column holds with leading zeros and without, as 007 and 7.

    Refuses those that a column of a vocabulary holds with them, and another only without, as `check_zeros`
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
    value, element = pairs["value"][0], element_of(table, use)
    holds = any_of(cells_of(table, use, lists), lambda cell: category(cell, element, pl.String()) == value)
    place, _ = table.example(use.column, holds)
    return InputError(
        f"{place}: column {use.column!r} of {use.what} holds {value!r}, but column {other.column!r} of the "
        f"same vocabulary holds {pairs['padded'][0]!r}, which is another category; write both in the same way"
    )


def _have_several_widths(table: RawTable, uses: list[Use], lists: Mapping[str, Notation]) -> bool:
    """Whether an integer without leading zeros is shorter than one with them: else all are of one width."""
    text, width = pl.col("value"), pl.col("value").str.len_bytes()
    widths = pl.concat([_categories(table, use, lists) for use in uses]).select(
        pl.when(has_leading_zero(text)).then(width).max().alias("padded"),
        pl.when(text.str.contains(NO_LEADING_ZERO)).then(width).min().alias("plain"),
    )
    padded, plain = widths.collect(engine="streaming").row(0)
    return plain is not None and plain < padded


def _ids_with_zeros(table: RawTable, uses: list[Use], lists: Mapping[str, Notation]) -> pl.DataFrame:
    """Every id with leading zeros (``padded``), and what it is without them (``value``)."""
    ids = pl.concat([_categories(table, use, lists) for use in uses])
    without = pl.col("value").str.replace(ZEROS, "$1$2").str.replace("^-0$", "0")
    found = ids.filter(has_leading_zero(pl.col("value"))).unique().select(padded="value", value=without)
    return found.collect(engine="streaming")


def _pairs(table: RawTable, use: Use, lists: Mapping[str, Notation], ids: pl.DataFrame) -> pl.DataFrame:
    """The ids without leading zeros that a use holds, each beside those with them, sorted."""
    found = _categories(table, use, lists).join(ids.lazy(), on="value").unique()
    return found.collect(engine="streaming").sort("value", "padded")


def _categories(table: RawTable, use: Use, lists: Mapping[str, Notation]) -> pl.LazyFrame:
    """The categories of a use as text, one a row."""
    cells, is_list = cells_of(table, use, lists)
    values = table.frame.select(value=cells)
    if is_list:
        values = values.explode("value")
    return values.select(category(pl.col("value"), element_of(table, use), pl.String())).drop_nulls()


def has_leading_zero(text: pl.Expr) -> pl.Expr:
    return text.str.contains(LEADING_ZERO)
