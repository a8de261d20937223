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
    commas; dates and times in ISO form are recognised. Users and categories of a CSV are what it writes
    ("01" is not "1"), but numbers where every file writes them as such.

    Raises InputError on a missing file, mixed kinds, a column that a file lacks, and on a CSV without
    rows, with text in a column of numbers, or with times in another form.
    """
    schema_file = Path(schema_file)
    schema = load_schema(schema_file)
    files = find_files(schema_file, schema)
    frame = pl.concat([_scan(path, schema) for path in files], how="vertical_relaxed")
    if files[0].suffix == ".csv":
        frame = _with_numbers(frame, _label_columns(schema))
    notes: dict[str, int | float | str] = {"files": ", ".join(path.name for path in files)}
    return Source(schema, frame, identity(schema_file), notes)


def identity(schema_file: Path) -> dict:
    """All that decides the content: the schema, the files' names, sizes and sha256, and how CSV is read."""
    schema = load_schema(Path(schema_file))
    files = find_files(Path(schema_file), schema)
    reading = {"labels": "as written"} if files[0].suffix == ".csv" else {}
    return {"schema": schema.model_dump(mode="json"), "files": describe_files(files), **reading}


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
    path = Path(pattern)
    if path.is_absolute():
        folder, path = Path(path.anchor), path.relative_to(path.anchor)
    if path == Path():  # an empty pattern or a dot, which pathlib does not take
        return []
    return list(folder.glob(str(path)))


def _scan(path: Path, schema: Schema) -> pl.LazyFrame:
    """One file's columns that the schema names; InputError if it lacks one or cannot be read."""
    try:
        if path.suffix == ".parquet":
            return _named(path, pl.scan_parquet(path), schema)
        # The whole file decides a column's type: a column may hold its first letter in the last row.
        as_written = dict.fromkeys(_label_columns(schema), pl.String)
        frame = pl.scan_csv(path, try_parse_dates=True, infer_schema_length=None, schema_overrides=as_written)
        return _typed_csv(path, _named(path, frame, schema), schema)
    except pl.exceptions.PolarsError as error:
        reason = str(error).strip().splitlines()[0]
        raise InputError(
            f"{path}: cannot be read as a {path.suffix[1:]} table ({reason}); mend the file"
        ) from None


def _named(path: Path, frame: pl.LazyFrame, schema: Schema) -> pl.LazyFrame:
    known = frame.collect_schema().names()
    wanted = _columns(schema)
    for column, wanted_by in wanted.items():
        if column not in known:
            raise InputError(
                f"{path}: has no column {column!r}, which {wanted_by} needs; it has {', '.join(known[:20])}"
                f"{', ...' if len(known) > 20 else ''}"
            )
    return frame.select(list(wanted))


def _typed_csv(path: Path, frame: pl.LazyFrame, schema: Schema) -> pl.LazyFrame:
    """Columns of numbers as numbers and texts to be split as text, whatever this file's values suggest.

    A column without any value, or with quoted numbers, would pass for text; one of lists with at most
    one element each, for numbers.
    """
    if frame.head(1).collect().is_empty():
        raise InputError(f"{path}: has a header but no rows; fill it or leave it out")
    types = frame.collect_schema()
    if schema.time and types[schema.time].is_temporal():
        _require_iso(path, schema.time)
    numbers = [column for column in _number_columns(schema) if types[column] == pl.String]
    for column in numbers:
        is_text = pl.col(column).is_not_null() & pl.col(column).cast(pl.Float64, strict=False).is_null()
        found = frame.select(column).with_row_index("row").filter(is_text).head(1).collect()
        if found.height:
            raise InputError(
                f"{path}: column {column!r} holds {found[column][0]!r} in row {found['row'][0]} "
                "(counted from 0), which is no number; mend it or choose another column"
            )
    texts = [feature.source_column for feature in schema.features if feature.separator]
    return frame.with_columns(pl.col(numbers).cast(pl.Float64), pl.col(texts).cast(pl.String))


def _require_iso(path: Path, column: str) -> None:
    """Polars reads dates with slashes too, and takes the first number for the day."""
    written = pl.scan_csv(path, infer_schema=False).select(pl.col(column).drop_nulls())
    other = written.filter(~pl.col(column).str.contains(r"^\d{4}-\d\d")).head(1).collect()
    if other.height:
        raise InputError(
            f"{path}: column {column!r} holds {other[column][0]!r}, which is not in ISO form; "
            "write dates and times such as 2022-05-31"
        )


def _label_columns(schema: Schema) -> list[str]:
    """Raw columns of users and categories that hold neither numbers, nor times, nor lists."""
    columns = [feature.source_column for feature in schema.sparse_features if not feature.separator]
    others = {*_number_columns(schema), schema.time}
    return [column for column in dict.fromkeys([*columns, schema.user_id]) if column not in others]


def _with_numbers(frame: pl.LazyFrame, columns: list[str]) -> pl.LazyFrame:
    """Texts that every file writes as numbers, as numbers: 7 beside 7.0 in another file is one category."""
    types = {pl.Int64: r"^(0|-?[1-9]\d{0,17})$", pl.Float64: r"^-?(0|[1-9]\d{0,14})(\.\d+)?$"}
    is_written_so = frame.select(
        ((pl.col(column).count() > 0) & pl.col(column).str.contains(pattern).all()).alias(
            f"{column} {number}"
        )
        for column in columns
        for number, pattern in types.items()
    ).collect()
    found = {
        column: next((n for n in types if is_written_so[f"{column} {n}"][0]), pl.String) for column in columns
    }
    return frame.with_columns(pl.col(column).cast(number) for column, number in found.items())


def _number_columns(schema: Schema) -> list[str]:
    """Raw columns that must hold numbers."""
    columns = [feature.source_column for feature in schema.numeric_features]
    for task in schema.tasks:
        columns += [task.source_column, *([task.probability] if task.probability else [])]
    columns += [schema.tier] if schema.tier else []
    columns += [schema.baseline.column] if schema.baseline else []
    return list(dict.fromkeys(columns))


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
