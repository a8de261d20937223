"""Reads all columns of the files for which a schema is drafted."""

from __future__ import annotations

import csv
import io
import json
import os
import re
from collections.abc import Callable
from dataclasses import dataclass, field
from itertools import islice, takewhile
from pathlib import Path

import polars as pl

from datasets.raw.blocks import text_blocks
from datasets.raw.columns import Role, has_another_meaning
from datasets.raw.delimited import SEPARATORS, delimited_to_parquet
from datasets.raw.files import FORMATS, TableFile, expand, format_of, skipped_tables, table_files
from datasets.raw.json_lines import json_lines_to_parquet
from datasets.raw.parquet import as_agreed
from datasets.raw.text import NUMBER, POLARS_ERRORS, first_line
from datasets.raw.types import agreed_type
from datasets.schema import Csv
from files.errors import InputError

ANOTHER_MEANING = "its name has another meaning here; rename it"
SNIFFED_LINES = 200
SNIFFED_RECORDS = 20_000
MOST_NAMED_FILES = 12  # more are named by a pattern, if one matches exactly these
Report = Callable[[str, float], None]  # what is being done, and the share that is done


@dataclass(frozen=True)
class DraftTable:
    """The files as one table, and the settings that a schema needs to read them in the same way."""

    files: list[TableFile]
    patterns: list[str]
    csv: Csv
    has_header: bool
    frame: pl.LazyFrame
    types: dict[str, pl.DataType]
    left_out: dict[str, str] = field(default_factory=dict)  # columns that no schema can name, and why
    parts: list[pl.LazyFrame] = field(default_factory=list)  # the frame file by file
    skipped: list[str] = field(default_factory=list)  # tables in the folders, for a leading underscore


def read_table(inputs: list[str], schema_file: Path, scratch: Path, report: Report) -> DraftTable:
    """Every column of the files; text is checked line by line and written to parquet in ``scratch``.

    ``inputs`` are files, folders or patterns as typed, ``schema_file`` is where the schema will lie. Columns
    that differ in type between files, that some file lacks, or that hold neither values nor lists of values
    are left out with the reason. Raises InputError on what cannot be read.
    """
    patterns = _patterns(inputs, schema_file.parent)
    files = table_files(schema_file, patterns)
    settings, has_header = Csv(), True
    if files[0].format == "csv":
        settings, has_header = _dialect(files[0])
    frames: list[pl.LazyFrame] = []
    left_out: dict[str, str] = {}
    for number, file in enumerate(files):
        report(f"reading {file.path.name}", number / len(files))
        frame, odd = _frame(file, settings, scratch / f"{number:06d}.parquet")
        frames.append(frame)
        left_out |= odd
    report("", 1.0)
    types = [dict(frame.collect_schema()) for frame in frames]
    agreed = {}
    for column in dict.fromkeys(column for found in types for column in found):
        dtype, why = _agreed(column, files, types)
        if dtype is None:
            left_out.setdefault(column, why)
        elif column not in left_out:
            agreed[column] = dtype
    parts = [
        frame.select(
            as_agreed(column, found[column], dtype, isinstance(dtype, pl.List)).alias(column)
            for column, dtype in agreed.items()
        )
        for frame, found in zip(frames, types, strict=True)
    ]
    if not agreed:
        raise InputError(f"{files[0].path}: has no column of the same type in every file; check the files")
    frame, skipped = pl.concat(parts), _skipped(inputs, files)
    return DraftTable(files, patterns, settings, has_header, frame, agreed, left_out, parts, skipped)


def _patterns(inputs: list[str], home: Path) -> list[str]:
    """The files as the schema names them: relative to the schema where they are below its folder."""
    paths = sorted({path for given in inputs for path in _paths(given)})
    below = all(path.is_relative_to(home.absolute()) for path in paths)
    names = [str(path.relative_to(home.absolute()) if below else path) for path in paths]
    if len(names) <= MOST_NAMED_FILES:
        return names
    common = Path(*_common_parts(names))
    for pattern in (f"{common}/*", f"{common}/**/*"):
        for ending in ("".join(paths[0].suffixes[-2:]), paths[0].suffix):
            if sorted(map(Path.absolute, expand(home, pattern + ending))) == paths:
                return [pattern + ending]
    return names


def _common_parts(names: list[str]) -> list[str]:
    """The parent folders that all files share."""
    levels = zip(*(Path(name).parent.parts for name in names), strict=False)
    return [level[0] for level in takewhile(lambda level: len(set(level)) == 1, levels)]


def _paths(given: str) -> list[Path]:
    """The files of one argument; of a folder, every table in it and below."""
    found = expand(Path.cwd(), given)
    if not found:
        raise InputError(f"data init: {given}: there is no such file; mend the path or the pattern")
    paths: list[Path] = []
    for path in found:
        if not path.is_dir():
            paths.append(path)
            continue
        inside = [p for p in expand(path, "**/*") if p.is_file() and set(p.suffixes) & set(FORMATS)]
        if not inside:
            raise InputError(f"data init: {given}: the folder holds no table; name files to describe")
        paths += inside
    return [path.absolute() for path in paths]


def _skipped(inputs: list[str], files: list[TableFile]) -> list[str]:
    """Tables of the same format that wildcards and folders leave out, and no argument names in full."""
    found = set()
    for given in inputs:
        found |= set(skipped_tables(Path.cwd(), given))
        for path in expand(Path.cwd(), given):
            found |= set(skipped_tables(path, "**/*")) if path.is_dir() else set()
    found -= {file.path for file in files}
    alike = {path for path in found if (known := format_of(path)) and known[0] == files[0].format}
    return [os.path.relpath(path) for path in sorted(alike)]


