"""Columns of parquet files, a block of rows at a time and in the order of the file."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path

import numpy as np
import polars as pl
import pyarrow as pa
import pyarrow.parquet as pq

from files.errors import InputError

BLOCK_ROWS = 65_536

Types = Mapping[str, type[pl.DataType]]


def check_columns(path: Path, types: Types) -> int:
    """The number of a file's rows; InputError where it is no parquet or lacks a column of a fitting type."""
    try:
        metadata = pq.read_metadata(path)
        found = dict(pl.read_parquet_schema(path))
    except (pa.ArrowException, pl.exceptions.PolarsError, OSError) as error:
        raise _unreadable(path, error) from None
    for name, wanted in types.items():
        if name not in found:
            raise InputError(f"{path}: has no column {name!r}; use the official file, or fetch it again")
        kind = found[name]
        fits = kind.is_integer() or kind == pl.Boolean if wanted != pl.Float64 else kind.is_numeric()
        if not fits:
            raise InputError(
                f"{path}: column {name!r} holds {kind}, not {wanted}; fetch the official file again"
            )
    return metadata.num_rows


def blocks(path: Path, types: Types, rows: int) -> Iterator[pl.DataFrame]:
    """The columns of ``types``, cast to them, at most ``rows`` rows at a time; none of them may be empty."""
    try:
        with pq.ParquetFile(path) as file:
            for batch in file.iter_batches(rows, columns=list(types), use_threads=False):
                table = pl.DataFrame(pa.Table.from_batches([batch])).select(
                    pl.col(name).cast(kind) for name, kind in types.items()
                )
                for name in types:
                    if empty := table[name].null_count():
                        raise InputError(
                            f"{path}: column {name!r} is empty in {empty} rows; fetch the file again"
                        )
                yield table
    except (pa.ArrowException, pl.exceptions.PolarsError, OSError) as error:
        raise _unreadable(path, error) from None


def distinct(paths: Sequence[Path], column: str) -> np.ndarray:
    """The different values of an integer column of all files, ascending, (K,) int64."""
    try:
        found = pl.scan_parquet(list(paths), glob=False, hive_partitioning=False).select(
            pl.col(column).unique()
        )
        return np.sort(found.collect(engine="streaming")[column].drop_nulls().cast(pl.Int64).to_numpy())
    except (pl.exceptions.PolarsError, OSError) as error:
        raise _unreadable(paths[0], error) from None


def places(ids: np.ndarray, wanted: np.ndarray) -> np.ndarray:
    """(N,) where each of ``wanted`` is in the ascending ``ids`` (K,); -1 where it is not there."""
    if not len(ids):
        return np.full(len(wanted), -1)
    place = np.minimum(np.searchsorted(ids, wanted), len(ids) - 1)
    return np.where(ids[place] == wanted, place, -1)


def _unreadable(path: Path, error: Exception) -> InputError:
    reason = str(error).splitlines()[0] if str(error) else type(error).__name__
    return InputError(f"{path}: cannot be read as parquet ({reason}); remove the file and fetch it again")
