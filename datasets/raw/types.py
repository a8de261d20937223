"""The common type of one column in several files.

Types are only widened where no value is lost; everything else is refused, naming both types and both files.
"""

from __future__ import annotations

import polars as pl

from datasets.raw.columns import Role
from datasets.raw.text import inner
from files.errors import InputError

INTEGERS = (pl.Int8, pl.Int16, pl.Int32, pl.Int64, pl.UInt8, pl.UInt16, pl.UInt32)
TEXTS = (pl.String, pl.Categorical, pl.Enum, pl.Binary)
IDS: set[Role] = {"category", "list"}
Typed = list[tuple[str, pl.DataType]]  # files' names and their types of one column


def agreed_type(column: str, found: Typed, roles: set[Role]) -> pl.DataType:
    """The type that holds every file's values without loss.

    ``String`` where the column is only used as categories and some files hold integers, others floats or
    decimals: whole numbers are the same text. Raises InputError naming the column, two types and two files.
    """
    types = [(file, simple(dtype)) for file, dtype in found]
    agreed = types[0][1]
    for number, (file, dtype) in enumerate(types[1:], start=1):
        both = _widened(agreed, dtype, roles)
        if both is None:
            others = [other for other in types[:number] if _widened(other[1], dtype, roles) is None]
            other_file, other = others[0] if others else types[0]
            raise InputError(
                f"column {column!r} is {other} in {other_file} but {dtype} in {file}; use one type in "
                "every file"
            )
        agreed = both
    numbers = {_element(dtype) for _, dtype in types} - {pl.Null()}
    if len(numbers) > 1 and roles <= IDS and all(_is_number(dtype) for dtype in numbers):
        return pl.List(pl.String()) if isinstance(agreed, pl.List) else pl.String()
    return agreed


def _element(dtype: pl.DataType) -> pl.DataType:
    return _element(inner(dtype)) if isinstance(dtype, pl.List) else dtype


def simple(dtype: pl.DataType) -> pl.DataType:
    """The type without details that do not matter: the kind of text, the width of integers, array or list."""
    if dtype in TEXTS:
        return pl.String()
    if dtype in INTEGERS:
        return pl.Int64()
    if dtype in (pl.Float32, pl.Float64) or dtype == getattr(pl, "Float16", None):
        return pl.Float64()
    if isinstance(dtype, pl.List | pl.Array):
        return pl.List(simple(inner(dtype)))
    return dtype


def _widened(one: pl.DataType, other: pl.DataType, roles: set[Role]) -> pl.DataType | None:
    if one == other or other == pl.Null:
        return one
    if one == pl.Null:
        return other
    if isinstance(one, pl.List) and isinstance(other, pl.List):
        both = _widened(inner(one), inner(other), roles)
        return None if both is None else pl.List(both)
    if isinstance(one, pl.Datetime) and isinstance(other, pl.Datetime) and one.time_zone == other.time_zone:
        return max(one, other, key=lambda dtype: ("ms", "us", "ns").index(dtype.time_unit))
    if not (_is_number(one) and _is_number(other)):
        return None
    are_ids = roles <= IDS and pl.Boolean not in (one, other)
    return pl.Float64() if roles <= {"number", "vector"} or are_ids else None


def _is_number(dtype: pl.DataType) -> bool:
    return dtype.is_numeric() or dtype == pl.Boolean
