"""Your own data: delimited text, JSON lines or parquet, and a schema written as YAML."""

from __future__ import annotations

import atexit
import os
import shutil
import tempfile
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

import polars as pl

from datasets.raw.columns import FILE_COLUMN, uses, wanted_columns
from datasets.raw.delimited import delimited_to_parquet
from datasets.raw.facts import text_facts
from datasets.raw.files import TableFile, find_files, format_of, skipped_tables
from datasets.raw.json_lines import json_lines_to_parquet
from datasets.raw.parquet import agreed_frames
from datasets.raw.table import RawTable
from datasets.raw.text import POLARS_ERRORS, first_line
from datasets.schema import Schema, load_schema
from datasets.source import Source
from files.errors import InputError

MOST_NAMED = 5  # of skipped files
READING = 3  # of these rules; a table that was prepared by others is prepared again


@dataclass(frozen=True)
class OwnTable:
    """The files that a schema describes, which must stay as they are until they have been prepared.

    The schema's ``files`` are patterns relative to the YAML; without them, every table in its folder is read.
    They are read in the order of their paths, have one format, and agree in the types of the columns that the
    schema names. Other columns are not read. Folders named key=value are text columns.
    """

    schema_file: Path
    schema: Schema
    files: list[TableFile]
    stamps: list[tuple[int, int, int, int]]

    @classmethod
    def find(cls, schema_file: Path) -> OwnTable:
        """The table of a schema file; InputError on a bad schema, and where files are missing or mixed."""
        schema_file = Path(schema_file)
        schema = load_schema(schema_file)
        files = find_files(schema_file, schema)
        return cls(schema_file, schema, files, [file.stamp() for file in files])

    @cached_property
    def identity(self) -> dict:
        """All that decides the content: the schema, the files, and the rules by which they are read."""
        described = [file.describe() for file in self.files]
        self.check_unchanged()
        return {"schema": self.schema.model_dump(mode="json"), "files": described, "reading": READING}

    def check_unchanged(self) -> None:
        """InputError where a file was written to, replaced or removed since it was found."""
        for file, stamp in zip(self.files, self.stamps, strict=True):
            if not file.path.is_file() or file.stamp() != stamp:
                raise InputError(f"{file.path}: was changed while it was read; run the same command again")

    def source(self, scratch: Path) -> Source:
        """The table, checked; text is brought to parquet in ``scratch``, which must live as long.

        Raises InputError, with file and line, on what cannot be read as it was meant.
        """
        identity = self.identity
        raw = self._raw(scratch)
        try:
            facts, notes = text_facts(raw)
        except POLARS_ERRORS as error:
            raise InputError(
                f"dataset {self.schema.name!r}: the raw table cannot be read ({first_line(error)}); mend "
                "the file"
            ) from None
        names = {"files": ", ".join(file.name for file in self.files)}
        notes = names | self._skipped() | self._copies() | self._empty(raw) | notes
        notes |= _computed_labels(self.schema)
        return Source(self.schema, raw.frame, identity, notes, facts, self.check_unchanged, raw.by_file)

    def _raw(self, scratch: Path) -> RawTable:
        wanted = uses(self.schema)
        places: dict[str, Path] = {}
        for number, file in enumerate(self.files):
            target = scratch / f"{number:06d}.parquet"
            if file.format == "csv":
                delimited_to_parquet(file, self.schema.csv, wanted_columns(wanted), target)
            elif file.format == "json lines":
                json_lines_to_parquet(file, wanted_columns(wanted), target)
            places[file.name] = file.path if file.format == "parquet" else target
        frames = agreed_frames(self.files, places, wanted, self.schema.missing)
        frame = pl.concat(frames, how="vertical")
        return RawTable(self.schema, self.files, frame, dict(frame.collect_schema()), frames)

    def _empty(self, raw: RawTable) -> dict[str, int | float | str]:
        """Files without rows, as Spark writes them; InputError where all are."""
        filled = set(raw.frame.select(pl.col(FILE_COLUMN).unique()).collect(engine="streaming")[FILE_COLUMN])
        empty = [file.name for number, file in enumerate(self.files) if number not in filled]
        if not filled:
            raise InputError(f"{self.schema_file}: files: no file has any rows ({empty[0]}); fill them")
        return {"files without rows": ", ".join(empty)} if empty else {}

    def _skipped(self) -> dict[str, int | float | str]:
        """Tables with a leading underscore that wildcards skip and no pattern names in full."""
        folder, read = self.schema_file.parent, self.files[0].format
        skipped = [path for pattern in self.schema.files or ["*"] for path in skipped_tables(folder, pattern)]
        alike = {path for path in skipped if (known := format_of(path)) and known[0] == read}
        names = sorted({os.path.relpath(path, folder) for path in alike} - {file.name for file in self.files})
        if not names:
            return {}
        shown, more = ", ".join(names[:MOST_NAMED]), len(names) - MOST_NAMED
        shown += f" and {more} more" if more > 0 else ""
        return {"skipped for a leading underscore": f"{shown}; name them in full to read them"}

    def _copies(self) -> dict[str, int | float | str]:
        counts = Counter(file["sha256"] for file in self.identity["files"])
        copies = [f["name"] for f in self.identity["files"] if counts[f["sha256"]] > 1]
        return {"files with the same content": ", ".join(copies)} if copies else {}


def _computed_labels(schema: Schema) -> dict[str, int | float | str]:
    """Of every label that is computed, how, and which of its columns are inputs as well."""
    notes: dict[str, int | float | str] = {}
    inputs = {feature.source_column for feature in schema.features}
    for task in schema.tasks:
        if task.expression is not None:
            both = [column for column in task.columns if column in inputs]
            warning = f"; features read {', '.join(both)}, which must be known before the outcome"
            notes[f"label {task.name}"] = task.expression + (warning if both else "")
    return notes


def own_table(schema_file: Path) -> tuple[str, dict, Callable[[Path], Source]]:
    """Name, identity and source of the table that a schema file describes."""
    table = OwnTable.find(schema_file)
    return table.schema.name, table.identity, table.source


def source(schema_file: Path, scratch: Path | None = None) -> Source:
    """The checked table of a schema file; without ``scratch``, a temporary folder until this process ends."""
    if scratch is None:
        scratch = Path(tempfile.mkdtemp(prefix="own-table-"))
        atexit.register(shutil.rmtree, scratch, ignore_errors=True)
    return OwnTable.find(schema_file).source(scratch)
