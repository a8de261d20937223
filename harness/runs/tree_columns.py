"""The columns in which decision trees read a prepared table.

| feature | columns |
|---|---|
| numeric, vector | each number, as prepared (trees do not see a rescaling) |
| categorical | its index as a category; with over MANY categories as `ids` says |
| multi_hot | its length; of at most FEW categories, whether each occurs |
| sequence | its length; with `order` the latest element, of at most MANY categories; and for each categorical or multi_hot feature of the same vocabulary, how many elements are this row's own value |
"""  # noqa: E501

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

import numpy as np

from datasets.schema import FIRST_INDEX, Feature, Schema
from datasets.window import JaggedColumn, Window

Ids = Literal["rank", "category", "none"]
FEW = 64
MANY = 1000


@dataclass(frozen=True)
class Column:
    """``part`` is what it holds of its feature: value, length, last, has or count."""

    feature: Feature
    part: str
    is_category: bool = False
    place: int = 0  # of a vector's number, of a multi_hot feature's category
    other: Feature | None = None

    @property
    def name(self) -> str:
        detail = f".{self.other.name}" if self.other else f".{self.place}" if self.place else ""
        return f"{self.feature.name}.{self.part}{detail}"


def tree_columns(schema: Schema, table_sizes: dict[str, int], ids: Ids, order: bool = True) -> list[Column]:
    """All columns, in schema order; ``ids`` says how categorical features of over MANY categories are read.

    Without ``order`` nothing tells in which order the elements of a sequence came.

    ``category`` as all others; ``rank`` as a number, the category's rank by its training rows, as LightGBM's
    manual advises; ``none`` not at all. Buckets of hashed ids are categories; their ranks: `bucket_ranks`.
    """
    columns = []
    for feature in schema.features:
        if feature.kind in ("numeric", "vector"):
            columns += [Column(feature, "value", place=place) for place in range(feature.num_numbers)]
            continue
        categories = table_sizes[feature.table] - FIRST_INDEX
        if feature.kind == "categorical":
            if categories <= MANY or ids != "none":
                columns.append(Column(feature, "value", is_category=categories <= MANY or ids == "category"))
            continue
        columns.append(Column(feature, "length"))
        if feature.kind == "multi_hot" and categories <= FEW:
            columns += [
                Column(feature, "has", place=FIRST_INDEX + category) for category in range(categories)
            ]
        if feature.kind == "sequence":
            if order and categories <= MANY:
                columns.append(Column(feature, "last", is_category=True))
            columns += [
                Column(feature, "count", other=other)
                for other in schema.sparse_features
                if other.kind != "sequence" and other.table == feature.table
            ]
    return columns


def bucket_ranks(
    columns: list[Column], schema: Schema, table_sizes: dict[str, int], train: Window
) -> dict[str, np.ndarray]:
    """The rank of every index, (table size,) float32, of each hashed feature that is read as a rank.

    Indices of a vocabulary are ranks already. A bucket that training does not have is NaN.
    """
    ranks = {}
    for column in columns:
        feature = column.feature
        if feature.hash_buckets and column.part == "value" and not column.is_category:
            counts = np.bincount(_category(schema, train, feature), minlength=table_sizes[feature.table])
            counts[:FIRST_INDEX] = 0
            known = np.flatnonzero(counts)
            known = known[np.argsort(-counts[known], kind="stable")]
            ranks[feature.name] = np.full(len(counts), np.nan, np.float32)
            ranks[feature.name][known] = FIRST_INDEX + np.arange(len(known))
    return ranks


def tree_matrix(
    columns: list[Column], schema: Schema, window: Window, ranks: dict[str, np.ndarray] | None = None
) -> np.ndarray:
    """(R, len(columns)) float32 of a window's rows; a rank that is not known is NaN.

    ``ranks`` are those of `bucket_ranks`, where ids are hashed.
    """
    matrix = np.empty((len(window), len(columns)), dtype=np.float32)
    numbers = _first_numbers(schema)
    for target, column in zip(matrix.T, columns, strict=True):
        feature = column.feature
        if not feature.is_sparse:
            target[:] = window.dense[:, numbers[feature.name] + column.place]
        elif not feature.is_list:
            indices = _category(schema, window, feature)
            target[:] = ranks[feature.name][indices] if ranks and feature.name in ranks else indices
            if not column.is_category:
                target[target < FIRST_INDEX] = np.nan
        else:
            target[:] = _of_list(column, schema, window)
    return matrix


def _of_list(column: Column, schema: Schema, window: Window) -> np.ndarray:
    values = list_of(schema, window, column.feature)
    lengths = np.diff(values.offsets)
    if column.part == "length":
        return lengths
    if column.part == "last":
        last = np.zeros(len(window), dtype=np.int32)
        last[lengths > 0] = values.values[values.offsets[1:][lengths > 0] - 1]
        return last
    rows = np.repeat(np.arange(len(window)), lengths)
    if column.part == "has":
        found = np.zeros(len(window), dtype=bool)
        found[rows[values.values == column.place]] = True
        return found
    assert column.other is not None
    is_own = _own_values(rows, values.values, column.other, schema, window)
    return np.bincount(rows[is_own & (values.values >= FIRST_INDEX)], minlength=len(window))


def _own_values(
    rows: np.ndarray, values: np.ndarray, other: Feature, schema: Schema, window: Window
) -> np.ndarray:
    """Whether each element of a list is among the values that ``other`` has in the element's row."""
    if not other.is_list:
        return values == _category(schema, window, other)[rows]
    theirs = list_of(schema, window, other)
    their_rows = np.repeat(np.arange(len(window)), np.diff(theirs.offsets))
    size = int(max(values.max(initial=0), theirs.values.max(initial=0))) + 1
    return np.isin(rows * size + values, their_rows * size + theirs.values)


def _category(schema: Schema, window: Window, feature: Feature) -> np.ndarray:
    return window.sparse(_place(schema, feature), 0, len(window))[0]


def list_of(schema: Schema, window: Window, feature: Feature) -> JaggedColumn:
    """The lists of a sequence or multi_hot feature."""
    return window.jagged[window.places[_place(schema, feature)][1]]


def _place(schema: Schema, feature: Feature) -> int:
    return [other.name for other in schema.sparse_features].index(feature.name)


def _first_numbers(schema: Schema) -> dict[str, int]:
    """Where each numeric and vector feature begins in a window's dense numbers."""
    first, position = {}, 0
    for feature in schema.dense_features:
        first[feature.name] = position
        position += feature.num_numbers
    return first
