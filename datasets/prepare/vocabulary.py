"""Categories and their indices, learned only from the training split."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

import numpy as np
import polars as pl
import pyarrow.parquet as pq

from datasets.schema import FIRST_INDEX, MISSING_INDEX, UNSEEN_INDEX, Feature

BOOLEANS = ("true", "True", "TRUE", "false", "False", "FALSE")
PLACES_A_CATEGORY = 4  # at most, 4 bytes each, in an array that has a place for every integer in between


@dataclass(frozen=True)
class Vocabulary:
    """A mapping of values to int32 indices: 0 missing, 1 unseen, 2.. by descending count, then value.

    ``table`` has columns value (Int64 or String), count (of the training split) and index.
    """

    table: pl.DataFrame

    @property
    def size(self) -> int:
        """Number of categories, without the two reserved indices."""
        return self.table.height

    def booleans_written_twice(self) -> list[str]:
        """Categories such as True and true: two programs wrote them, and they are not the same category."""
        values = self.table["value"]
        if values.dtype != pl.String:
            return []
        found = values.filter(values.is_in(BOOLEANS))
        return found.filter(found.str.to_lowercase().is_duplicated()).sort().to_list()

    def encode(self, values: pl.Series) -> pl.Series:
        """The Int32 index of every value, in order."""
        if self._places is not None:
            return self._looked_up(values, *self._places)
        # A join beats numpy.searchsorted and polars' Enum at every size and type tried.
        found = (
            values.alias("value").to_frame().join(self.table, on="value", how="left", maintain_order="left")
        )
        known = (
            pl.when(pl.col("value").is_null())
            .then(MISSING_INDEX)
            .otherwise(pl.col("index").fill_null(UNSEEN_INDEX))
        )
        return found.select(known.cast(pl.Int32).alias("index"))["index"]

    @cached_property
    def _places(self) -> tuple[int, np.ndarray] | None:
        """The lowest category, and the index of each integer up to the highest; None where they lie apart."""
        values = self.table["value"]
        if values.dtype != pl.Int64 or values.is_empty():
            return None
        lowest, highest = int(values.min()), int(values.max())  # type: ignore[arg-type]
        if highest - lowest >= PLACES_A_CATEGORY * self.size:
            return None
        indices = np.full(highest - lowest + 1, UNSEEN_INDEX, np.int32)
        indices[values.to_numpy() - lowest] = self.table["index"].to_numpy()
        return lowest, indices

    @staticmethod
    def _looked_up(values: pl.Series, lowest: int, indices: np.ndarray) -> pl.Series:
        numbers = values.fill_null(lowest).to_numpy()
        within = np.clip(numbers, lowest, lowest + len(indices) - 1)
        found = np.where(within == numbers, indices[within - lowest], np.int32(UNSEEN_INDEX))
        found[values.is_null().to_numpy()] = MISSING_INDEX
        return pl.Series("index", found)

    def save(self, path: Path) -> None:
        pq.write_table(self.table.to_arrow(), path, compression="lz4")


def learn_vocabulary(train: pl.LazyFrame, features: list[Feature]) -> Vocabulary:
    """The categories of all ``features``, which share one vocabulary, counted over training rows.

    Memory: the distinct values of the columns.
    """
    return chosen(count_categories(train, features).lazy(), features)


def count_categories(train: pl.LazyFrame, features: list[Feature]) -> pl.DataFrame:
    """How often each category occurs in all ``features`` together: columns value and count (Int64)."""
    counts = []
    for feature in features:
        values = train.select(value=pl.col(feature.name))
        if feature.is_list:
            values = values.explode("value")
        counted = values.drop_nulls().group_by("value").agg(count=pl.len().cast(pl.Int64))
        counts.append(counted.collect(engine="streaming"))
    return counts[0] if len(counts) == 1 else _added(counts)


def _added(counts: list[pl.DataFrame]) -> pl.DataFrame:
    return pl.concat(counts).group_by("value").agg(pl.col("count").sum())


def chosen(counts: pl.LazyFrame, features: list[Feature]) -> Vocabulary:
    """The vocabulary of ``features`` that these counts of all categories give.

    Where the features differ, the strictest holds: the largest min_count, the smallest max_size.
    """
    min_count = max(feature.min_count for feature in features)
    max_size = min((feature.max_size for feature in features if feature.max_size), default=None)
    table = counts.filter(pl.col("count") >= min_count).collect(engine="streaming")
    table = table.sort(["count", "value"], descending=[True, False])
    if max_size is not None:
        table = table.head(max_size)
    index = pl.int_range(FIRST_INDEX, FIRST_INDEX + pl.len(), dtype=pl.Int32)
    return Vocabulary(table.with_columns(index=index))
