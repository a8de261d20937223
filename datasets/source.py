"""What a dataset hands over to be prepared."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field

import polars as pl

from datasets.schema import Schema
from datasets.text import TextFacts


def _nothing() -> None:
    pass


@dataclass(frozen=True)
class Source:
    """A schema with its raw table, not yet read.

    ``frame`` has the schema's ``source_column`` names. ``identity`` is JSON-able and holds all
    that decides the content: generator settings and seed, or the raw files' names, sizes, sha256
    and the options. ``notes`` are quirks that were handled and counted, and the raw files used;
    ``data describe`` shows them. ``text`` says how the frame's text columns are written;
    without it, text is categories alone, and lists where a separator is given.
    ``check_unchanged`` raises InputError where the raw files are no longer those of ``identity``.
    """

    schema: Schema
    frame: pl.LazyFrame
    identity: dict
    notes: dict[str, int | float | str] = field(default_factory=dict)
    text: TextFacts | None = None
    check_unchanged: Callable[[], None] = _nothing
