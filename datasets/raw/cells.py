"""The categories in the cells of a column: one a row, or a list of them, in whatever notation."""

from __future__ import annotations

from collections.abc import Callable, Mapping

import polars as pl

from datasets.raw.columns import Use
from datasets.raw.table import RawTable
from datasets.raw.text import Notation, elements, inner, without_missing


def element_of(table: RawTable, use: Use) -> pl.DataType:
    """The type of one category."""
    dtype = table.types[use.column]
    return inner(dtype) if isinstance(dtype, pl.List | pl.Array) else dtype


def cells_of(table: RawTable, use: Use, lists: Mapping[str, Notation]) -> tuple[pl.Expr, bool]:
    """The known categories of a use, in the column's type, and whether each row has a list of them."""
    dtype, element, missing = table.types[use.column], element_of(table, use), table.schema.missing
    found = pl.col(use.column)
    if isinstance(dtype, pl.List | pl.Array):
        found = found.cast(pl.List(element))
    elif use.role == "list" and use.feature is not None and dtype == pl.String:
        found = elements(table.cell(use.column), lists[use.feature.name], use.feature.separator)
    else:
        return without_missing(found, element, missing), False
    return found.list.eval(without_missing(pl.element(), element, missing)), True


def any_of(cells: tuple[pl.Expr, bool], condition: Callable[[pl.Expr], pl.Expr]) -> pl.Expr:
    """Whether a row's category, or one in its list, meets the condition; ``cells`` are of `cells_of`."""
    value, is_list = cells
    if is_list:
        return value.list.eval(condition(pl.element().drop_nulls()).any()).list.first().fill_null(False)
    return condition(value)


def first_of(cells: tuple[pl.Expr, bool], condition: Callable[[pl.Expr], pl.Expr]) -> pl.Expr:
    """The first element of a row that meets the condition."""
    value, is_list = cells
    return value.list.eval(pl.element().filter(condition(pl.element()))).list.first() if is_list else value
