"""A public table that is split into files by its publisher: read as one's own table is, by a schema in
code.

Rows are not shuffled and not dropped: the split is the published one. The md5 sums of the files, where
their publisher states them, are compared when the table is prepared, and ``data describe``, records and
reports say where they differ.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path

import polars as pl
import pyarrow.parquet as pq
from pydantic import BaseModel, ConfigDict, Field, ValidationError

from datasets.fetch.official import ARCHIVES
from datasets.fetch.raw_files import find_folder, require_file
from datasets.own_table import OwnTable
from datasets.raw.columns import LINE_COLUMN
from datasets.raw.files import TableFile
from datasets.schema import ColumnSplit, Feature, Schema, first_problem
from datasets.source import Source, parse_options
from files.checksums import md5_of
from files.errors import InputError

SPLIT = "split"  # a column: which file a row is from
BY_FILE = ColumnSplit(column=SPLIT)
THREE_FILES = {"train": "train.csv", "valid": "valid.csv", "test": "test.csv"}
TEST_VALIDATES = {"train": "train.csv", "valid": "test.csv", "test": "test.csv"}
TWO_FILES = {"train": "train.csv", "test": "test.csv"}
HELD_OUT = 0.1  # of the training file: its last rows validate


@dataclass(frozen=True)
class PublishedTable:
    """A dataset ``name`` whose raw files are those of ``archive`` in `ARCHIVES`.

    ``inside`` is the folder in the archive, ``files`` the file of each split; without one for validation, the
    last rows of the training file validate. ``schema`` makes the schema for an embedding width. Where
    ``derived`` names columns that are computed, ``raw`` makes the features that the raw columns are read as.
    """

    name: str
    archive: str
    inside: str
    files: Mapping[str, str]
    embedding_dim: int
    schema: Callable[[str, int], Schema]
    derived: Mapping[str, pl.Expr] = field(default_factory=dict)
    raw: Callable[[Schema], Schema] | None = None

    def source(self, options: dict, data_root: Path | None, scratch: Path) -> Source:
        """The table below ``data_root``; text is brought to parquet in ``scratch``.

        Raises InputError on an unknown option, a missing or changed file, and a value that is not allowed.
        """
        schema = self._schema(options)
        table = self._table(schema, data_root)
        read = table.source(scratch)
        frame = read.frame.with_columns(**self.derived)
        notes = dict(read.notes)
        if "valid" not in self.files:
            frame = frame.with_columns(_last_rows_validate(scratch / "000000.parquet"))
        if validation := self._validation():
            notes["validation"] = validation
        notes["published files"] = self._compared_with_published(table)
        return replace(read, schema=schema, frame=frame, identity=self._identity(schema, table), notes=notes)

    def identity(self, options: dict, data_root: Path | None) -> dict:
        """Everything that determines the content: the schema, the rules of reading, and the raw files."""
        schema = self._schema(options)
        return self._identity(schema, self._table(schema, data_root))

    def raw_folder(self, data_root: Path | None) -> Path:
        """Where the raw files are; InputError where one is missing."""
        return self._paths(data_root)[0].parent

    def _schema(self, options: dict) -> Schema:
        chosen = parse_options(_Options, options, self.name)
        try:
            return self.schema(self.name, chosen.embedding_dim or self.embedding_dim)
        except ValidationError as error:
            raise InputError(
                first_problem(error, f"option of dataset {self.name!r}: embedding_dim")
            ) from None

    def _paths(self, data_root: Path | None) -> list[Path]:
        folder = find_folder(self.archive, data_root, self.inside, self.files["train"])
        return [require_file(folder / name, self.archive) for name in self.files.values()]

    def _table(self, schema: Schema, data_root: Path | None) -> OwnTable:
        paths = self._paths(data_root)
        files: list[TableFile] = []
        for split, path in zip(self.files, paths, strict=True):
            is_again = any(file.path == path for file in files)
            name = f"{path.name} as {split}" if is_again else path.name
            files.append(TableFile(path, name, "csv", None, {SPLIT: split}))
        return OwnTable(
            paths[0].parent, self.raw(schema) if self.raw else schema, files, [file.stamp() for file in files]
        )

    def _identity(self, schema: Schema, table: OwnTable) -> dict:
        read = {key: value for key, value in table.identity.items() if key != "schema"}
        return {"dataset": self.name, "schema": schema.model_dump(mode="json"), **read}

    def _validation(self) -> str:
        """How it differs from rows of a file of its own."""
        if "valid" not in self.files:
            return f"the last {HELD_OUT:.0%} of the rows of {self.files['train']}, which are not trained on"
        if self.files["valid"] == self.files["test"]:
            return (
                "the test rows, as in the published protocol: whatever validation chooses is chosen on the "
                f"test split ({self.archive}-clean has a validation split of its own)"
            )
        return ""

    def _compared_with_published(self, table: OwnTable) -> str:
        """Whether the files are the published ones, byte by byte."""
        published = ARCHIVES[self.archive].files
        if not published:
            return "not checked: their md5 is not stated"
        found = {file.path.name: md5_of(file.path) for file in table.files}
        differing = [name for name in found if found[name] != published.get(name)]
        if differing:
            return f"NOT the published files: the md5 of {', '.join(differing)} is another"
        return f"{', '.join(found)}: md5 as published"


class _Options(BaseModel):
    """``embedding_dim``: the width of every feature; None for the published one, 12 where that is 10."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    embedding_dim: int | None = Field(default=None, ge=1, le=4096)


def _last_rows_validate(train: Path) -> pl.Expr:
    """The split of each row, where ``train`` is the training file as parquet."""
    rows = pq.read_metadata(train).num_rows
    first = rows - max(1, round(HELD_OUT * rows))
    line = pl.scan_parquet(train, glob=False).select(LINE_COLUMN).slice(first, 1).collect().item()
    is_last = (pl.col(SPLIT) == "train") & (pl.col(LINE_COLUMN) >= line)
    return pl.when(is_last).then(pl.lit("valid")).otherwise(pl.col(SPLIT)).alias(SPLIT)


def categories(names: list[str], group: str, dim: int, min_count: int = 1) -> list[Feature]:
    """Categorical features of one group."""
    return [
        Feature(name=name, kind="categorical", group=group, embedding_dim=dim, min_count=min_count)
        for name in names
    ]


def numbers(names: list[str], group: str, dim: int, normalization: str = "none") -> list[Feature]:
    """Numeric features of one group."""
    made = {"kind": "numeric", "group": group, "embedding_dim": dim, "normalization": normalization}
    return [Feature.model_validate({"name": name, **made}) for name in names]
