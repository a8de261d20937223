"""First step of preparation: the raw table, typed and checked, as sorted runs on disk.

Staged columns are the features under their names (lists cut to their maximal length) and, under
names that no feature can have, ``@user``, ``@time``, ``@split``, ``@tier``, ``@baseline``,
``@label.<task>`` and ``@probability.<task>``. A run is a stretch of RUN_ROWS rows of the source,
sorted by time; runs are numbered in source order.

What counts as missing: null, NaN, an infinite number, empty text and the schema's words for it.
"""

from __future__ import annotations

from pathlib import Path

import polars as pl
import pyarrow.parquet as pq

from datasets.expressions.labels import Operand, label_expression
from datasets.expressions.syntax import operands_of
from datasets.prepare.order import sorted_by_time, write_run
from datasets.prepare.threads import in_order, workers_for
from datasets.prepare.vectors import check_vectors, vector_column
from datasets.raw.text import (
    POLARS_ERRORS,
    TextFacts,
    category,
    cell,
    elements,
    first_line,
    inner,
    number,
    time,
    whole_number,
    without_missing,
)
from datasets.schema import ColumnSplit, Feature, Schema, Task
from files.errors import InputError

RUN_ROWS = 131_072
_WIDE_INTEGERS = (pl.UInt64, pl.Int128, pl.UInt128)  # do not fit the vocabulary's Int64
MOST_FLOAT32 = 3.4028234663852886e38
RESERVED = ("user_index", "tier", "time", "baseline")


def stage(schema: Schema, frame: pl.LazyFrame, folder: Path, text: TextFacts | None = None) -> list[Path]:
    """Write the source as sorted runs into ``folder`` and return their paths in source order.

    ``text`` describes how text columns are written; without it, numbers and times must not be text.

    Raises InputError where a column is absent or of the wrong type, or a value is not allowed.
    """
    where = f"dataset {schema.name!r}"
    try:
        types = dict(frame.collect_schema())
        staged = frame.select(staged_columns(schema, types, where, text))
        pieces = pl.PartitionBy(
            folder,
            file_path_provider=lambda piece: f"staged-{piece.index_in_partition:06d}.parquet",
            max_rows_per_file=RUN_ROWS,
            approximate_bytes_per_file=None,
        )
        # Not collect_batches: it runs ahead of the consumer and needs over twice the memory.
        staged.sink_parquet(
            pieces, compression="lz4", statistics=False, row_group_size=RUN_ROWS, engine="streaming"
        )
    except POLARS_ERRORS as error:
        raise _unreadable(where, error) from error
    paths = sorted(folder.glob("staged-*.parquet"))
    rows = [pq.read_metadata(path).num_rows for path in paths]
    if not sum(rows):
        raise InputError(f"{where}: the raw table has no rows; check its files and filters")
    assert set(rows[:-1]) <= {RUN_ROWS}, "or means and deviations would depend on how polars cuts files"

    def run(number: int) -> Path:
        return _run(schema, paths[number], number * RUN_ROWS, where)

    return list(in_order(run, range(len(paths)), workers_for(paths)))


def _run(schema: Schema, piece: Path, start: int, where: str) -> Path:
    """A piece of the staged table, of which ``start`` is the first row, checked and sorted; it is removed."""
    run = _write_checked(schema, pl.read_parquet(piece, glob=False), start, where, piece.parent)
    piece.unlink()
    return run


def stage_run(schema: Schema, rows: pl.LazyFrame, text: TextFacts | None, start: int, folder: Path) -> Path:
    """Stage the RUN_ROWS rows of the source from ``start`` on, alone, to the file that `stage` makes of them.

    Raises InputError as `stage` does.
    """
    where = f"dataset {schema.name!r}"
    try:
        columns = staged_columns(schema, dict(rows.collect_schema()), where, text)
        table = rows.select(columns).collect(engine="streaming")
    except POLARS_ERRORS as error:
        raise _unreadable(where, error) from error
    return _write_checked(schema, table, start, where, folder)


