"""Finds the files of a table: a pattern that is a file's exact name means that file; links are followed.

Wildcards match no names with a leading dot, nor, as in Spark, with a leading underscore, which jobs give to
their own files; key=value is a partition, whatever it begins with.
"""

from __future__ import annotations

import os
from dataclasses import dataclass, field
from fnmatch import fnmatchcase
from glob import has_magic
from pathlib import Path
from typing import Literal
from urllib.parse import unquote

from datasets.raw.lakes import refuse_lake_files
from datasets.schema import Schema
from files.checksums import sha256_of
from files.errors import InputError

Format = Literal["parquet", "csv", "json lines"]
FORMATS: dict[str, Format] = {
    ".parquet": "parquet",
    ".pq": "parquet",
    ".csv": "csv",
    ".tsv": "csv",
    ".jsonl": "json lines",
    ".ndjson": "json lines",
}
COMPRESSIONS = {".gz": "gzip", ".zst": "zstd", ".bz2": "bz2"}
ENDINGS = ".parquet, .csv, .tsv or .jsonl (text also with .gz, .zst or .bz2)"
HIVE_NULL = "__HIVE_DEFAULT_PARTITION__"


@dataclass(frozen=True)
class TableFile:
    """One raw file. ``partition`` holds columns from the names of its folders (dt=2024-03-01)."""

    path: Path
    name: str  # relative to the schema's folder
    format: Format
    compression: str | None
    partition: dict[str, str | None] = field(default_factory=dict)

    def stamp(self) -> tuple[int, int, int, int]:
        """Size, times and inode, which change when the file is written to or replaced."""
        return stamp_of(self.path)

    def describe(self) -> dict:
        """Name, size in bytes, sha256 and, where there are any, partition columns."""
        found = {"name": self.name, "bytes": self.path.stat().st_size, "sha256": sha256_of(self.path)}
        return found | ({"partition": self.partition} if self.partition else {})


def stamp_of(path: Path) -> tuple[int, int, int, int]:
    """Size, times and inode of a file, which change when it is written to or replaced."""
    found = path.stat()
    return found.st_size, found.st_mtime_ns, found.st_ctime_ns, found.st_ino


def find_files(schema_file: Path, schema: Schema) -> list[TableFile]:
    """The raw files, which exist and are of one format, in the order of their paths.

    Raises InputError where a pattern matches nothing, what it matches is no readable file or of an unknown
    format, formats are mixed, one file is found under two names or beside its packed copy, and in folders of
    Delta Lake, Hudi and Iceberg.
    """
    return table_files(schema_file, schema.files)


def table_files(schema_file: Path, patterns: list[str]) -> list[TableFile]:
    """As :func:`find_files`, for patterns that are not in a schema yet."""
    folder = schema_file.parent
    paths: set[Path] = set()
    for pattern in patterns:
        matches = expand(folder, pattern)
        if not matches:
            raise InputError(
                f"{schema_file}: files: {pattern!r} matches no file in {folder.absolute()}"
                f"{_but_skipped(folder, pattern)}; mend the pattern"
            )
        paths.update(matches)
    if not patterns:
        paths.update(path for path in expand(folder, "*") if format_of(path) is not None)
        if not paths:
            raise InputError(
                f"{schema_file}: there is no *.parquet or *.csv in its folder (nor .tsv or .jsonl)"
                f"{_but_skipped(folder, '*')}; add one or name 'files:'"
            )
    named = {file.name: file for file in (_table_file(schema_file, path) for path in sorted(paths))}
    files = list(named.values())
    _check_one_format(schema_file, files)
    _check_no_file_twice(schema_file, files)
    _check_no_packed_copy(schema_file, files)
    refuse_lake_files(file.path for file in files if file.format == "parquet")
    return files


def skipped_tables(folder: Path, pattern: str) -> list[Path]:
    """Files that end like tables and that the pattern would match, were it not for a leading underscore."""
    skipped = set(expand(folder, pattern, underscored=True)) - set(expand(folder, pattern))
    return sorted(path for path in skipped if format_of(path) is not None and path.is_file())


def _but_skipped(folder: Path, pattern: str) -> str:
    found = skipped_tables(folder, pattern)
    return f" (wildcards skip names with a leading _; name {found[0]} in full to read it)" if found else ""


def format_of(path: Path) -> tuple[Format, str | None] | None:
    """Format and compression by the file's ending; None where it is not that of a table."""
    ending, compression = path.suffix.lower(), None
    if ending in COMPRESSIONS:
        compression, ending = COMPRESSIONS[ending], Path(path.stem).suffix.lower()
    found = FORMATS.get(ending)
    if found is None or (found == "parquet" and compression is not None):
        return None
    return found, compression


