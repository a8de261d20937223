"""JSON lines as text columns in parquet: numbers as they are written, lists as lists of text."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from itertools import islice
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

from datasets.raw.blocks import text_blocks
from datasets.raw.columns import LINE_COLUMN
from datasets.raw.delimited import require_columns
from datasets.raw.files import TableFile
from files.errors import InputError

ROWS_AT_ONCE = 50_000


def json_lines_to_parquet(file: TableFile, wanted: Mapping[str, str], target: Path) -> None:
    """Write the ``wanted`` columns (and what needs them) as text or lists of text, and ``LINE_COLUMN``.

    Raises InputError, naming the line, where it is no JSON object, gives a named field twice, or holds an
    object, or both lists and single values, in a named field; and where no line has a named field.
    """
    kinds: dict[str, str] = {}  # by column, "list" or "value", once a line has shown it
    found: dict[str, None] = {}
    columns = [name for name in wanted if name not in file.partition]
    rows = _records(file, set(columns), kinds, found)
    parts = iter(lambda: list(islice(rows, ROWS_AT_ONCE)), [])
    # Only the last line may show that a column holds lists, so values are kept as JSON until then.
    scratch = target.with_suffix(".lines")
    count = 0
    loose = pa.schema([*((name, pa.large_string()) for name in columns), (LINE_COLUMN, pa.int64())])
    with pq.ParquetWriter(scratch, loose, compression="lz4") as writer:
        for part in parts:
            count += len(part)
            table = {name: [row.get(name) for _, row in part] for name in columns}
            writer.write_table(pa.table({**table, LINE_COLUMN: [line for line, _ in part]}, schema=loose))
    if count:
        require_columns(file, list(found), wanted, may_guess=False)
    _with_lists(scratch, target, columns, kinds)
    scratch.unlink()


def _records(
    file: TableFile, columns: set[str], kinds: dict[str, str], found: dict[str, None]
) -> Iterator[tuple[int, dict[str, str | None]]]:
    def pairs(items: list[tuple[str, Any]]) -> dict[str, Any]:
        names = [name for name, _ in items]
        for name in columns.intersection(names):
            if names.count(name) > 1:
                raise InputError(f"{file.path}: line {number}: gives {name!r} twice; remove one")
        return dict(items)

    for number, text in _lines(file):
        if not text.strip():
            continue
        try:
            record = json.loads(
                text,
                parse_int=_Literal,
                parse_float=_Literal,
                parse_constant=_Literal,
                object_pairs_hook=pairs,
            )
        except (ValueError, RecursionError) as error:
            if isinstance(error, InputError):
                raise
            mend = "mend it" if number > 1 else "write one object a line, without brackets around them"
            raise InputError(f"{file.path}: line {number}: is no JSON object ({error}); {mend}") from None
        if not isinstance(record, dict):
            raise InputError(f"{file.path}: line {number}: is no JSON object; write one object a line")
        if r"\u" in text.decode() and any(_is_no_unicode(record.get(name)) for name in columns):
            raise InputError(
                f"{file.path}: line {number}: holds half of a pair of surrogates (as \\ud800), which is no "
                "character; mend it"
            )
        found.update(dict.fromkeys(record))
        yield (
            number,
            {
                name: _text(file, number, name, value, kinds)
                for name, value in record.items()
                if name in columns
            },
        )


def _is_no_unicode(value: Any) -> bool:
    return any(0xD800 <= ord(character) <= 0xDFFF for character in str(value))


class _Literal(str):
    """A number as it is written."""


def _lines(file: TableFile) -> Iterator[tuple[int, bytes]]:
    left, number = b"", 0
    for block in text_blocks(file):
        *whole, left = (left + block).split(b"\n")
        for line in whole:
            number += 1
            yield number, line
    if left:
        yield number + 1, left


def _text(file: TableFile, line: int, name: str, value: Any, kinds: dict[str, str]) -> str | None:
    """A value as text, a list as the JSON of its elements' text."""
    if value is None:
        return None
    kind = "list" if isinstance(value, list) else "value"
    if kinds.setdefault(name, kind) != kind:
        raise InputError(f"{file.path}: line {line}: {name!r} is a {kind}, unlike in lines before; mend it")
    values = value if kind == "list" else [value]
    if any(isinstance(element, list | dict) for element in values):
        raise InputError(f"{file.path}: line {line}: {name!r} holds objects or lists of lists; flatten it")
    texts = [None if v is None else str(v).lower() if isinstance(v, bool) else str(v) for v in values]
    return json.dumps(texts) if kind == "list" else texts[0]


def _with_lists(scratch: Path, target: Path, columns: list[str], kinds: dict[str, str]) -> None:
    lists = [name for name in columns if kinds.get(name) == "list"]
    text = pa.large_string()
    fields = [(name, pa.large_list(text) if name in lists else text) for name in columns]
    schema = pa.schema([*fields, (LINE_COLUMN, pa.int64())])
    with pq.ParquetFile(scratch) as reader, pq.ParquetWriter(target, schema, compression="lz4") as writer:
        for batch in reader.iter_batches(ROWS_AT_ONCE):
            values = {name: batch[name] for name in schema.names}
            for name in lists:
                values[name] = [None if v is None else json.loads(v) for v in batch[name].to_pylist()]
            writer.write_table(pa.table(values, schema=schema))