def _write_checked(schema: Schema, table: pl.DataFrame, start: int, where: str, folder: Path) -> Path:
    check_values(schema, table, start, where)
    run = folder / f"run-{start:012d}.parquet"
    write_run(sorted_by_time(table) if schema.time else table, run)
    return run


def _unreadable(where: str, error: BaseException) -> InputError:
    return InputError(
        f"{where}: the raw table cannot be read ({first_line(error)}); mend the file or the column"
    )


def staged_columns(
    schema: Schema, types: dict[str, pl.DataType], where: str, text: TextFacts | None = None
) -> list[pl.Expr]:
    """Expressions that turn the raw columns into the staged ones; InputError on a wrong column."""
    _check_names(schema, where)

    def dtype(column: str, wanted_by: str) -> pl.DataType:
        return _column_type(types, column, where, wanted_by)

    def numeric(column: str, what: str, keep_infinite: bool = False) -> pl.Expr:
        kind = dtype(column, what)
        if text is not None and kind == pl.String:
            value = number(cell(pl.col(column), schema.missing))
        else:
            value = _number(column, kind, f"{where}: {what}", schema.missing)
        return pl.when(value.is_not_nan() if keep_infinite else value.is_finite()).then(value)

    def single(column: str, what: str, target: pl.DataType) -> pl.Expr:
        kind = dtype(column, what)
        return category(without_missing(pl.col(column), kind, schema.missing), kind, target)

    targets = _vocabulary_types(schema, dtype, where, text)
    columns = []
    for feature in schema.features:
        what = f"feature {feature.name!r}"
        if feature.is_list:
            kind = dtype(feature.source_column, what)
            column = _list(feature, kind, targets[feature.table], schema.missing, text)
        elif feature.is_sparse:
            column = single(feature.source_column, what, targets[feature.table])
        elif feature.kind == "vector":
            column = vector_column(feature, dtype(feature.source_column, what), where, schema.missing, text)
        else:
            column = numeric(feature.source_column, what)
        columns.append(column.alias(feature.name))

    if schema.user_id is not None:
        is_integer = _fits_int64(dtype(schema.user_id, "user_id")) or (
            text is not None and "@user" in text.integers
        )
        user = single(schema.user_id, "user_id", pl.Int64() if is_integer else pl.String())
        columns.append(user.alias("@user"))
    for task in schema.tasks:
        what = f"task {task.name!r}"
        if task.expression is None:
            label = numeric(task.source_column, what, keep_infinite=True)
        else:
            label = _computed_label(task, schema.missing, dtype, f"{where}: {what}", text)
        columns.append(label.alias(f"@label.{task.name}"))
        if task.probability:
            probability = numeric(task.probability, f"probability of task {task.name!r}")
            columns.append(probability.alias(f"@probability.{task.name}"))
    if schema.time is not None:
        columns.append(_time(schema, types, text).alias("@time"))
    if schema.tier:
        columns.append(numeric(schema.tier, "tier").alias("@tier"))
    if schema.baseline:
        baseline = numeric(schema.baseline.column, f"baseline {schema.baseline.name!r}")
        columns.append(baseline.alias("@baseline"))
    if isinstance(schema.split, ColumnSplit):
        dtype(schema.split.column, "split.column")
        columns.append(pl.col(schema.split.column).cast(pl.String).str.strip_chars().alias("@split"))
    return columns


def _computed_label(
    task: Task, missing: list[str] | None, dtype, where: str, text: TextFacts | None
) -> pl.Expr:
    """A label computed by an expression; its text columns become numbers where it needs numbers."""
    assert task.expression is not None, "the label is computed"
    operands: dict[str, Operand] = {}
    for column, wanted in operands_of(task.expression).items():
        kind = dtype(column, f"task {task.name!r}")
        value = without_missing(pl.col(column), kind, missing)
        if kind == pl.String and wanted == "number" and text is not None:
            if column in text.whole:
                value, kind = whole_number(value), pl.Int128()
            else:
                value, kind = number(value), pl.Float64()
        operands[column] = Operand(value, kind)
    return label_expression(task.expression, operands, where)


