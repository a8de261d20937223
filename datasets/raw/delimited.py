"""Checks every line of delimited text (CSV, TSV) and writes its columns as text to parquet.

Complete records are checked byte by byte: quotes are where they are allowed, and every record has as many
fields as the header. Then pyarrow parses them and must find the same number of records. So reading stops
at a line that could be read in two ways, and the error names that line.
"""

from __future__ import annotations

import csv
import io
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.csv
import pyarrow.parquet as pq

from datasets.raw.blocks import text_blocks
from datasets.raw.columns import LINE_COLUMN
from datasets.raw.files import TableFile
from datasets.schema import Csv
from files.errors import InputError

MOST_RECORD_BYTES = 1 << 26  # a longer record means a quote that was never closed
SEPARATORS = {",": "a comma", ";": "';'", "\t": "a tab", "|": "'|'"}
NEWLINE, RETURN, BACKSLASH = 10, 13, 92


@dataclass(frozen=True)
class Dialect:
    """The bytes with a special meaning; None where there is no such byte."""

    separator: int
    quote: int | None
    escape: int | None
    must_say_escape: bool

    @classmethod
    def of(cls, settings: Csv, path: Path) -> Dialect:
        by_ending = "\t" if ".tsv" in path.suffixes else ","
        quote = None if settings.quote == "none" else ord(settings.quote)
        return cls(
            separator=ord(settings.separator or by_ending),
            quote=quote,
            escape=BACKSLASH if settings.escape == "backslash" else None,
            must_say_escape=settings.escape is None and quote is not None,
        )


@dataclass(frozen=True)
class Records:
    """Records of a block of text: where each begins and its number of fields; empty lines are skipped."""

    starts: np.ndarray
    fields: np.ndarray
    end: int  # of the last whole record


class _BadByteError(Exception):
    """What is wrong at a position of a block."""

    def __init__(self, position: int, what: str) -> None:
        super().__init__(what)
        self.position, self.what = position, what


def delimited_to_parquet(file: TableFile, settings: Csv, wanted: Mapping[str, str], target: Path) -> None:
    """Write the ``wanted`` columns (name and what needs it) as text, and each row's line as ``LINE_COLUMN``.

    Raises InputError, naming the line, where a record has more or fewer fields than the header, a quote
    is where none is allowed, text is not in the stated encoding, or the file is cut short.
    """
    reader = _Reader(file, settings, wanted)
    with pq.ParquetWriter(target, reader.schema, compression="lz4") as writer:
        for table in reader.tables():
            writer.write_table(table)
    if not reader.header and not settings.columns:
        raise InputError(
            f"{file.path}: cannot be read: it is empty, without even a header; fill it or leave it out"
        )


@dataclass(frozen=True)
class _Stretch:
    """Complete records, and the number of the line on which they begin."""

    text: bytes
    first_line: int
    records: Records

    def line(self, position: int) -> int:
        return self.first_line + self.text.count(b"\n", 0, position)


