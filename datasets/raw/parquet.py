"""Parquet files as one table: their types are compared before anything is read, then unified."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path

import polars as pl
import pyarrow as pa
import pyarrow.parquet as pq

from datasets.raw.columns import FILE_COLUMN, LINE_COLUMN, Role, Use, wanted_columns
from datasets.raw.delimited import require_columns
from datasets.raw.files import TableFile
from datasets.raw.floats import is_narrow, widened
from datasets.raw.text import POLARS_ERRORS, category, first_line, inner
from datasets.raw.types import agreed_type, simple
from files.errors import InputError

EXACT_INTEGERS: dict[type, int] = {
    pl.Float16: 2**11,
    pl.Float32: 2**24,
    pl.Float64: 2**53,
}  # above this, one float stands for several integers


def agreed_frames(
    files: list[TableFile],
    places: Mapping[str, Path],
    uses: list[Use],
    missing: Sequence[str] | None = None,
) -> list[pl.LazyFrame]:
    """The named columns of each file, in types that all files share, and each row's place.

    ``places`` maps a file's name to its columns as parquet. ``FILE_COLUMN`` is the file's
    number, ``LINE_COLUMN`` its line, or its row (from 0) in a parquet file. Partition columns are text. A
    ``missing`` word that is a number is null in floats of fewer than 64 bits.
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
    plain = set(columns) - {use.column for use in uses if not _is_plain(use)}
    for file, frame, found in zip(files, frames, types, strict=True):
        _check_exact_ids(file, frame, found, ids, named)
        _check_bytes_are_text(file, frame, found)
    return [
        frame.select(
            *(as_agreed(c, found[c], agreed[c], c in plain, missing) for c in columns),
            pl.lit(number, pl.UInt32).alias(FILE_COLUMN),
            pl.col(LINE_COLUMN).cast(pl.Int64),
        )
        for number, (frame, found) in enumerate(zip(frames, types, strict=True))
    ]


def _scan(file: TableFile, place: Path, wanted: Mapping[str, str]) -> pl.LazyFrame:
    try:
        _check_zones(file, pq.read_schema(place.absolute()))  # arrow takes day-1T10:30.parquet for a URI
        frame = pl.scan_parquet(place, glob=False, hive_partitioning=False)
        header = frame.collect_schema().names()
    except (*POLARS_ERRORS, pa.ArrowException, OSError) as error:
        raise InputError(
            f"{file.path}: cannot be read as a parquet table ({first_line(error)}); mend the file"
        ) from None
    if file.format == "parquet":
        require_columns(file, header, wanted, may_guess=False)
        frame = frame.select(name for name in wanted if name in header).with_row_index(LINE_COLUMN)
    return frame.with_columns(
        pl.lit(value, pl.String).alias(name) for name, value in file.partition.items() if name in wanted
    )


def _check_zones(file: TableFile, schema: pa.Schema) -> None:
    """Refuses unknown time zones: polars ends the whole process at one, even in a column that is not read."""
    for field in schema:
        for zone in _zones(field.type):
            try:
                pl.Series([0]).cast(pl.Datetime("us", zone))
            except pl.exceptions.PolarsError:
                raise InputError(
                    f"{file.path}: column {field.name!r} has the time zone {zone!r}, which is unknown; write "
                    "it in UTC"
                ) from None


def _zones(dtype: pa.DataType) -> Iterator[str]:
    if pa.types.is_timestamp(dtype) and dtype.tz is not None:
        yield dtype.tz
    if pa.types.is_struct(dtype):
        for number in range(dtype.num_fields):
            yield from _zones(dtype.field(number).type)
    elif hasattr(dtype, "value_type"):
        yield from _zones(dtype.value_type)


def _is_plain(use: Use) -> bool:
    """Whether a model reads the numbers, and nothing compares them with others."""
    return use.feature is not None and use.role in ("number", "vector")


def as_agreed(
    column: str,
    dtype: pl.DataType,
    agreed: pl.DataType,
    is_plain: bool = False,
    missing: Sequence[str] | None = None,
) -> pl.Expr:
    """A file's column in the type of all files; ``is_plain`` and ``missing`` as in `widened`."""
    if dtype == agreed:
        return pl.col(column)
    if isinstance(agreed, pl.List) and isinstance(dtype, pl.List | pl.Array):
        values, element = pl.col(column).cast(pl.List(inner(dtype))), inner(dtype)
        if is_narrow(element):
            values = values.list.eval(widened(pl.element(), element, is_plain, missing))
            element = pl.Float64()
        if inner(agreed) == pl.String and element.is_numeric():
            return values.list.eval(category(pl.element(), element, pl.String()))
        return values.cast(agreed)
    value = pl.col(column)
    if is_narrow(dtype):
        value, dtype = widened(value, dtype, is_plain, missing), pl.Float64()
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
    """Refuses ids that are too large for their float type, since different ids may have become equal."""
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
            finite = pl.when(pl.element().is_finite()).then(pl.element().abs())
            value = value.cast(pl.List(element)).list.eval(finite).list.max()
        wrong.append((use, element, limit, value.is_finite() & (value.abs() >= limit)))
    if not wrong:
        return
    found = frame.select(condition.any().alias(str(n)) for n, (*_, condition) in enumerate(wrong)).collect(
        engine="streaming"
    )
    for number, (use, element, limit, _) in enumerate(wrong):
        if found[str(number)][0]:
            others = [(name, found[use.column]) for name, found in all_types]
            differing = [f" ({other} in {name})" for name, other in others if other != types[use.column]]
            raise InputError(
                f"{file.path}: column {use.column!r} is {element}{''.join(differing[:1])} and holds numbers "
                f"of {limit:,} and more, where one float is several integers, but {use.what} needs exact "
                "ids; write it as integers in every file"
            )


def _check_bytes_are_text(file: TableFile, frame: pl.LazyFrame, types: Mapping[str, pl.DataType]) -> None:
    """Reads bytes as text: older writers (Hive, Impala, Spark's legacy mode) do not mark text as text."""
    for column, dtype in types.items():
        element = inner(dtype) if isinstance(dtype, pl.List | pl.Array) else dtype
        if element == pl.Binary:
            try:
                frame.select(pl.col(column).cast(simple(dtype)).is_null().any()).collect(engine="streaming")
            except pl.exceptions.PolarsError:
                raise InputError(
                    f"{file.path}: column {column!r} holds bytes that are no UTF-8 text; write it as text or "
                    "integers"
                ) from None