def _frame(file: TableFile, settings: Csv, target: Path) -> tuple[pl.LazyFrame, dict[str, str]]:
    """One file's columns, including those of partition folders, and the columns that cannot be used."""
    odd: dict[str, str] = {}
    if file.format == "csv":
        names = settings.columns or _first_record(file, settings)
        twice = {name for name in names if names.count(name) > 1}
        odd = dict.fromkeys(twice, "stands in the header more than once")
        delimited_to_parquet(file, settings, _wanted(file, names, odd), target)
    elif file.format == "json lines":
        names, odd = _json_fields(file)
        json_lines_to_parquet(file, _wanted(file, names, odd), target)
    try:
        frame = pl.scan_parquet(
            file.path if file.format == "parquet" else target, glob=False, hive_partitioning=False
        )
        columns = frame.collect_schema().names()
    except (*POLARS_ERRORS, OSError) as error:
        raise InputError(
            f"{file.path}: cannot be read as a parquet table ({first_line(error)}); mend the file"
        ) from None
    kept = [name for name in columns if not has_another_meaning(name) and name not in file.partition]
    if file.format == "parquet":
        odd = {name: ANOTHER_MEANING for name in columns if has_another_meaning(name)}
    own = {name: pl.lit(value, pl.String).alias(name) for name, value in file.partition.items()}
    return frame.select(*kept, *own.values()), odd


def _wanted(file: TableFile, names: list[str], odd: dict[str, str]) -> dict[str, str]:
    """The columns to read, and what for; ``odd`` gets those whose name has another meaning."""
    odd |= {name: ANOTHER_MEANING for name in names if has_another_meaning(name)}
    return {name: "the draft" for name in names if name not in odd and name not in file.partition}


def _agreed(
    column: str, files: list[TableFile], types: list[dict[str, pl.DataType]]
) -> tuple[pl.DataType | None, str]:
    """The type of a column in all files, or the reason that it cannot be used."""
    absent = [file.name for file, found in zip(files, types, strict=True) if column not in found]
    if absent:
        return None, f"{absent[0]} lacks it"
    named = [(file.name, found[column]) for file, found in zip(files, types, strict=True)]
    is_number = all(dtype.is_numeric() or dtype == pl.Boolean for _, dtype in named)
    roles: set[Role] = {"number"} if is_number else {"category"}
    try:
        dtype = agreed_type(column, named, roles)
    except InputError as error:
        return None, str(error).removeprefix(f"column {column!r} ")
    element = dtype.inner if isinstance(dtype, pl.List) else dtype
    if element.is_nested() or element in (pl.Binary, pl.Object, pl.Duration, pl.Time, pl.Null):
        return None, f"it holds {dtype}" if element != pl.Null else "it holds nothing"
    return dtype, ""


# ------------------------------------------------------------------ delimited text


def _dialect(file: TableFile) -> tuple[Csv, bool]:
    """How a delimited file is written, by its first lines; separator only where it is not the usual one."""
    head = _head(file)
    usual = "\t" if ".tsv" in file.path.suffixes else ","
    counts = {separator: _fields_alike(head, separator) for separator in (usual, *SEPARATORS)}
    separator = max(counts, key=lambda key: counts[key])
    settings = Csv(
        separator=None if separator == usual else separator,
        escape="backslash" if '\\"' in "".join(head) else None,
    )
    names = _first_record(file, settings)
    if all(name.strip() and not _is_value(name) for name in names):
        return settings, True
    columns = [f"column_{number}" for number in range(1, len(names) + 1)]
    return settings.model_copy(update={"columns": columns}), False


def _head(file: TableFile) -> list[str]:
    block = next(iter(text_blocks(file)), b"")
    if not block.strip():
        raise InputError(f"{file.path}: cannot be read: it is empty; fill it or leave it out")
    return block[: 1 << 20].decode(errors="ignore").splitlines()[:SNIFFED_LINES]


def _fields_alike(lines: list[str], separator: str) -> int:
    """How many fields the first record has, if most others have as many; 1 if not."""
    counts = [len(record) for record in csv.reader(lines, delimiter=separator) if record]
    same = sum(count == counts[0] for count in counts) / len(counts)
    return counts[0] if same > 0.9 else 1


def _first_record(file: TableFile, settings: Csv) -> list[str]:
    separator = settings.separator or ("\t" if ".tsv" in file.path.suffixes else ",")
    escape = "\\" if settings.escape == "backslash" else None
    text = io.StringIO("\n".join(_head(file)), newline="")
    return next(csv.reader(text, delimiter=separator, escapechar=escape))


def _is_value(text: str) -> bool:
    """Whether a cell of the first line is a number or a time, which no name is."""
    return bool(re.fullmatch(NUMBER.strip("^$"), text.strip()) or re.match(r"\d{4}-\d\d-\d\d", text.strip()))


# ------------------------------------------------------------------ JSON lines


def _json_fields(file: TableFile) -> tuple[list[str], dict[str, str]]:
    """Names of the fields of the first lines, and those that hold objects or lists of lists."""
    names: dict[str, None] = {}
    odd: dict[str, str] = {}
    lines = (line for block in text_blocks(file) for line in block.splitlines())
    for line in islice(lines, SNIFFED_RECORDS):
        try:
            record = json.loads(line)
        except ValueError:
            continue  # the block ends within it; a malformed line is refused when the file is read
        if not isinstance(record, dict):
            continue
        for name, value in record.items():
            names.setdefault(name)
            values = value if isinstance(value, list) else [value]
            if any(isinstance(element, list | dict) for element in values):
                odd[name] = "it holds objects or lists of lists"
    return [name for name in names if name not in odd], odd