def expand(folder: Path, pattern: str, underscored: bool = False) -> list[Path]:
    """The paths that a pattern matches: a path with exactly that name, else those that match the wildcards.

    ``**`` stands for any number of folders, including links to folders. Wildcards do not match hidden files,
    nor names with a leading underscore unless these are ``underscored``.
    """
    path = Path(pattern)
    if path.is_absolute():
        folder, path = Path(path.anchor), path.relative_to(path.anchor)
    if path == Path():  # an empty pattern, a dot or the root
        return []
    return sorted(set(_matches(folder, path.parts, underscored)))


def _matches(folder: Path, parts: tuple[str, ...], underscored: bool) -> list[Path]:
    if not parts:
        return [folder]
    part, rest = parts[0], parts[1:]
    if part == "**":
        below = _folders(folder, underscored)
        return [path for child in below for path in _matches(child, rest or ("*",), underscored)]
    if os.path.lexists(folder / part):
        found = [folder / part]
    else:
        found = _children(folder, part, underscored) if has_magic(part) else []
    return [path for child in found for path in _matches(child, rest, underscored)]


def _children(folder: Path, pattern: str, underscored: bool) -> list[Path]:
    if not folder.is_dir():
        return []
    names = [name for name in os.listdir(folder) if fnmatchcase(name, pattern)]
    return [folder / name for name in names if name[0] == pattern[0] or _is_seen(name, underscored)]


def _folders(top: Path, underscored: bool) -> list[Path]:
    """The folder and all below it, each once, so that a link to a parent folder cannot loop."""
    found, seen = [], set()
    for folder, names, _ in os.walk(top, followlinks=True):
        real = os.path.realpath(folder)
        names[:] = [] if real in seen else [name for name in names if _is_seen(name, underscored)]
        if real not in seen:
            seen.add(real)
            found.append(Path(folder))
    return found


def _is_seen(name: str, underscored: bool) -> bool:
    """Whether wildcards match a name."""
    return not name.startswith(".") and (underscored or not name.startswith("_") or "=" in name)


def _table_file(schema_file: Path, path: Path) -> TableFile:
    if path.is_dir():
        raise InputError(f"{path}: is a folder; name its files in 'files:', as in '{path.name}/**/*'")
    if path.is_symlink() and not path.exists():
        raise InputError(f"{path}: is a link to a file that is not there; mend the link or leave it out")
    if not path.is_file():
        raise InputError(f"{path}: is no regular file; copy what it holds to one")
    if not os.access(path, os.R_OK):
        raise InputError(f"{path}: may not be read by this user; mend its permissions")
    known = format_of(path)
    if known is None:
        raise InputError(
            f"{schema_file}: files: {path.name!r} does not end in {ENDINGS}; convert or rename it, or leave "
            "it out"
        )
    name = os.path.relpath(path, schema_file.parent)
    return TableFile(path, name, *known, partition=_partition(name))


def _partition(name: str) -> dict[str, str | None]:
    """Columns in the names of folders, key=value with percent escapes, as Hive and Spark write them."""
    found: dict[str, str | None] = {}
    for folder in Path(name).parts[:-1]:
        key, equals, value = folder.partition("=")
        if key and equals:
            if unquote(key) in found:
                raise InputError(f"{name}: two of its folders give {key!r} a value; rename one")
            found[unquote(key)] = None if value == HIVE_NULL else unquote(value)
    return found


def _check_one_format(schema_file: Path, files: list[TableFile]) -> None:
    first: dict[str, TableFile] = {}
    for file in files:
        first.setdefault(file.format, file)
    if len(first) > 1:
        one, other = list(first.values())[:2]
        raise InputError(
            f"{schema_file}: files: both {one.format} and {other.format} were found "
            f"({one.name}, {other.name}); name those of one kind in 'files:'"
        )


def _check_no_file_twice(schema_file: Path, files: list[TableFile]) -> None:
    first: dict[tuple[int, int], TableFile] = {}
    for file in files:
        found = file.path.stat()
        other = first.setdefault((found.st_dev, found.st_ino), file)
        if other is not file:
            raise InputError(
                f"{schema_file}: files: {other.name} and {file.name} are one file under two names, whose "
                "rows would count twice; name one of them"
            )


def _check_no_packed_copy(schema_file: Path, files: list[TableFile]) -> None:
    first: dict[Path, TableFile] = {}
    for file in files:
        packed = file.path if file.compression is None else file.path.with_suffix("")
        other = first.setdefault(packed.parent.resolve() / packed.name, file)
        if other is not file:
            raise InputError(
                f"{schema_file}: files: {other.name} and {file.name} are one table, packed and unpacked by "
                "their names, whose rows would count twice; name one of them, or rename one if they differ"
            )
