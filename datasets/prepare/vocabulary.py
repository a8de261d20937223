"""Categories and their indices, learned only from the training split."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import polars as pl
import pyarrow.parquet as pq

from datasets.schema import FIRST_INDEX, MISSING_INDEX, UNSEEN_INDEX, Feature


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

    def encode(self, values: pl.Series) -> pl.Series:
        """The Int32 index of every value, in order."""
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

    def save(self, path: Path) -> None:
        pq.write_table(self.table.to_arrow(), path, compression="lz4")


def learn_vocabulary(train: pl.LazyFrame, features: list[Feature]) -> Vocabulary:
    """Count the categories of all ``features``, which share one vocabulary, over training rows.

    Where the features differ, the strictest holds: the largest min_count, the smallest max_size.
    Memory: the distinct values of the columns.
    """
    counts = []
    for feature in features:
        values = train.select(value=pl.col(feature.name))
        if feature.is_list:
            values = values.explode("value")
        counted = values.drop_nulls().group_by("value").agg(count=pl.len().cast(pl.Int64))
        counts.append(counted.collect(engine="streaming"))
    min_count = max(feature.min_count for feature in features)
    max_size = min((feature.max_size for feature in features if feature.max_size), default=None)
    return Vocabulary(_ranked(pl.concat(counts), min_count, max_size))


def _ranked(counts: pl.DataFrame, min_count: int, max_size: int | None) -> pl.DataFrame:
    table = counts.group_by("value").agg(pl.col("count").sum()).filter(pl.col("count") >= min_count)
    table = table.sort(["count", "value"], descending=[True, False])
    if max_size is not None:
        table = table.head(max_size)
    return table.with_columns(index=pl.int_range(FIRST_INDEX, FIRST_INDEX + pl.len(), dtype=pl.Int32))
