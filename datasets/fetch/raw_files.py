"""Finds, reads and hashes a public dataset's raw files, with errors that say what to do."""

from __future__ import annotations

import io
from collections.abc import Mapping
from pathlib import Path

import polars as pl

from datasets.fetch.download import shown
from files.checksums import sha256_of
from files.errors import InputError
from files.remote_copy import copy_at


def find_folder(name: str, data_root: Path | None, inside: str, marker: str) -> Path:
    """The folder of raw files of dataset ``name``: the one that holds the file ``marker``.

    That is ``data_root/name`` itself or the unpacked archive's ``inside`` below it. Where ``data_root`` is a
    copy of a store's folder, what is not here as it is there is fetched first. Raises InputError with the
    full path of the missing file where neither holds the marker.
    """
    if data_root is None:
        raise InputError(
            f"dataset {name!r} needs raw files: give --data-root DIR (or BENCH_DATA_ROOT) with a folder "
            f"{name}/, which `run_bench.py data fetch {name}` fills"
        )
    if (copy := copy_at(Path(data_root))) is not None:
        with shown(name) as progress:
            copy.fetch(copy.store.listing(name), progress)
    folder = Path(data_root) / name
    for candidate in (folder, folder / inside):
        if (candidate / marker).is_file():
            return candidate
    raise missing_file(folder / marker, name)


def require_file(path: Path, name: str) -> Path:
    """``path`` if that file exists, else InputError with the mend."""
    if not path.is_file():
        raise missing_file(path, name)
    return path


def missing_file(path: Path, name: str) -> InputError:
    """The error of a raw file of dataset ``name`` that is not where it should be."""
    return InputError(
        f"{path.absolute()}: no such file; `run_bench.py data fetch {name}` gets it, "
        f"or point --data-root at the folder that holds {name}/"
    )


def describe_files(paths: list[Path]) -> list[dict[str, str | int]]:
    """Name, size in bytes and sha256 of each file: all that a table's content depends on."""
    return [
        {"name": path.name, "bytes": path.stat().st_size, "sha256": sha256_of(path)} for path in sorted(paths)
    ]


def read_table(
    path: Path,
    columns: Mapping[str, type[pl.DataType]],
    *,
    separator: str = ",",
    has_header: bool = True,
    encoding: str = "utf-8",
    never_empty: tuple[str, ...] = (),
) -> pl.DataFrame:
    """The named columns of a text table, typed, held in memory.

    With a header, columns are found by name and further ones are ignored; without one,
    ``columns`` are all the fields in order and quotes have no meaning. Raises InputError naming
    file and column where one is absent, where a value does not have its type, or where a column
    of ``never_empty`` has an empty cell (a truncated line).
    """
    try:
        text = path.read_bytes().decode(encoding)
    except UnicodeDecodeError:
        raise InputError(f"{path}: is not {encoding} text; fetch the file again") from None
    if len(separator) > 1:  # as "::" in MovieLens-1M; text has no unit separators
        text, separator = text.replace(separator, "\x1f"), "\x1f"
    names = list(columns)
    first = text.partition("\n")[0].strip().lstrip("\ufeff").split(separator)
    if has_header:
        absent = [name for name in names if name not in first]
        if absent:
            raise InputError(f"{path}: has no column {absent[0]!r}; use the official file, or fetch it again")
    elif len(first) != len(names):
        raise InputError(f"{path}: has {len(first)} fields a line, not {len(names)}; fetch the file again")
    try:
        table = pl.read_csv(
            io.BytesIO(text.lstrip("\ufeff").encode()),
            separator=separator,
            has_header=has_header,
            columns=names if has_header else None,
            new_columns=None if has_header else names,
            schema_overrides=dict(columns),
            quote_char='"' if has_header else None,
        )
    except pl.exceptions.PolarsError as error:
        reason = str(error).splitlines()[0]
        raise InputError(f"{path}: cannot be read as a table ({reason}); fetch the file again") from None
    for name in never_empty:
        empty = table[name].null_count()
        if empty:
            raise InputError(f"{path}: column {name!r} is empty in {empty} rows; fetch the file again")
    return table.select(names)