class _Reader:
    """One file, read in blocks of some megabytes, each of complete records."""

    def __init__(self, file: TableFile, settings: Csv, wanted: Mapping[str, str]) -> None:
        self.file, self.settings, self.wanted = file, settings, wanted
        columns = [name for name in wanted if name not in file.partition]
        self.dialect = Dialect.of(settings, file.path)
        self.header: list[str] = []
        self._header_line = b""
        fields = [pa.field(name, pa.large_string()) for name in columns]
        self.schema = pa.schema([*fields, (LINE_COLUMN, pa.int64())])

    def tables(self) -> Iterator[pa.Table]:
        for stretch in self._stretches():
            if not len(stretch.records.starts):
                continue  # of empty lines
            if not self.header:
                stretch = self._take_header(stretch)
            if len(stretch.records.starts):
                self._check(stretch)
                yield self._parsed(stretch)

    def _stretches(self) -> Iterator[_Stretch]:
        left, line = b"", 1
        for block in text_blocks(self.file, self.settings.encoding):
            text = left + block
            records = self._structure(text, line)
            if records.end == 0 and len(text) > MOST_RECORD_BYTES:
                raise self._never_closed(line)
            if records.end:
                yield _Stretch(text[: records.end], line, records)
                line += text.count(b"\n", 0, records.end)
            left = text[records.end :]
        if left:
            left += b"" if left.endswith(b"\n") else b"\n"
            records = self._structure(left, line)
            if records.end < len(left):
                raise self._never_closed(line + left.count(b"\n", 0, records.end))
            yield _Stretch(left, line, records)

    def _structure(self, text: bytes, first_line: int) -> Records:
        try:
            return structure(np.frombuffer(text, np.uint8), self.dialect)
        except _BadByteError as error:
            line = first_line + text.count(b"\n", 0, error.position)
            raise InputError(f"{self.file.path}: line {line}: {error.what}") from None

    def _never_closed(self, line: int) -> InputError:
        return InputError(
            f"{self.file.path}: line {line}: a quote that opens in this record is never closed; mend the "
            "line, or say csv: {quote: none} if quotes have no meaning"
        )

    def _take_header(self, stretch: _Stretch) -> _Stretch:
        """Learn the fields' names; returns the records that follow the header line."""
        records = stretch.records
        end = int(records.starts[1]) if len(records.starts) > 1 else records.end
        first = stretch.text[int(records.starts[0]) : end]
        self.header = self._fields(first.decode())
        if self.settings.columns:
            if self.header == self.settings.columns:
                raise InputError(
                    f"{self.file.path}: its first line is a header; remove csv.columns from the schema"
                )
            self.header = self.settings.columns
        else:
            self._header_line = first.strip(b"\r\n")
            records = Records(records.starts[1:], records.fields[1:], records.end)
        require_columns(self.file, self.header, self.wanted, self.settings.separator is None)
        return _Stretch(stretch.text, stretch.first_line, records)

    def _fields(self, line: str) -> list[str]:
        quote, escape = self.dialect.quote, self.dialect.escape
        reader = csv.reader(
            io.StringIO(line, newline=""),
            delimiter=chr(self.dialect.separator),
            quotechar=None if quote is None else chr(quote),
            quoting=csv.QUOTE_NONE if quote is None else csv.QUOTE_MINIMAL,
            escapechar=None if escape is None else chr(escape),
        )
        return next(reader)

    def _check(self, stretch: _Stretch) -> None:
        """Every record has the header's fields and is not the header itself."""
        records, expected = stretch.records, len(self.header)
        wrong = np.flatnonzero(records.fields != expected)
        if wrong.size:
            raise InputError(
                f"{self.file.path}: line {stretch.line(int(records.starts[wrong[0]]))}: has "
                f"{records.fields[wrong[0]]} fields where the header has {expected}; quote a field that "
                "holds the separator, or mend the line"
            )
        line = b"\n" + self._header_line
        again = stretch.text.find(line, int(records.starts[0]) - 1) + 1 if self._header_line else 0
        ends = stretch.text[again + len(self._header_line) :][:1] in (b"\n", b"\r")
        if again and ends and again in records.starts:
            raise InputError(
                f"{self.file.path}: line {stretch.line(again)}: repeats the header, as files that were "
                "joined do; remove the line"
            )

    def _parsed(self, stretch: _Stretch) -> pa.Table:
        starts = stretch.records.starts
        columns = [name for name in self.schema.names if name != LINE_COLUMN]
        places = {str(self.header.index(column)): column for column in columns}
        quote, escape = self.dialect.quote, self.dialect.escape
        try:
            table = pyarrow.csv.read_csv(
                pa.BufferReader(pa.py_buffer(stretch.text).slice(int(starts[0]))),
                read_options=pyarrow.csv.ReadOptions(
                    column_names=[str(number) for number in range(len(self.header))],
                    block_size=len(stretch.text) + 1,
                    use_threads=False,
                ),
                parse_options=pyarrow.csv.ParseOptions(
                    delimiter=chr(self.dialect.separator),
                    quote_char=False if quote is None else chr(quote),
                    escape_char=False if escape is None else chr(escape),
                    newlines_in_values=True,
                ),
                convert_options=pyarrow.csv.ConvertOptions(
                    column_types=dict.fromkeys(places, pa.large_string()),
                    include_columns=list(places),
                    null_values=[""],
                    strings_can_be_null=True,
                    quoted_strings_can_be_null=True,
                ),
            )
        except pa.ArrowInvalid as error:
            raise InputError(
                f"{self.file.path}: cannot be read as a CSV table ({error}); mend the file"
            ) from None
        if table.num_rows != len(starts):
            raise InputError(
                f"{self.file.path}: from line {stretch.first_line} on there are {len(starts)} records, but "
                f"{table.num_rows} are read; mend quotes and line ends there"
            )
        newlines = np.flatnonzero(np.frombuffer(stretch.text, np.uint8) == NEWLINE)
        lines = stretch.first_line + np.searchsorted(newlines, starts)
        named = table.rename_columns(list(places.values()))
        return named.append_column(LINE_COLUMN, pa.array(lines, pa.int64())).cast(self.schema)


