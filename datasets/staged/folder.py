"""A staged folder: typed rows in order, by split, and what was counted of them, as an engine hands them over.

::

    manifest.json                    format, schema, rows of each split, checksums (`Manifest`)
    train, valid, test / *.parquet   staged rows (`datasets.prepare.stage`)
    counts/<vocabulary>/*.parquet    value and count (Int64) of each category of the training rows
    moments.json                     {feature: [{"number", "mean", "squares"}, one for each component]}

Files are read in the order of their names. Rows are in the order of time, ties in that of the source; without
time, in that of the source. Categories ascend through all files (text by its UTF-8 bytes); hashed ids have
no counts. Moments (`datasets.prepare.learn.Moments`) are those of the training rows, after log1p where the
schema says so, of the features that are normalised.
"""

from __future__ import annotations

import json
import re
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import polars as pl
from pydantic import BaseModel, ConfigDict, Field, ValidationError

from datasets.own_table import READING
from datasets.prepare.split import SPLITS
from datasets.prepared import schema_fingerprint
from datasets.raw.files import stamp_of
from datasets.schema import Schema, first_problem
from files.checksums import sha256_of
from files.errors import InputError

FORMAT = 1
MANIFEST, MOMENTS, COUNTS = "manifest.json", "moments.json", "counts"
TIMES: dict[str, pl.DataType] = {"int64": pl.Int64(), "float64": pl.Float64(), "date": pl.Date()}
DATETIME = re.compile(r"datetime\[(ms|us|ns)(?:, ([^\]]+))?\]")
STAGE_AGAIN = "stage the table again"


class Origin(BaseModel):
    """The raw files, where the folder holds to the last bit what this program makes of them."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    files: list[dict[str, Any]] = Field(description="`datasets.raw.files.TableFile.describe` of each")
    reading: int = Field(description="`datasets.own_table.READING`")
    notes: dict[str, Any] = Field(description="of `datasets.source.Source`")


class Manifest(BaseModel):
    """``manifest.json``."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    format: int
    schema_: str = Field(alias="schema", description="`datasets.prepared.schema_fingerprint`")
    time: str | None = Field(description="int64, float64, date, datetime[us], datetime[us, UTC] ...")
    rows: dict[str, int]
    files: dict[str, str] = Field(description="sha256 by path, of all but the manifest")
    made_with: dict[str, str] = Field(default_factory=dict, description="program: version; only shown")
    origin: Origin | None = Field(None, description="left out: the folder's own content names the data")


@dataclass(frozen=True)
class StagedTable:
    """An opened staged folder, of which nothing but the manifest has been checked."""

    path: Path
    schema: Schema
    manifest: Manifest
    stamps: dict[str, tuple[int, int, int, int]]

    @classmethod
    def find(cls, schema_file: Path, schema: Schema) -> StagedTable:
        """The folder that ``schema`` names as ``staged``, relative to its file.

        Raises InputError where it is of another format or schema, or lacks a file.
        """
        assert schema.staged is not None, "the schema names a folder"
        folder = schema_file.parent / schema.staged
        manifest = _read_manifest(folder, schema)
        stamps = {}
        for name in manifest.files:
            if not (folder / name).is_file():
                raise InputError(f"{folder / name}: is missing; {STAGE_AGAIN}")
            stamps[name] = stamp_of(folder / name)
        return cls(folder, schema, manifest, stamps)

    @cached_property
    def identity(self) -> dict:
        """That of the raw table where the manifest has its origin, otherwise the checksum of the manifest."""
        schema, origin = self.schema.model_dump(mode="json"), self.manifest.origin
        if origin is None:
            return {"schema": schema, "staged": sha256_of(self.path / MANIFEST)}
        return {"schema": schema, "files": origin.files, "reading": origin.reading}

    @property
    def notes(self) -> dict[str, int | float | str]:
        """Those of the raw table where the manifest has its origin, otherwise what made the folder."""
        if self.manifest.origin is not None:
            return self.manifest.origin.notes
        made_with = ", ".join(f"{name} {version}" for name, version in self.manifest.made_with.items())
        return {"staged folder": self.path.name, "staged with": made_with or "not stated"}

    @property
    def time_type(self) -> pl.DataType | None:
        """What the numbers of ``@time`` stand for."""
        return None if self.manifest.time is None else time_of_name(self.manifest.time)

    def rows_of(self, split: str) -> list[Path]:
        """The files of a split, in order."""
        return self._parquet(split)

    def counts_of(self, vocabulary: str) -> list[Path]:
        """The files of a vocabulary's counts, in order."""
        return self._parquet(f"{COUNTS}/{vocabulary}")

    def _parquet(self, folder: str) -> list[Path]:
        listed = {str(Path(name)) for name in self.manifest.files}
        found = sorted((self.path / folder).glob("*.parquet"))
        for file in found:
            if str(file.relative_to(self.path)) not in listed:
                raise InputError(f"{file}: is not in {MANIFEST}; remove the file, or {STAGE_AGAIN}")
        return found

    def check_unchanged(self) -> None:
        """InputError where a file was changed or removed since the folder was opened."""
        for name, stamp in self.stamps.items():
            file = self.path / name
            if not file.is_file() or stamp_of(file) != stamp:
                raise InputError(f"{file}: was changed while it was read; run the same command again")


