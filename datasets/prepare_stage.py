"""First step of preparation: the raw table, typed and checked, as sorted runs on disk.

Staged columns are the features under their names (lists cut to their maximal length) and, under
names that no feature can have, ``@user``, ``@time``, ``@split``, ``@tier``, ``@baseline``,
``@label.<task>`` and ``@probability.<task>``. A run is a stretch of RUN_ROWS rows of the source,
sorted by time; runs are numbered in source order.

What counts as missing: null, NaN, an infinite number and empty text.
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import polars as pl
import pyarrow.parquet as pq

from datasets.errors import InputError
from datasets.schema import ColumnSplit, Feature, Schema

RUN_ROWS = 131_072
ROW_GROUP_ROWS = 8_192  # slices of a run are read by row group
_WIDE_INTEGERS = (pl.UInt64, pl.Int128, pl.UInt128)  # do not fit the vocabulary's Int64
RESERVED = ("user_index", "tier", "time", "baseline")


def stage(schema: Schema, frame: pl.LazyFrame, folder: Path) -> list[Path]:
    """Write the source as sorted runs into ``folder`` and return their paths in source order.

    Raises InputError where a column is absent or of the wrong type, or a value is not allowed.
    """
    where = f"dataset {schema.name!r}"
    try:
        types = dict(frame.collect_schema())
        staged = frame.select(staged_columns(schema, types, where))
        # Not collect_batches: its engine runs ahead of the consumer and holds over twice the memory.
        staged.sink_parquet(
            folder / "staged.parquet", compression="lz4", row_group_size=RUN_ROWS, engine="streaming"
        )
    except pl.exceptions.PolarsError as error:
        raise InputError(
            f"{where}: the raw table cannot be read ({_first_line(error)}); mend the file or the column"
        ) from error
    paths: list[Path] = []
    for start, table in _stretches(folder / "staged.parquet"):
        check_values(schema, table, start, where)
        path = folder / f"run-{len(paths):06d}.parquet"
        ordered = table.sort("@time", maintain_order=True) if schema.time else table
        pq.write_table(
            ordered.to_arrow(), path, compression="lz4", use_dictionary=False, row_group_size=ROW_GROUP_ROWS
        )
        paths.append(path)
    (folder / "staged.parquet").unlink()
    if not paths:
        raise InputError(f"{where}: the raw table has no rows; check its files and filters")
    return paths


def _stretches(path: Path) -> Iterator[tuple[int, pl.DataFrame]]:
    """RUN_ROWS rows at a time, each with the number of its first row."""
    rows = pl.scan_parquet(path).select(pl.len()).collect().item()
    for start in range(0, rows, RUN_ROWS):
        yield start, pl.scan_parquet(path).slice(start, RUN_ROWS).collect()


def _first_line(error: Exception) -> str:
    return str(error).strip().splitlines()[0]


def staged_columns(schema: Schema, types: dict[str, pl.DataType], where: str) -> list[pl.Expr]:
    """Expressions that turn the raw columns into the staged ones; InputError on a wrong column."""
    _check_names(schema, where)

    def dtype(column: str, wanted_by: str) -> pl.DataType:
        return _column_type(types, column, where, wanted_by)

    vocabulary_types = _vocabulary_types(schema, dtype, where)
    columns = []
    for feature in schema.features:
        what = f"feature {feature.name!r}"
        kind = dtype(feature.source_column, what)
        if feature.is_list:
            column = _list(feature, kind, vocabulary_types[feature.table])
        elif feature.is_sparse:
            column = category(pl.col(feature.source_column), kind, vocabulary_types[feature.table])
        else:
            column = _number(feature.source_column, kind, f"{where}: {what}")
        columns.append(column.alias(feature.name))

    user_type = dtype(schema.user_id, "user_id")
    user_kind = pl.Int64() if _fits_int64(user_type) else pl.String()
    columns.append(category(pl.col(schema.user_id), user_type, user_kind).alias("@user"))
    for task in schema.tasks:
        kind = dtype(task.source_column, f"task {task.name!r}")
        label = _number(task.source_column, kind, f"{where}: task {task.name!r}", keep_infinite=True)
        columns.append(label.alias(f"@label.{task.name}"))
        if task.probability:
            what = f"probability of task {task.name!r}"
            kind = dtype(task.probability, what)
            columns.append(
                _number(task.probability, kind, f"{where}: {what}").alias(f"@probability.{task.name}")
            )
    number = time_type(schema, types)
    if schema.time is not None and number is not None:
        time = pl.col(schema.time).cast(number).to_physical()
        columns.append(time.cast(pl.Float64 if number.is_float() else pl.Int64).alias("@time"))
    if schema.tier:
        columns.append(_number(schema.tier, dtype(schema.tier, "tier"), f"{where}: tier").alias("@tier"))
    if schema.baseline:
        what = f"baseline {schema.baseline.name!r}"
        kind = dtype(schema.baseline.column, what)
        columns.append(_number(schema.baseline.column, kind, f"{where}: {what}").alias("@baseline"))
    if isinstance(schema.split, ColumnSplit):
        dtype(schema.split.column, "split.column")
        columns.append(pl.col(schema.split.column).cast(pl.String).alias("@split"))
    return columns


def _check_names(schema: Schema, where: str) -> None:
    for name in schema.feature_names:
        if name in RESERVED or name.startswith(("label_", "probability_")):
            raise InputError(
                f"{where}: feature name {name!r} is taken by a column of the prepared table; "
                f"rename the feature and keep 'column: {name}'"
            )


def _fits_int64(dtype: pl.DataType) -> bool:
    return dtype.is_integer() and dtype not in _WIDE_INTEGERS


def _vocabulary_types(schema: Schema, dtype, where: str) -> dict[str, pl.DataType]:
    """Int64 for a vocabulary all of whose columns hold integers, else text."""
    integer: dict[str, bool] = {}
    for feature in schema.sparse_features:
        element = _element_type(feature, dtype(feature.source_column, f"feature {feature.name!r}"), where)
        integer[feature.table] = integer.get(feature.table, True) and _fits_int64(element)
    return {table: pl.Int64() if whole else pl.String() for table, whole in integer.items()}


def _element_type(feature: Feature, dtype: pl.DataType, where: str) -> pl.DataType:
    """The type of one category of a column, checked against the feature's kind."""
    what = f"{where}: feature {feature.name!r} ({feature.kind}): column {feature.source_column!r}"
    listed = isinstance(dtype, pl.List | pl.Array)
    if listed and not feature.is_list:
        raise InputError(f"{what} holds lists; make it a sequence or multi_hot, or choose another column")
    if feature.is_list and not listed:
        if dtype == pl.String and feature.separator:
            return dtype
        hint = "add 'separator: \",\"'" if dtype == pl.String else "choose a column of lists"
        raise InputError(f"{what} holds no lists but {dtype}; {hint} or make it categorical")
    element = _inner(dtype) if listed else dtype
    if element.is_nested() or element in (pl.Binary, pl.Object):
        raise InputError(f"{what} is of type {dtype}, which is no category; give integers, text or booleans")
    return element


