"""What an engine counted of the training rows: categories and moments, read and held against the rows."""

from __future__ import annotations

import math
from collections.abc import Iterator
from pathlib import Path

import polars as pl
import pyarrow as pa
import pyarrow.parquet as pq
from pydantic import TypeAdapter, ValidationError

from datasets.prepare.learn import CONSTANT_BELOW, Moments, MomentsByPlace, places
from datasets.prepare.vocabulary import Vocabulary, chosen
from datasets.raw.text import first_line
from datasets.schema import Feature, first_problem
from datasets.staged.folder import COUNTS, MOMENTS, STAGE_AGAIN, StagedTable
from files.errors import InputError

PIECE_ROWS = 1 << 20
# Sums of many numbers in another order differ by less, other formulas (a variance) by more.
OTHER_ORDER = 1e-6  # of a standard deviation
OTHER_ORDER_OF_MEAN = 1e-11  # of a mean


def checked_vocabulary(
    table: StagedTable, name: str, features: list[Feature], dtype: pl.DataType, elements: int
) -> Vocabulary:
    """The vocabulary of the counts of its categories, which have type ``dtype``.

    Raises InputError, which names the file, where a category comes twice or out of order, or the counts do
    not add up to the ``elements`` that training rows have. Memory: the categories that min_count keeps.
    """
    files, total, latest = table.counts_of(name), 0, None
    for file in files:
        found = dict(pl.read_parquet_schema(file))
        if found != {"value": dtype, "count": pl.Int64()}:
            columns = ", ".join(f"{column} ({kind})" for column, kind in found.items())
            raise InputError(f"{file}: holds {columns}; write columns value ({dtype}) and count (Int64)")
        for piece in _pieces(file):
            latest = _check_piece(file, piece, latest)
            total += int(piece["count"].sum())
    if total != elements:
        raise InputError(
            f"{table.path / COUNTS / name}: its counts add up to {total:,}, and the training rows have "
            f"{elements:,} values (elements of lists, none that is missing); count these, and no others"
        )
    empty = pl.LazyFrame(schema={"value": dtype, "count": pl.Int64()})
    return chosen(pl.scan_parquet(files, glob=False) if files else empty, features)


def _pieces(file: Path) -> Iterator[pl.DataFrame]:
    try:
        for batch in pq.ParquetFile(file).iter_batches(PIECE_ROWS):
            yield pl.DataFrame(pl.from_arrow(batch))
    except (pa.ArrowException, OSError) as error:
        raise InputError(f"{file}: cannot be read ({first_line(error)}); {STAGE_AGAIN}") from error


def _check_piece(file: Path, piece: pl.DataFrame, latest: int | str | None) -> int | str | None:
    """The last category of a piece, which must be sorted, each greater than ``latest``."""
    values = piece["value"]
    if values.null_count() or not (piece["count"] >= 1).fill_null(False).all():
        raise InputError(f"{file}: has an empty category or a count below 1; leave such rows out")
    before = values.shift(1, fill_value=latest) if latest is not None else values.shift(1)
    if len(wrong := (values <= before).fill_null(False).arg_true()):
        value, earlier = values[wrong[0]], before[wrong[0]]
        raise InputError(
            f"{file}: category {value!r} comes after {earlier!r}; give each category once, in ascending order"
        )
    return values[-1] if len(values) else latest


def counted_elements(table: StagedTable, name: str) -> int:
    """The sum of a vocabulary's counts."""
    files = table.counts_of(name)
    return (
        int(pl.scan_parquet(files, glob=False).select(pl.col("count").sum()).collect().item()) if files else 0
    )


def checked_moments(table: StagedTable, of_rows: MomentsByPlace) -> MomentsByPlace:
    """The folder's moments, which are ``of_rows`` up to rounding; InputError where they are not."""
    file = table.path / MOMENTS
    try:
        found = _MOMENTS.validate_json(file.read_bytes())
    except ValidationError as error:
        raise InputError(first_problem(error, str(file))) from None
    components = {(name, place): one for name, each in found.items() for place, one in enumerate(each)}
    for name, place in sorted(components.keys() ^ set(places(table.schema))):
        what = (
            "is not one of the schema; leave it out" if (name, place) in components else "is missing; add it"
        )
        raise InputError(f"{file}: feature {name!r}: component {place} {what}")
    for key in places(table.schema):
        _check_moments(f"{file}: feature {key[0]!r}", components[key], of_rows[key])
    return {key: components[key] for key in places(table.schema)}


_MOMENTS = TypeAdapter(dict[str, list[Moments]])


def _check_moments(where: str, given: Moments, rows: Moments) -> None:
    if not (math.isfinite(given.mean) and math.isfinite(given.squares) and given.squares >= 0):
        raise InputError(f"{where}: mean {given.mean} and squares {given.squares} must be finite; mend them")
    if given.number != rows.number:
        raise InputError(
            f"{where}: number is {given.number:,}, and the training rows have {rows.number:,} numbers that "
            "are not missing; count those"
        )
    deviations = [math.sqrt(moments.squares / max(moments.number, 1)) for moments in (given, rows)]
    rounding = OTHER_ORDER * deviations[1]
    if abs(given.mean - rows.mean) > rounding + OTHER_ORDER_OF_MEAN * abs(rows.mean):
        raise InputError(f"{where}: mean is {given.mean}, and that of the training rows {rows.mean}; mend it")
    if abs(deviations[0] - deviations[1]) > rounding + CONSTANT_BELOW * abs(rows.mean):
        raise InputError(
            f"{where}: squares, the sum of squared deviations from the mean, is {given.squares}, and that of "
            f"the training rows {rows.squares}; sum in two passes or by Welford's formula"
        )