def _check_names(schema: Schema, where: str) -> None:
    for name in schema.feature_names:
        if name in RESERVED or name.startswith(("label_", "probability_")):
            raise InputError(
                f"{where}: feature name {name!r} is taken by a column of the prepared table; "
                f"rename the feature and keep 'column: {name}'"
            )


def _fits_int64(dtype: pl.DataType) -> bool:
    return dtype.is_integer() and dtype not in _WIDE_INTEGERS


def _vocabulary_types(schema: Schema, dtype, where: str, text: TextFacts | None) -> dict[str, pl.DataType]:
    """Int64 for a vocabulary whose columns all hold integers, otherwise text."""
    integer: dict[str, bool] = {}
    for feature in schema.sparse_features:
        kind = dtype(feature.source_column, f"feature {feature.name!r}")
        is_cut = text is not None and feature.name in text.lists
        element = _element_type(feature, kind, where, is_cut)
        integer[feature.table] = integer.get(feature.table, True) and _fits_int64(element)
    as_text = text.integers if text is not None else frozenset()
    return {
        table: pl.Int64() if whole or table in as_text else pl.String() for table, whole in integer.items()
    }


def _element_type(feature: Feature, dtype: pl.DataType, where: str, is_cut: bool) -> pl.DataType:
    """The type of one category of a column, checked against the feature's kind.

    ``is_cut``: text from which lists are made, whether or not a separator is named.
    """
    what = f"{where}: feature {feature.name!r} ({feature.kind}): column {feature.source_column!r}"
    listed = isinstance(dtype, pl.List | pl.Array)
    if listed and not feature.is_list:
        raise InputError(f"{what} holds lists; make it a sequence or multi_hot, or choose another column")
    if feature.is_list and not listed:
        if dtype == pl.String and (feature.separator or is_cut):
            return dtype
        hint = "add 'separator: \",\"'" if dtype == pl.String else "choose a column of lists"
        raise InputError(f"{what} holds no lists but {dtype}; {hint} or make it categorical")
    element = inner(dtype) if listed else dtype
    if element.is_nested() or element in (pl.Binary, pl.Object, pl.Time, pl.Duration):
        raise InputError(f"{what} is of type {dtype}, which is no category; give integers, text or booleans")
    return element


def _list(
    feature: Feature,
    dtype: pl.DataType,
    target: pl.DataType,
    missing: list[str] | None,
    text: TextFacts | None,
) -> pl.Expr:
    """A list of categories, cut to max_length; null lists become empty.

    A missing element of a sequence stays, so that parallel sequences stay aligned; one of a
    multi-hot list is dropped.
    """
    values = pl.col(feature.source_column)
    if isinstance(dtype, pl.List | pl.Array):
        element = inner(dtype)
        values = values.cast(pl.List(element))
    else:
        element = pl.String()
        notation = text.lists[feature.name] if text is not None else "separated"
        values = elements(cell(values, missing), notation, feature.separator)
    one = without_missing(pl.element(), element, missing)
    values = values.list.eval(category(one, element, target))
    if feature.kind == "sequence":
        values = values.list.tail(feature.max_length)
    else:
        values = values.list.drop_nulls().list.head(feature.max_length)
    return values.fill_null([])


def _number(column: str, dtype: pl.DataType, what: str, missing: list[str] | None) -> pl.Expr:
    """A number of any type as float64; a missing one may be NaN."""
    if not (dtype.is_numeric() or dtype == pl.Boolean or dtype == pl.Null):
        raise InputError(
            f"{what}: column {column!r} holds {dtype}, not numbers; mend the column or choose another"
        )
    return without_missing(pl.col(column), dtype, missing).cast(pl.Float64)