def _inner(dtype: pl.DataType) -> pl.DataType:
    inner = dtype.inner  # type: ignore[attr-defined]
    return inner() if isinstance(inner, type) else inner


def category(value: pl.Expr, dtype: pl.DataType, target: pl.DataType) -> pl.Expr:
    """A category as Int64 or text; whole floats lose their ".0", so that ids match whatever wrote them."""
    if target == pl.Int64:
        return value.cast(pl.Int64)
    if dtype.is_float():
        finite = pl.when(value.is_finite()).then(value)
        whole = pl.when(finite.floor() == finite).then(finite.cast(pl.Int64, strict=False).cast(pl.String))
        return pl.coalesce(whole, finite.cast(pl.String))
    text = value.cast(pl.String)
    return pl.when(text != "").then(text)


def _list(feature: Feature, dtype: pl.DataType, target: pl.DataType) -> pl.Expr:
    """A list of categories, cut to max_length; null lists become empty.

    A missing element of a sequence stays, so that parallel sequences stay aligned; one of a
    multi-hot list is dropped.
    """
    values = pl.col(feature.source_column)
    if isinstance(dtype, pl.List | pl.Array):
        element = _inner(dtype)
        values = values.cast(pl.List(element))
        values = values.list.eval(category(pl.element(), element, target))
    else:
        values = pl.when(values.str.strip_chars() != "").then(values.str.split(feature.separator))
        values = values.list.eval(category(pl.element().str.strip_chars(), pl.String(), pl.String()))
    if feature.kind == "sequence":
        values = values.list.tail(feature.max_length)
    else:
        values = values.list.drop_nulls().list.head(feature.max_length)
    return values.fill_null([])


