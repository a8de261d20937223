"""What every dataset hands over to be prepared, and how it checks the user's options."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import TypeVar

import polars as pl
from pydantic import BaseModel, ValidationError

from datasets.raw.text import TextFacts
from datasets.schema import Schema, first_problem
from files.errors import InputError

Options = TypeVar("Options", bound=BaseModel)


def _nothing() -> None:
    pass


@dataclass(frozen=True)
class Source:
    """A schema and its raw table, which is not read yet.

    ``frame`` has the schema's ``source_column`` names. ``identity`` is JSON-able and holds everything
    that determines the content: generator settings and seed, or the raw files' names, sizes, sha256
    and the options. ``notes`` are quirks that were handled and counted, and the raw files used;
    ``data describe`` shows them. ``text`` tells how the frame's text columns are written; without
    it, text is read as categories only, and as lists where a separator is given.
    ``check_unchanged`` raises InputError where the raw files are no longer those of ``identity``.
    """

    schema: Schema
    frame: pl.LazyFrame
    identity: dict
    notes: dict[str, int | float | str] = field(default_factory=dict)
    text: TextFacts | None = None
    check_unchanged: Callable[[], None] = _nothing


def parse_options(model: type[Options], options: dict, dataset: str) -> Options:
    """``options`` as the dataset's frozen model; InputError on an unknown name or a wrong value."""
    unknown = sorted(set(options) - set(model.model_fields))
    if unknown:
        raise InputError(
            f"dataset {dataset!r} has no option {unknown[0]!r}: choose from {', '.join(model.model_fields)}"
        )
    try:
        return model.model_validate(options)
    except ValidationError as error:
        raise InputError(first_problem(error, f"option of dataset {dataset!r}")) from None
