"""What every dataset hands over to be prepared, and how it checks the user's options."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import TypeVar

import numpy as np
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
    ``by_file`` is the frame in parts, of your own table one a file.
    """

    schema: Schema
    frame: pl.LazyFrame
    identity: dict
    notes: dict[str, int | float | str] = field(default_factory=dict)
    text: TextFacts | None = None
    check_unchanged: Callable[[], None] = _nothing
    by_file: Sequence[pl.LazyFrame] = ()


def times_drawn(is_training: np.ndarray, bootstrap: int) -> np.ndarray:
    """How often each row occurs where as many training rows as there are are drawn with replacement, (rows,).

    Other rows occur once, and so do all of ``bootstrap`` 0, the log as it is.
    """
    times = np.ones(len(is_training), np.int64)
    if bootstrap:
        number = int(is_training.sum())
        drawn = np.random.default_rng(bootstrap).integers(number, size=number)
        times[is_training] = np.bincount(drawn, minlength=number)
    return times


def repeated(rows: pl.DataFrame, times: np.ndarray) -> pl.DataFrame:
    """Each row so many times, in their order."""
    return rows if (times == 1).all() else rows[np.repeat(np.arange(rows.height), times)]


def bootstrap_note(is_training: np.ndarray, times: np.ndarray) -> str:
    """What was drawn, as ``data describe`` shows it."""
    kept = int((times[is_training] > 0).sum())
    return f"training rows were drawn with replacement: {kept} of {int(is_training.sum())} occur"


def options_as_identity(chosen: BaseModel) -> dict:
    """A dataset's options as its identity has them: without those for worlds where they choose none."""
    options = chosen.model_dump()
    unused = {name for name in ("bootstrap", "days_earlier") if not options.get(name)}
    return {name: options[name] for name in options if name not in {"worlds_of", *unused}}


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
