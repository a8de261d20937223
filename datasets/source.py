"""What a dataset hands over to be prepared."""

from __future__ import annotations

from dataclasses import dataclass, field

import polars as pl

from datasets.schema import Schema


@dataclass(frozen=True)
class Source:
    """A schema with its raw table, not yet read.

    ``frame`` has the schema's ``source_column`` names. ``identity`` is JSON-able and holds all
    that decides the content: generator settings and seed, or the raw files' names, sizes, sha256
    and the options. ``notes`` are quirks that were handled and counted, and the raw files used;
    ``data describe`` shows them.
    """

    schema: Schema
    frame: pl.LazyFrame
    identity: dict
    notes: dict[str, int | float | str] = field(default_factory=dict)
