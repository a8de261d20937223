"""A raw table that is not read yet, and queries over all of its rows."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import polars as pl

from datasets.raw.columns import FILE_COLUMN, LINE_COLUMN
from datasets.raw.files import TableFile
from datasets.raw.text import cell
from datasets.schema import Schema


@dataclass(frozen=True)
class RawTable:
    """A table's files, their unchanged rows, the columns' types, and the rows of each file alone."""

    schema: Schema
    files: list[TableFile]
    frame: pl.LazyFrame
    types: Mapping[str, pl.DataType]
    by_file: Sequence[pl.LazyFrame]

    def cell(self, column: str) -> pl.Expr:
        """A text column's cleaned cells."""
        return cell(pl.col(column), self.schema.missing)

    def counts(self, conditions: Mapping[str, pl.Expr]) -> dict[str, int]:
        """How many rows meet each condition, in one pass."""
        if not conditions:
            return {}
        sums = [condition.sum().cast(pl.Int64).alias(name) for name, condition in conditions.items()]
        return self.frame.select(sums).collect(engine="streaming").row(0, named=True)

    def example(self, column: str, condition: pl.Expr, value: pl.Expr | None = None) -> tuple[str, object]:
        """The place of the first row that meets the condition, and its ``value`` (default: the column's)."""
        shown = pl.col(column) if value is None else value
        row = (
            self.frame.filter(condition)
            .select(shown.alias("value"), FILE_COLUMN, LINE_COLUMN)
            .head(1)
            .collect(engine="streaming")
        )
        file = self.files[row[FILE_COLUMN][0]]
        unit = "row {} (counted from 0)" if file.format == "parquet" else "line {}"
        return f"{file.path}: {unit.format(row[LINE_COLUMN][0])}", row["value"][0]