def _time(schema: Schema, types: dict[str, pl.DataType], text: TextFacts | None) -> pl.Expr:
    """The time as a number: an epoch unchanged, dates and datetimes counted from 1970 in their unit."""
    kind = time_type(schema, types, text)
    assert schema.time is not None, "there is a time column"
    assert kind is not None, "and so it has a type"
    value = without_missing(pl.col(schema.time), types[schema.time], schema.missing)
    if types[schema.time] == pl.String:
        value = time(value, kind)
    return value.cast(kind).to_physical().cast(pl.Float64 if kind.is_float() else pl.Int64)


def time_type(
    schema: Schema, types: dict[str, pl.DataType], text: TextFacts | None = None
) -> pl.DataType | None:
    """The checked type of the time column, None without one; times are staged as numbers."""
    if schema.time is None:
        return None
    where = f"dataset {schema.name!r}"
    dtype = _column_type(types, schema.time, where, "time")
    if dtype == pl.String and text is not None and text.time is not None:
        dtype = text.time
    if dtype.is_integer():
        return pl.Int64()
    if dtype.is_float():
        return pl.Float64()
    if dtype == pl.Date or dtype == pl.Datetime:
        return dtype
    raise InputError(
        f"{where}: time: column {schema.time!r} holds {dtype}; give integers, dates or datetimes"
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
            value = "" if shown is None else f" {rows[shown][0]!r}"
            raise InputError(f"{where}: {what}: column {column!r} {mend.format(row=row, value=value)}")

    if schema.user_id is not None:
        refuse(
            pl.col("@user").is_null(), "user_id", schema.user_id,
            "is empty in row {row}; drop the row or give it a user",
        )  # fmt: skip
    check_vectors(schema, table, start, where)
    if schema.time:
        absent = pl.col("@time").cast(pl.Float64).fill_nan(None).is_null()
        refuse(absent, "time", schema.time, "is empty in row {row}; drop the row or give it a time")
        if table.schema["@time"].is_float():
            refuse(
                pl.col("@time").is_infinite(), "time", schema.time,
                "is infinite in row {row}; drop the row or give it a time",
            )  # fmt: skip
    for feature in schema.numeric_features:
        if feature.normalization == "none":
            refuse(
                pl.col(feature.name).abs() > MOST_FLOAT32, f"feature {feature.name!r}", feature.source_column,
                "holds{value} in row {row}, beyond float32; mend it, or set normalization to log1p",
                feature.name,
            )  # fmt: skip
    for task in schema.tasks:
        name = f"@label.{task.name}"
        refuse(
            ~pl.col(name).is_in([0.0, 1.0]), f"task {task.name!r}", task.source_column,
            "is neither 0, 1 nor empty in row {row}:{value}; mend it or derive a 0/1 label from it", name,
        )  # fmt: skip
        if task.probability:
            name = f"@probability.{task.name}"
            refuse(
                pl.col(name).is_null() | ~pl.col(name).is_between(0, 1),
                f"probability of task {task.name!r}", task.probability,
                "is no probability in row {row}:{value}; give a number from 0 to 1 in every row", name,
            )  # fmt: skip
    if schema.tier:
        refuse(
            pl.col("@tier").is_null() | ~pl.col("@tier").is_in([0.0, 1.0, 2.0]), "tier", schema.tier,
            "is not 0, 1 or 2 in row {row}:{value}; mend it, or remove 'tier' to have terciles computed",
            "@tier",
        )  # fmt: skip
    if isinstance(schema.split, ColumnSplit):
        names = [schema.split.train, schema.split.valid, schema.split.test]
        refuse(
            pl.col("@split").is_null() | ~pl.col("@split").is_in(names), "split", schema.split.column,
            f"is none of {', '.join(names)} in row {{row}}:{{value}}; mend it or the schema's names",
            "@split",
        )  # fmt: skip
