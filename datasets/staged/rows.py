"""The checks of staged rows, and what the training rows among them hold."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path

import polars as pl

from datasets.prepare.learn import MomentsByPlace, learned_tables, merged_moments, moments_of
from datasets.prepare.split import SPLITS
from datasets.prepare.stage import check_values
from datasets.schema import ColumnSplit, Schema
from files.errors import InputError

CATEGORY = (pl.Int64(), pl.String())
CATEGORIES = (pl.List(pl.Int64), pl.List(pl.String))
DAYS = 2**31  # before and after 1970-01-01
UNCLEAN = "holds text that is empty or has space around it"


@dataclass(frozen=True)
class Facts:
    """Of some training rows, how many values each vocabulary has in them, and their numbers' moments."""

    elements: Counter[str]
    moments: MomentsByPlace


def together(schema: Schema, found: Iterable[Facts]) -> Facts:
    """Those of several stretches of rows, in order."""
    elements: Counter[str] = Counter()

    def moments() -> Iterable[MomentsByPlace]:
        for facts in found:
            elements.update(facts.elements)
            yield facts.moments

    return Facts(elements, merged_moments(schema, moments()))


def check_types(schema: Schema, time: pl.DataType | None, files: Sequence[Path]) -> dict[str, pl.DataType]:
    """The type of each vocabulary's categories.

    Raises InputError where a file lacks a column or has one too many, or its types are not those of staging.
    All files have the same columns in the same order, and all features of a vocabulary the same type.
    """
    allowed = _allowed_types(schema, time)
    first: dict[str, pl.DataType] = {}
    for file in files:
        found = dict(pl.read_parquet_schema(file))
        for name in sorted(allowed.keys() ^ found.keys()):
            what = "is no staged column; leave it out" if name in found else "is missing; add it"
            raise InputError(f"{file}: column {name!r} {what}")
        for name, types in allowed.items():
            if found[name] not in types:
                wanted = " or ".join(map(str, types))
                raise InputError(f"{file}: column {name!r} holds {found[name]}, not {wanted}; write it so")
        first = first or found
        if list(found.items()) != list(first.items()):
            raise InputError(f"{file}: columns or types differ from those of {files[0]}; write both alike")
    elements: dict[str, pl.DataType] = {}
    for feature in schema.sparse_features:
        element = _element(first[feature.name])
        if elements.setdefault(feature.table, element) != element:
            raise InputError(
                f"{files[0]}: column {feature.name!r} holds {element}, and another of vocabulary "
                f"{feature.table!r} {elements[feature.table]}; write both as text"
            )
    return elements


def _element(dtype: pl.DataType) -> pl.DataType:
    return dtype.inner if isinstance(dtype, pl.List) else dtype  # type: ignore[return-value]


def _allowed_types(schema: Schema, time: pl.DataType | None) -> dict[str, tuple[pl.DataType, ...]]:
    """The types that each staged column may have."""
    number = (pl.Float64(),)
    allowed: dict[str, tuple[pl.DataType, ...]] = {}
    for feature in schema.features:
        if feature.is_sparse:
            allowed[feature.name] = CATEGORIES if feature.is_list else CATEGORY
        else:
            allowed[feature.name] = (pl.List(pl.Float64),) if feature.kind == "vector" else number
    if schema.user_id is not None:
        allowed["@user"] = CATEGORY
    for task in schema.tasks:
        allowed[f"@label.{task.name}"] = number
        if task.probability:
            allowed[f"@probability.{task.name}"] = number
    if time is not None:
        allowed["@time"] = number if time.is_float() else (pl.Int64(),)
    for column, is_there in (("@tier", schema.tier), ("@baseline", schema.baseline)):
        if is_there:
            allowed[column] = number
    if isinstance(schema.split, ColumnSplit):
        allowed["@split"] = (pl.String(),)
    return allowed


def check_times(files: Sequence[Path], time: pl.DataType) -> None:
    """InputError where a row of a split comes before one of an earlier time, in one file or two.

    ``time``: what the numbers stand for. InputError also where a row has none, or one beyond all dates.
    """
    latest = None
    for file in files:
        times = pl.read_parquet(file, columns=["@time"], glob=False)["@time"]
        if times.null_count() or (times.dtype.is_float() and times.is_nan().any()):
            raise InputError(f"{file}: column '@time' is empty in some row; give every row a time")
        if not times.is_sorted():
            raise InputError(f"{file}: its rows are not in the order of '@time'; sort them")
        if time == pl.Date and not (times[0] >= -DAYS and times[-1] < DAYS):
            raise InputError(
                f"{file}: column '@time' holds {times[0]} to {times[-1]}, beyond the days since 1970-01-01 a "
                "date can hold; count days, or state the time's type"
            )
        if latest is not None and times[0] < latest:
            raise InputError(
                f"{file}: begins at time {times[0]}, and the file before it ends at {latest}; name the files "
                "in the order of time"
            )
        latest = times[-1]


def checked_rows(
    schema: Schema, rows: pl.DataFrame, code: pl.Expr, split: int, file: Path, start: int
) -> Facts:
    """What rows of a split hold, empty unless they train; ``start`` is the number of the first in ``file``.

    Raises InputError on the first row with a value that staging would have refused, written otherwise, or put
    into another split.
    """
    check_values(schema, rows, start, str(file))
    for name, wrong, what in _forms(schema):
        if len(found := rows.select(wrong.fill_null(False).arg_true()).to_series()):
            raise InputError(f"{file}: column {name!r} {what} in row {start + found[0]} (counted from 0)")
    codes = rows.select(code.alias("code"))["code"]
    if len(found := (codes != split).arg_true()):
        raise InputError(
            f"{file}: row {start + found[0]} (counted from 0) belongs to {SPLITS[codes[found[0]]]} by the "
            "schema's split; move it there"
        )
    if SPLITS[split] != "train":
        return Facts(Counter(), {})
    elements = {
        table: sum(len(rows[feature.name].explode().drop_nulls()) for feature in features)
        for table, features in learned_tables(schema).items()
    }
    return Facts(Counter(elements), moments_of(schema, rows))


def _forms(schema: Schema) -> list[tuple[str, pl.Expr, str]]:
    """Of each column, what staging never writes, and how to say it."""
    found: list[tuple[str, pl.Expr, str]] = []
    numbers = [feature.name for feature in schema.numeric_features] + (
        ["@baseline"] if schema.baseline else []
    )
    for name in numbers:
        found.append((name, ~pl.col(name).is_finite(), "holds a number that is not finite, not a null"))
    for feature in schema.sparse_features:
        value = pl.col(feature.name)
        if feature.is_list:
            found.append((feature.name, value.is_null(), "holds a null, not an empty list"))
            too_long = value.list.len() > feature.max_length
            found.append((feature.name, too_long, f"holds a list of over {feature.max_length} elements"))
            if feature.kind == "multi_hot":
                has_null = value.list.eval(pl.element().is_null()).list.any()
                found.append((feature.name, has_null, "holds a list with a null, which a multi_hot drops"))
        unclean = (
            value.list.eval(_is_unclean(pl.element())).list.any() if feature.is_list else _is_unclean(value)
        )
        found.append((feature.name, unclean, UNCLEAN))
    if schema.user_id is not None:
        found.append(("@user", _is_unclean(pl.col("@user")), UNCLEAN))
    return found


def _is_unclean(value: pl.Expr) -> pl.Expr:
    """Whether a category is empty text, or has space around it; of integers, none is."""
    text = value.cast(pl.String)
    return (text == "") | (text != text.str.strip_chars())
