"""Your own data: CSV or parquet files and a schema written as YAML."""

from __future__ import annotations

from pathlib import Path

import polars as pl

from datasets.errors import InputError
from datasets.raw_files import describe_files
from datasets.schema import ColumnSplit, Schema, load_schema
from datasets.source import Source

SUFFIXES = (".parquet", ".csv")


def source(schema_file: Path) -> Source:
    """The table that a schema file describes, not yet read.

    Its ``files`` are globs relative to the YAML; without them, all *.parquet or all *.csv beside it.
    Files follow one another in the order of their paths. Columns that the schema does not name are
    not read; where files differ in a column's type, the wider one holds. CSV has a header line and
    commas; dates and times in ISO form are recognised.

    Raises InputError on a missing file, mixed kinds, or a column that a file lacks.
    """
    schema_file = Path(schema_file)
    schema = load_schema(schema_file)
    files = find_files(schema_file, schema)
    frame = pl.concat([_scan(path, schema) for path in files], how="vertical_relaxed")
    notes: dict[str, int | float | str] = {"files": ", ".join(path.name for path in files)}
    return Source(schema, frame, identity(schema_file), notes)


def identity(schema_file: Path) -> dict:
    """All that decides the content: the schema, and the files' names, sizes and sha256."""
    schema = load_schema(Path(schema_file))
    files = find_files(Path(schema_file), schema)
    return {"schema": schema.model_dump(mode="json"), "files": describe_files(files)}


def find_files(schema_file: Path, schema: Schema) -> list[Path]:
    """The raw files, which exist and are of one kind, sorted by path."""
    folder = schema_file.parent
    found: set[Path] = set()
    for pattern in schema.files:
        matches = [path for path in _glob(folder, pattern) if path.is_file()]
        if not matches:
            raise InputError(
                f"{schema_file}: files: {pattern!r} matches no file in {folder.absolute()}; mend the pattern"
            )
        found.update(matches)
    if not schema.files:
        found.update(path for suffix in SUFFIXES for path in folder.glob(f"*{suffix}"))
    kinds = {path.suffix for path in found}
    if not found:
        raise InputError(f"{schema_file}: there is no *.parquet or *.csv beside it; add one or name 'files:'")
    if not kinds <= set(SUFFIXES):
        wrong = min(path.name for path in found if path.suffix not in SUFFIXES)
        raise InputError(
            f"{schema_file}: files: {wrong!r} is neither .parquet nor .csv; convert it or leave it out"
        )
    if len(kinds) > 1:
        raise InputError(
            f"{schema_file}: files: both .parquet and .csv were found; name those of one kind in 'files:'"
        )
    return sorted(found)


def _glob(folder: Path, pattern: str) -> list[Path]:
    absolute = Path(pattern)
    if absolute.is_absolute():
        return list(Path(absolute.anchor).glob(str(absolute.relative_to(absolute.anchor))))
    return list(folder.glob(pattern))


def _scan(path: Path, schema: Schema) -> pl.LazyFrame:
    try:
        if path.suffix == ".parquet":
            frame = pl.scan_parquet(path)
        else:
            # The whole file decides a column's type: a column may hold its first letter in the last row.
            frame = pl.scan_csv(path, try_parse_dates=True, infer_schema_length=None)
        known = frame.collect_schema().names()
    except pl.exceptions.PolarsError as error:
        reason = str(error).strip().splitlines()[0]
        raise InputError(
            f"{path}: cannot be read as a {path.suffix[1:]} table ({reason}); mend the file"
        ) from None
    wanted = _columns(schema)
    for column, wanted_by in wanted.items():
        if column not in known:
            raise InputError(
                f"{path}: has no column {column!r}, which {wanted_by} needs; it has {', '.join(known[:20])}"
                f"{', ...' if len(known) > 20 else ''}"
            )
    return frame.select(list(wanted))


def _columns(schema: Schema) -> dict[str, str]:
    """Every raw column that the schema names, and what for."""
    columns = {feature.source_column: f"feature {feature.name!r}" for feature in schema.features}
    for task in schema.tasks:
        columns[task.source_column] = f"task {task.name!r}"
        if task.probability:
            columns[task.probability] = f"the probability of task {task.name!r}"
    columns[schema.user_id] = "user_id"
    if schema.time:
        columns[schema.time] = "time"
    if schema.tier:
        columns[schema.tier] = "tier"
    if schema.baseline:
        columns[schema.baseline.column] = f"baseline {schema.baseline.name!r}"
    if isinstance(schema.split, ColumnSplit):
        columns[schema.split.column] = "split.column"
    return columns
