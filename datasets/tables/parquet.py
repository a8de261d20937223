"""Parquet files side by side: types compared before anything is read, then brought to one."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

import polars as pl

from datasets.errors import InputError
from datasets.tables.blocks import LINE_COLUMN
from datasets.tables.columns import Role, Use, wanted_columns
from datasets.tables.delimited import require_columns
from datasets.tables.files import TableFile
from datasets.tables.types import agreed_type
from datasets.text import category, first_line, inner

FILE_COLUMN = "@file"
EXACT_INTEGERS: dict[type, int] = {
    pl.Float32: 2**24,
    pl.Float64: 2**53,
}  # beyond, a float stands for several integers


def joined(files: list[TableFile], places: Mapping[str, Path], uses: list[Use]) -> pl.LazyFrame:
    """The named columns of all files, one after the other, and where each row stands.

    ``places`` says where a file's columns lie as parquet, by its name. ``FILE_COLUMN`` is the file's
    number, ``LINE_COLUMN`` its line, or its row (from 0) in a parquet file. Partition columns are text.
    Raises InputError where a file cannot be read, lacks a column, or differs from others in a type.
    """
    wanted = wanted_columns(uses)
    columns = list(wanted)
    frames = [_scan(file, places[file.name], wanted) for file in files]
    types = [dict(frame.collect_schema()) for frame in frames]
    roles: dict[str, set[Role]] = {c: {use.role for use in uses if use.column == c} for c in columns}
    named = list(zip((file.name for file in files), types, strict=True))
    agreed = {c: agreed_type(c, [(name, found[c]) for name, found in named], roles[c]) for c in columns}
    ids = [use for use in uses if use.role in ("category", "list")]
    for file, frame, found in zip(files, frames, types, strict=True):
        _check_exact_ids(file, frame, found, ids, named)
    return pl.concat(
        [
            frame.select(
                *(as_agreed(column, found[column], agreed[column]) for column in columns),
                pl.lit(number, pl.UInt32).alias(FILE_COLUMN),
                pl.col(LINE_COLUMN).cast(pl.Int64),
            )
            for number, (frame, found) in enumerate(zip(frames, types, strict=True))
        ],
        how="vertical",
    )


def _scan(file: TableFile, place: Path, wanted: Mapping[str, str]) -> pl.LazyFrame:
    try:
        frame = pl.scan_parquet(place, glob=False, hive_partitioning=False)
        header = frame.collect_schema().names()
    except (pl.exceptions.PolarsError, OSError) as error:
        raise InputError(
            f"{file.path}: cannot be read as a parquet table ({first_line(error)}); mend the file"
        ) from None
    for name in file.partition:
        if name in wanted and name in header:
            raise InputError(
                f"{file.path}: column {name!r} is in the file and in its folder's name; rename the folder's"
            )
    require_columns(file, [*header, *file.partition], wanted, may_guess=False)
    if LINE_COLUMN not in header:
        frame = frame.with_row_index(LINE_COLUMN)
    return frame.with_columns(
        pl.lit(value, pl.String).alias(name) for name, value in file.partition.items() if name in wanted
    )


def as_agreed(column: str, dtype: pl.DataType, agreed: pl.DataType) -> pl.Expr:
    value = pl.col(column)
    if dtype == agreed:
        return value
    if isinstance(agreed, pl.List) and isinstance(dtype, pl.List | pl.Array):
        values, element = value.cast(pl.List(inner(dtype))), inner(dtype)
        if inner(agreed) == pl.String and element.is_numeric():
            return values.list.eval(category(pl.element(), element, pl.String()))
        return values.cast(agreed)
    if agreed == pl.String and dtype.is_numeric():
        return category(value, dtype, pl.String())
    return value.cast(agreed)


def _check_exact_ids(
    file: TableFile,
    frame: pl.LazyFrame,
    types: Mapping[str, pl.DataType],
    uses: list[Use],
    all_types: list[tuple[str, dict[str, pl.DataType]]],
) -> None:
    """Floats so large that several integers are one float may have merged ids already."""
    wrong = []
    for use in {use.column: use for use in uses}.values():
        dtype = types[use.column]
        listed = isinstance(dtype, pl.List | pl.Array)
        element = inner(dtype) if listed else dtype
        limit = EXACT_INTEGERS.get(type(element))
        if limit is None:
            continue
        value = pl.col(use.column)
        if listed:
            value = value.cast(pl.List(element)).list.eval(pl.element().abs()).list.max()
        wrong.append((use, element, limit, value.abs() >= limit))
    if not wrong:
        return
    found = frame.select(condition.any().alias(str(n)) for n, (*_, condition) in enumerate(wrong)).collect(
        engine="streaming"
    )
    for number, (use, element, limit, _) in enumerate(wrong):
        if found[str(number)][0]:
            others = [(name, found[use.column]) for name, found in all_types]
            beside = [f" ({other} in {name})" for name, other in others if other != types[use.column]]
            raise InputError(
                f"{file.path}: column {use.column!r} is {element}{''.join(beside[:1])} and holds numbers of "
                f"{limit:,} and more, where one float is several integers, but {use.what} needs exact "
                "ids; write it as integers in every file"
            )