def structure(text: np.ndarray, dialect: Dialect) -> Records:
    """Where the records of a block begin, and how many fields they have (RFC 4180, section 2).

    Shapes
        text: (bytes,) uint8 that begins at a record. An incomplete last record is left out.
    """
    quotes = np.flatnonzero(_unescaped(text, dialect.quote, dialect.escape))
    outside = np.ones(len(text), dtype=bool)
    if len(quotes):
        _check_quotes(text, quotes, dialect)
        toggles = np.zeros(len(text), dtype=np.uint8)
        toggles[quotes] = 1
        outside = np.cumsum(toggles, dtype=np.uint8) & 1 == 0  # an overflow does not change the last bit
    newlines = np.flatnonzero((text == NEWLINE) & outside)
    end = int(newlines[-1]) + 1 if len(newlines) else 0
    _check_returns(text, outside, end)
    separators = np.flatnonzero(_unescaped(text[:end], dialect.separator, dialect.escape) & outside[:end])
    starts = np.concatenate(([0], newlines[:-1] + 1)).astype(np.int64) if end else np.zeros(0, np.int64)
    fields = np.diff(np.searchsorted(separators, np.concatenate((starts, [end])))) + 1
    lengths = newlines - starts
    is_empty = (lengths == 0) | ((lengths == 1) & (text[starts] == RETURN))
    return Records(starts[~is_empty], fields[~is_empty], end)


def _unescaped(text: np.ndarray, byte: int | None, escape: int | None) -> np.ndarray:
    """Where ``byte`` occurs unescaped; an escape that is itself escaped does not count."""
    if byte is None:
        return np.zeros(len(text), dtype=bool)
    found = text == byte
    if escape is not None and found.any():
        runs = text == escape
        # The number of escapes that stand right before each position, by the last position without one.
        positions = np.arange(len(text))
        last_other = np.maximum.accumulate(np.where(runs, -1, positions))
        before = np.concatenate(([0], (positions - last_other)[:-1]))
        found &= before % 2 == 0
    return found


def _check_quotes(text: np.ndarray, quotes: np.ndarray, dialect: Dialect) -> None:
    """Opening quotes begin a field, closing ones end it, and a quote within is doubled."""
    before = np.where(quotes > 0, text[quotes - 1], NEWLINE)
    if dialect.must_say_escape and (escaped := np.flatnonzero(before == BACKSLASH)).size:
        raise _BadByteError(
            int(quotes[escaped[0]]),
            "a backslash stands before a quote; say csv: {escape: backslash} if it escapes the quote, "
            "or csv: {escape: none} if it is an ordinary character",
        )
    opens = np.arange(len(quotes)) % 2 == 0
    touches_last = np.concatenate(([False], np.diff(quotes) == 1))
    begins = (before == dialect.separator) | (before == NEWLINE) | touches_last
    wrong_open = np.flatnonzero(opens & ~begins)
    last = len(text) - 1
    after = np.where(quotes < last, text[np.minimum(quotes + 1, last)], NEWLINE)
    ends = (after == dialect.separator) | (after == NEWLINE) | (after == RETURN) | (after == dialect.quote)
    wrong_close = np.flatnonzero(~opens & ~ends)
    first = min((int(found[0]) for found in (wrong_open, wrong_close) if found.size), default=None)
    if first is not None:
        raise _BadByteError(
            int(quotes[first]),
            "a quote stands within a field; quote the whole field and double the quotes in it, "
            "or say csv: {quote: none} if quotes have no meaning",
        )


def _check_returns(text: np.ndarray, outside: np.ndarray, end: int) -> None:
    """Outside quotes, a carriage return may only come right before a line feed."""
    returns = np.flatnonzero((text == RETURN) & outside)
    lone = returns[text[np.minimum(returns + 1, len(text) - 1)] != NEWLINE]
    lone = lone[lone < len(text) - 1]  # the byte after the last one is not known yet
    if lone.size:
        raise _BadByteError(
            int(lone[0]),
            "a carriage return ends a line without a line feed; write line ends as LF or CRLF",
        )


def require_columns(file: TableFile, header: list[str], wanted: Mapping[str, str], may_guess: bool) -> None:
    """InputError where a wanted column is neither in the file nor its folder's name, or is there twice."""
    for column, what in wanted.items():
        if column in file.partition:
            if column in header:
                raise InputError(
                    f"{file.path}: column {column!r} is in the file and in its folder's name; rename the "
                    "folder's"
                )
            continue
        if header.count(column) > 1:
            raise InputError(
                f"{file.path}: has {header.count(column)} columns named {column!r}; rename others"
            )
        if column not in header:
            known = ", ".join(header[:20]) + (", ..." if len(header) > 20 else "")
            hint = _hint(header, column, may_guess)
            raise InputError(
                f"{file.path}: has no column {column!r}, which {what} needs; it has {known}{hint}"
            )


def _hint(header: list[str], column: str, may_guess: bool) -> str:
    similar = [name for name in header if name.strip().casefold() == column.strip().casefold()]
    if similar:
        return f" (say column: {similar[0]!r} if that is meant)"
    if may_guess and len(header) == 1:
        for separator, words in SEPARATORS.items():
            if separator in header[0]:
                return (
                    f" (one field a line: if {words} separates them, say csv: {{separator: {separator!r}}})"
                )
    return ""