def _read_manifest(folder: Path, schema: Schema) -> Manifest:
    file = folder / MANIFEST
    if not file.is_file():
        raise InputError(f"{file}: is missing; give the folder of a staged table as 'staged'")
    try:
        manifest = Manifest.model_validate_json(file.read_bytes())
    except ValidationError as error:
        raise InputError(f"{first_problem(error, str(file))}; {STAGE_AGAIN}") from None
    if manifest.format != FORMAT:
        raise InputError(
            f"{file}: has format {manifest.format}, and this program reads format {FORMAT}; {STAGE_AGAIN}"
        )
    if manifest.schema_ != schema_fingerprint(schema):
        raise InputError(
            f"{file}: schema is {manifest.schema_}, and that of this table {schema_fingerprint(schema)}; "
            f"{STAGE_AGAIN} with this schema"
        )
    if manifest.origin is not None and manifest.origin.reading != READING:
        raise InputError(
            f"{file}: the raw files were read by rules {manifest.origin.reading}, and this program has rules "
            f"{READING}; {STAGE_AGAIN}"
        )
    if MOMENTS not in manifest.files:
        raise InputError(f"{file}: files: lacks {MOMENTS}; name every file of the folder")
    if set(manifest.rows) != set(SPLITS):
        raise InputError(f"{file}: rows: has other splits; give the rows of {', '.join(SPLITS)}")
    if (manifest.time is None) != (schema.time is None):
        raise InputError(
            f"{file}: time is {manifest.time!r}, and that of the schema {schema.time!r}; mend it"
        )
    if manifest.time is not None and time_of_name(manifest.time) is None:
        known = f"{', '.join(TIMES)}, datetime[us], or datetime[us, UTC] with a zone that exists"
        raise InputError(f"{file}: time is {manifest.time!r}; give one of {known}")
    return manifest


def time_of_name(name: str) -> pl.DataType | None:
    """The type of the times that a manifest names, None where there is none of that name.

    Example
        >>> time_of_name("datetime[us, UTC]")
        Datetime(time_unit='us', time_zone='UTC')
    """
    if name in TIMES:
        return TIMES[name]
    parts = DATETIME.fullmatch(name)
    if parts is None:
        return None
    dtype = pl.Datetime(parts[1], parts[2])  # type: ignore[arg-type]
    try:
        pl.Series([0]).cast(dtype)
    except pl.exceptions.PolarsError:  # no such time zone
        return None
    return dtype


def time_name(dtype: pl.DataType) -> str:
    """What `time_of_name` reads."""
    if isinstance(dtype, pl.Datetime):
        return f"datetime[{dtype.time_unit}{f', {dtype.time_zone}' if dtype.time_zone else ''}]"
    return next(name for name, known in TIMES.items() if known == dtype)


def write_manifest(
    folder: Path,
    schema: Schema,
    time: pl.DataType | None,
    rows: dict[str, int],
    files: dict[str, str],
    made_with: dict[str, str],
    origin: Origin | None,
) -> None:
    """Write ``manifest.json`` of a folder whose other files, with these checksums, are complete."""
    manifest = {
        "format": FORMAT,
        "schema": schema_fingerprint(schema),
        "time": None if time is None else time_name(time),
        "rows": rows,
        "files": files,
        "made_with": made_with,
    } | ({} if origin is None else {"origin": origin.model_dump(mode="json")})
    (folder / MANIFEST).write_text(json.dumps(manifest, indent=2) + "\n", encoding="utf-8")