def _number(column: str, dtype: pl.DataType, what: str, keep_infinite: bool = False) -> pl.Expr:
    """A number as float64; null where it is missing, NaN or (unless kept, to be refused) infinite."""
    if not (dtype.is_numeric() or dtype == pl.Boolean or dtype == pl.Null):
        raise InputError(
            f"{what}: column {column!r} holds {dtype}, not numbers; mend the column or choose another"
        )
    value = pl.col(column).cast(pl.Float64)
    return pl.when(value.is_not_nan() if keep_infinite else value.is_finite()).then(value)


def time_type(schema: Schema, types: dict[str, pl.DataType]) -> pl.DataType | None:
    """The time column's type, checked; None without one. It is staged as the number behind it."""
    if schema.time is None:
        return None
    where = f"dataset {schema.name!r}"
    dtype = _column_type(types, schema.time, where, "time")
    if dtype.is_integer() and dtype not in _WIDE_INTEGERS:
        return pl.Int64()
    if dtype.is_float():
        return pl.Float64()
    if dtype == pl.Date or dtype == pl.Datetime:
        return dtype
    raise InputError(
        f"{where}: time: column {schema.time!r} holds {dtype}; give integers, dates or datetimes (ISO in CSV)"
    )


def _column_type(types: dict[str, pl.DataType], column: str, where: str, wanted_by: str) -> pl.DataType:
    if column not in types:
        known = ", ".join(sorted(types)[:20]) + (", ..." if len(types) > 20 else "")
        raise InputError(
            f"{where}: {wanted_by} needs column {column!r}, which the table lacks; it has {known}"
        )
    return types[column]


def check_values(schema: Schema, table: pl.DataFrame, start: int, where: str) -> None:
    """InputError on the first value of a staged table that is not allowed; ``start`` is its first row."""

    def refuse(wrong: pl.Expr, what: str, column: str, mend: str, shown: str | None = None) -> None:
        rows = table.with_row_index("@row", offset=start).filter(wrong)
        if rows.height:
            row = f"{rows['@row'][0]} (counted from 0)"
            value = "" if shown is None else f": {rows[shown][0]!r}"
            raise InputError(f"{where}: {what}: column {column!r} {mend.format(row=row, value=value)}")

    refuse(
        pl.col("@user").is_null(), "user_id", schema.user_id,
        "is empty in row {row}; drop the row or give it a user",
    )  # fmt: skip
    if schema.time:
        absent = pl.col("@time").cast(pl.Float64).fill_nan(None).is_null()
        refuse(absent, "time", schema.time, "is empty in row {row}; drop the row or give it a time")
    for task in schema.tasks:
        name = f"@label.{task.name}"
        refuse(
            ~pl.col(name).is_in([0.0, 1.0]), f"task {task.name!r}", task.source_column,
            "is neither 0, 1 nor empty in row {row}{value}; mend it or derive a 0/1 label from it", name,
        )  # fmt: skip
        if task.probability:
            name = f"@probability.{task.name}"
            refuse(
                pl.col(name).is_null() | ~pl.col(name).is_between(0, 1),
                f"probability of task {task.name!r}", task.probability,
                "is no probability in row {row}{value}; give a number from 0 to 1 in every row", name,
            )  # fmt: skip
    if schema.tier:
        refuse(
            pl.col("@tier").is_null() | ~pl.col("@tier").is_in([0.0, 1.0, 2.0]), "tier", schema.tier,
            "is not 0, 1 or 2 in row {row}{value}; mend it, or remove 'tier' to have terciles computed",
            "@tier",
        )  # fmt: skip
    if isinstance(schema.split, ColumnSplit):
        names = [schema.split.train, schema.split.valid, schema.split.test]
        refuse(
            pl.col("@split").is_null() | ~pl.col("@split").is_in(names), "split", schema.split.column,
            f"is none of {', '.join(names)} in row {{row}}{{value}}; mend it or the schema's names",
            "@split",
        )  # fmt: skip
