"""Consecutive prepared rows in memory, laid out so that shuffling and slicing are cheap."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from datasets.schema import Feature, Schema


@dataclass(frozen=True)
class JaggedColumn:
    """A list feature of R rows: row i is values[offsets[i]:offsets[i + 1]].

    Shapes
        values: (elements,) int32; offsets: (R + 1,) int32, which halves the time of a shuffle.
    """

    values: np.ndarray
    offsets: np.ndarray

    def permuted(self, order: np.ndarray) -> JaggedColumn:
        lengths = np.diff(self.offsets)[order]
        offsets = np.zeros(len(order) + 1, dtype=self.offsets.dtype)
        np.cumsum(lengths, out=offsets[1:])
        shift = self.offsets[:-1][order] - offsets[:-1]  # from a new place to the old one
        source = np.repeat(shift, lengths)
        source += np.arange(offsets[-1], dtype=source.dtype)
        return JaggedColumn(self.values.take(source), offsets)


@dataclass(frozen=True)
class Window:
    """R rows, feature by feature.

    Shapes
        single: (C, R) int32, the categorical features; jagged: the list features;
        places: for each key of a batch, in order, whether it is jagged, and its index in that group;
        dense: (R, N) float32, numbers and vectors side by side; labels: (R, G) float32;
        user_id, tier: (R,) int64.
    """

    single: np.ndarray
    jagged: list[JaggedColumn]
    places: list[tuple[bool, int]]
    dense: np.ndarray
    labels: np.ndarray
    user_id: np.ndarray
    tier: np.ndarray

    def __len__(self) -> int:
        return len(self.user_id)

    def permuted(self, order: np.ndarray) -> Window:
        """Row i of the result is row order[i] of this window."""
        return Window(
            single=self.single.take(order, axis=1),
            jagged=[column.permuted(order) for column in self.jagged],
            places=self.places,
            dense=self.dense.take(order, axis=0),
            labels=self.labels.take(order, axis=0),
            user_id=self.user_id.take(order),
            tier=self.tier.take(order),
        )

    def sparse(self, key: int, start: int, end: int) -> tuple[np.ndarray, np.ndarray | int]:
        """A key's indices in rows [start, end), and how many each row has (1 for a categorical feature)."""
        is_jagged, number = self.places[key]
        if not is_jagged:
            return self.single[number, start:end], 1
        column = self.jagged[number]
        offsets = column.offsets[start : end + 1]
        return column.values[offsets[0] : offsets[-1]], np.diff(offsets)


class WindowSource:
    """Reads windows from shards; ``keys`` are the sparse features in schema order.

    ``rows`` are the first row and the end of what is read of each file; None: all.
    """

    def __init__(
        self,
        files: list[Path],
        schema: Schema,
        tasks: list[str],
        rows: list[tuple[int, int]] | None = None,
    ) -> None:
        self.files = files
        self._rows = rows or [(0, sys.maxsize)] * len(files)
        self.keys = [feature.name for feature in schema.sparse_features]
        self._single = [feature.name for feature in schema.sparse_features if not feature.is_list]
        self._jagged = [feature.name for feature in schema.sparse_features if feature.is_list]
        self._places = [
            (True, self._jagged.index(key)) if key in self._jagged else (False, self._single.index(key))
            for key in self.keys
        ]
        self._dense = schema.dense_features
        self._labels = [f"label_{task}" for task in tasks]

    def windows(self, rows: int, first: int = 0) -> Iterator[Window]:
        """Windows of ``rows`` rows (the last may be short) beginning with window ``first``."""
        waiting: list[pa.Table] = []
        num_waiting = 0
        for table in self._row_groups(first * rows):
            waiting.append(table)
            num_waiting += table.num_rows
            while num_waiting >= rows:
                tables = pa.concat_tables(waiting)
                yield self._window(tables.slice(0, rows))
                num_waiting -= rows
                waiting = [tables.slice(rows)] if num_waiting else []
        if num_waiting:
            yield self._window(pa.concat_tables(waiting))

    def _row_groups(self, skip: int) -> Iterator[pa.Table]:
        """Decoded row groups without the first ``skip`` rows; groups that lie before are not decoded."""
        dense = [feature.name for feature in self._dense]
        columns = [*self._single, *self._jagged, *dense, *self._labels, "user_index", "tier"]
        for path, (start, stop) in zip(self.files, self._rows, strict=True):
            # The page cache is the buffer: no copy of the file, and no read-ahead thread of arrow's.
            with pq.ParquetFile(path, memory_map=True) as file:
                end = 0
                for number in range(file.num_row_groups):
                    top, end = end, end + file.metadata.row_group(number).num_rows
                    first, last = max(top, start), min(end, stop)
                    if skip >= last - first:
                        skip -= max(last - first, 0)
                        continue
                    table = file.read_row_group(number, columns=columns, use_threads=False)
                    yield table.slice(first - top + skip, last - first - skip)
                    skip = 0

    def _window(self, table: pa.Table) -> Window:
        rows = table.num_rows
        return Window(
            single=_matrix(table, self._single, np.int32),
            jagged=[_jagged(table[name]) for name in self._jagged],
            places=self._places,
            dense=_dense(table, self._dense).reshape(rows, -1),
            labels=np.ascontiguousarray(_matrix(table, self._labels, np.float32).T),
            user_id=table["user_index"].to_numpy().astype(np.int64),
            tier=table["tier"].to_numpy().astype(np.int64),
        )


def _matrix(table: pa.Table, names: list[str], dtype: type) -> np.ndarray:
    """(columns, R)"""
    matrix = np.empty((len(names), table.num_rows), dtype=dtype)
    for row, name in zip(matrix, names, strict=True):
        position = 0
        for chunk in table[name].chunks:
            row[position : position + len(chunk)] = chunk.to_numpy()
            position += len(chunk)
    return matrix


def _dense(table: pa.Table, features: list[Feature]) -> np.ndarray:
    """(R, N): one column for a numeric feature, one per component for a vector."""
    if all(feature.kind == "numeric" for feature in features):
        return np.ascontiguousarray(_matrix(table, [feature.name for feature in features], np.float32).T)
    numbers = np.empty((table.num_rows, sum(f.num_numbers for f in features)), dtype=np.float32)
    first = 0
    for feature in features:
        last, position = first + feature.num_numbers, 0
        for chunk in table[feature.name].chunks:
            values = chunk.flatten() if feature.kind == "vector" else chunk
            numbers[position : position + len(chunk), first:last] = values.to_numpy().reshape(len(chunk), -1)
            position += len(chunk)
        first = last
    return numbers


def _jagged(column: pa.ChunkedArray) -> JaggedColumn:
    """One flat array of values and its offsets from the chunks of a list column."""
    values = [chunk.flatten().to_numpy() for chunk in column.chunks]
    lengths = [np.diff(chunk.offsets.to_numpy()) for chunk in column.chunks]
    offsets = np.zeros(len(column) + 1, dtype=np.int32)
    np.cumsum(np.concatenate(lengths), out=offsets[1:])
    return JaggedColumn(np.concatenate(values), offsets)
