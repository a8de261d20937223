"""Reads a text file as blocks of UTF-8: unpacked and transcoded; bytes that are no text are refused."""

from __future__ import annotations

import codecs
from collections.abc import Iterator

import pyarrow as pa

from datasets.raw.files import TableFile
from files.errors import InputError

BLOCK_BYTES = 1 << 24
MAGIC = {
    b"PAR1": "a parquet file; rename it to .parquet",
    b"\x1f\x8b": "packed by gzip; rename it to end in .gz",
    b"\x28\xb5\x2f\xfd": "packed by zstd; rename it to end in .zst",
    b"BZh": "packed by bzip2; rename it to end in .bz2",
    b"PK\x03\x04": "a zip archive or a spreadsheet; unpack it, or save it as CSV",
    b"\xff\xfe": 'UTF-16 text; save it as UTF-8, or say csv: {encoding: "utf-16"}',
    b"\xfe\xff": 'UTF-16 text; save it as UTF-8, or say csv: {encoding: "utf-16"}',
}


def text_blocks(file: TableFile, encoding: str = "utf-8") -> Iterator[bytes]:
    """Blocks of UTF-8, cut anywhere between characters, without a byte order mark.

    Raises InputError where the file cannot be unpacked, is not of that encoding, or holds a zero byte.
    """
    decoder = codecs.getincrementaldecoder("utf-8-sig" if _is_utf8(encoding) else encoding)()
    line, is_first = 1, True
    for block in _blocks(file):
        if is_first:
            _check_magic(file, block, encoding)
            is_first = False
        try:
            text = decoder.decode(block).encode()
        except UnicodeError as error:
            raise _not_text(file, block, line, error, encoding) from None
        line += text.count(b"\n")
        if b"\0" in text:
            raise InputError(
                f"{file.path}: line {line - text.count(bytes([10]), text.index(0))}: holds a zero byte, "
                "so it is no text of this encoding; mend it, or say csv: {encoding: ...}"
            )
        if text:
            yield text
    try:
        rest = decoder.decode(b"", final=True).encode()
    except UnicodeError as error:
        raise _not_text(file, b"", line, error, encoding) from None
    if rest:
        yield rest


def _is_utf8(encoding: str) -> bool:
    return codecs.lookup(encoding).name in ("utf-8", "utf-8-sig", "ascii")


def _blocks(file: TableFile) -> Iterator[bytes]:
    try:
        with pa.input_stream(str(file.path), compression=file.compression) as stream:
            while block := stream.read(BLOCK_BYTES):
                yield block
    except OSError as error:
        if file.compression is None:
            raise
        raise InputError(
            f"{file.path}: cannot be unpacked by {file.compression} ({error}); it is cut short or damaged: "
            "make it again"
        ) from None


def _check_magic(file: TableFile, block: bytes, encoding: str) -> None:
    for magic, what in MAGIC.items():
        if block.startswith(magic) and not ("UTF-16" in what and "16" in encoding):
            raise InputError(f"{file.path}: is {what}")


def _not_text(file: TableFile, block: bytes, line: int, error: UnicodeError, encoding: str) -> InputError:
    at = getattr(error, "start", 0)
    return InputError(
        f"{file.path}: line {line + block.count(bytes([10]), 0, at)}: is not {encoding} text; "
        'save it as UTF-8, or say how it is written with csv: {encoding: "latin-1"} or another'
    )
