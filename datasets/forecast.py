"""What preparing your own table will take, from a look at its files.

The constants were measured with ``docs/preparation_speed.py``; other tables and machines may take half or
twice as much.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import suppress
from dataclasses import dataclass

import pyarrow as pa
import pyarrow.parquet as pq

from datasets.own_table import OwnTable
from datasets.raw.columns import uses
from datasets.raw.files import TableFile
from datasets.schema import Feature, Schema
from files.cores import usable_cores

SAMPLE_BYTES, BLOCK_BYTES = 1 << 20, 1 << 14
BYTES_A_VALUE_OF_TEXT = 5  # with what separates it from the next
VALUES_A_SECOND, VALUES_OF_TEXT_A_SECOND = 3_500_000, 1_300_000  # and core
BYTES_A_VALUE_STAGED, BYTES_A_VALUE_PREPARED = 4, 4
MEMORY, MEMORY_A_CORE = 0.6e9, 0.2e9


@dataclass(frozen=True)
class Size:
    """Of some files: rows, values in the columns that are read (elements of lists), and bytes of text."""

    rows: int
    values: int
    text_bytes: int

    @classmethod
    def together(cls, sizes: Sequence[Size]) -> Size:
        return cls(*(sum(getattr(size, name) for size in sizes) for name in ("rows", "values", "text_bytes")))


def forecast(table: OwnTable, cores: int | None = None) -> str:
    """Rows, disk, memory and time in a sentence; empty where a file is damaged, which the reader will say."""
    cores = cores or usable_cores()
    try:
        size = Size.together([_size(file, table.schema) for file in table.files])
    except (pa.ArrowException, OSError):
        return ""
    is_text = table.files[0].format != "parquet"
    kept = size.values * BYTES_A_VALUE_PREPARED
    disk = max(size.text_bytes, kept) + size.values * BYTES_A_VALUE_STAGED
    seconds = size.values / (VALUES_OF_TEXT_A_SECOND if is_text else VALUES_A_SECOND) / cores
    each = size.values / max(size.rows, 1)
    about = "about " if is_text else ""
    return (
        f"{table.schema.name}: {about}{size.rows:,} rows, {each:.0f} values in each; "
        f"preparing them takes about {_bytes(disk)} of disk (of which {_bytes(kept)} stay), "
        f"{_bytes(MEMORY + cores * MEMORY_A_CORE)} of memory and 75 bytes for each different category, and "
        f"{_duration(seconds)} on {cores} free core{'s' if cores > 1 else ''}"
    )


def _size(file: TableFile, schema: Schema) -> Size:
    return _parquet_size(file, schema) if file.format == "parquet" else _text_size(file, schema)


def _parquet_size(file: TableFile, schema: Schema) -> Size:
    metadata = pq.read_metadata(file.path.absolute())
    wanted, names = {use.column for use in uses(schema)}, metadata.schema.to_arrow_schema().names
    paths = [metadata.schema.column(place).path for place in range(metadata.num_columns)]
    read = [place for place, path in enumerate(paths) if _column_of(path, names) in wanted]
    groups = [metadata.row_group(number) for number in range(metadata.num_row_groups)]
    return Size(
        metadata.num_rows, sum(group.column(place).num_values for group in groups for place in read), 0
    )


def _column_of(path: str, names: list[str]) -> str:
    """The column that a path of parquet, as seen.list.element, belongs to; a name may itself have points.

    >>> [_column_of(path, ["seen", "user", "user.id"]) for path in ("seen.list.element", "user.id")]
    ['seen', 'user.id']
    """
    return max((name for name in names if f"{path}.".startswith(f"{name}.")), key=len)


def _text_size(file: TableFile, schema: Schema) -> Size:
    """By the lines of the file's first piece."""
    with file.path.open("rb") as packed:
        piece = packed.read(SAMPLE_BYTES)
    text = b"".join(_unpacked(piece, file.compression))
    growth = file.path.stat().st_size / max(len(piece), 1)
    rows, text_bytes = round(text.count(b"\n") * growth), round(len(text) * growth)
    most: dict[str, int] = {}
    for use in uses(schema):
        most[use.column] = max(most.get(use.column, 1), _most_values(use.feature))
    return Size(rows, min(rows * sum(most.values()), text_bytes // BYTES_A_VALUE_OF_TEXT), text_bytes)


def _most_values(feature: Feature | None) -> int:
    """How many values one cell may hold that are read for a feature, or for a label, user or time (None)."""
    if feature is None:
        return 1
    return feature.max_length if feature.is_list else feature.length or 1


def _unpacked(piece: bytes, compression: str | None) -> Iterator[bytes]:
    """The text of the first bytes of a file, which may end anywhere."""
    with pa.input_stream(pa.BufferReader(piece), compression=compression) as stream, suppress(OSError):
        while block := stream.read(BLOCK_BYTES):
            yield block


def _bytes(number: float) -> str:
    return f"{number / 1e9:.1f} GB" if number >= 1e8 else f"{max(number / 1e6, 1):.0f} MB"


def _duration(seconds: float) -> str:
    return f"{max(seconds, 1):.0f} s" if seconds < 100 else f"{seconds / 60:.0f} min"
