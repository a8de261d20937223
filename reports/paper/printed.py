"""Published numbers, typed; the values themselves are in ``published/``, one file a paper."""

from __future__ import annotations

from collections.abc import Iterator
from functools import cache
from pathlib import Path
from typing import Annotated, Literal, get_args

import pandas as pd
from pydantic import BaseModel, ConfigDict, Field, ValidationError, model_validator

from files.errors import InputError
from files.yaml_files import read_yaml
from harness.records.suite import PublishedName

PUBLISHED = Path(__file__).parent / "published"
EVIDENCE = {
    "paper": "printed in the paper, read in its PDF or a conversion of its text",
    "note": "as a third party's note states it; the paper itself was not read",
    "files": "from the authors' result files or logs",
}

Text = Annotated[str, Field(min_length=1)]


class _Strict(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True)


class Citation(_Strict):
    """What to call the paper, and where it is; ``source`` where the numbers are from something else."""

    name: Text
    title: Text | None = None
    venue: Text | None = None
    arxiv: Text | None = None
    doi: Text | None = None
    source: Text | None = None

    def __str__(self) -> str:
        arxiv, doi = self.arxiv and f"arXiv {self.arxiv}", self.doi and f"doi {self.doi}"
        return ", ".join(filter(None, [self.name, self.venue, arxiv, doi, self.source]))


class Column(_Strict):
    """What a column holds; ``metric`` where it is a quality that this benchmark measures too.

    ``task`` is ours of the same name, ``dataset`` ours of the same rows and, as far as is known, splits. The
    values of a ``gain`` are differences to the base row in points x 100; the base row itself has the metric,
    or nothing. ``note`` is what to know before comparing the column with ours. ``range`` names the columns of
    the least and greatest value of the seeds that a mean is over.
    """

    label: Text
    unit: Text
    gain: bool = False
    task: Text | None = None
    metric: Literal["auc", "uauc", "gauc"] | None = None
    dataset: Text | None = None
    note: Text | None = None
    range: tuple[Text, Text] | None = None


class Row(_Strict):
    """One printed row.

    ``architecture`` is the same word in every file, and where this benchmark has the architecture, its name
    here; ``variant`` sets further rows of it apart, by the names of ours where there is one. ``sequence`` is
    the sequence model that it was combined with. ``tier`` is its tier of user activity. ``base`` marks the
    row that the table's differences are taken to; its own differences are zero and not printed.
    """

    name: Text
    numbers: dict[str, float]
    base: bool = False
    architecture: Text | None = None
    variant: str = ""
    sequence: str = ""
    tier: Text | None = None


class Table(_Strict):
    """One of a paper's tables or figures as data."""

    label: Text
    about: Text
    columns: dict[str, Column] = Field(min_length=1)
    rows: list[Row] = Field(min_length=1)

    @model_validator(mode="after")
    def _rows_fit(self) -> Table:
        for key, column in self.columns.items():
            for bound in set(column.range or ()) - set(self.columns):
                raise ValueError(f"column {key!r} has a range with {bound!r}, which is no column; mend it")
        seen: set[tuple[str, str, str]] = set()
        for row in self.rows:
            for key, value in row.numbers.items():
                if key not in self.columns:
                    raise ValueError(f"row {row.name!r} has {key!r}, which is no column; mend its name")
                column = self.columns[key]
                if column.metric and not (column.gain and not row.base) and not 0 < value < 1:
                    raise ValueError(f"row {row.name!r}: {key} {value} is no {column.metric}; mend it")
            if row.architecture is not None:
                stands_for = (row.architecture, row.variant, row.sequence)
                if stands_for in seen:
                    raise ValueError(f"row {row.name!r} repeats {stands_for}; give it a variant")
                seen.add(stands_for)
        if sum(row.base for row in self.rows) > 1:
            raise ValueError("has two base rows; mark the one that differences are taken to")
        return self

    @property
    def base(self) -> Row | None:
        """The row that the table's differences are taken to; None where it takes none."""
        return next((row for row in self.rows if row.base), None)

    def row(self, architecture: str, variant: str = "") -> Row | None:
        """The row that stands for an architecture of this benchmark; None where the paper has none.

        One that was combined with a sequence model stands for none.
        """
        wanted = (architecture, variant, "")
        return next((r for r in self.rows if (r.architecture, r.variant, r.sequence) == wanted), None)

    def column(self, task: str, metric: str) -> str | None:
        """The key of the column of this task and metric; None where the paper has none."""
        wanted = (task, metric)
        return next((key for key, c in self.columns.items() if (c.task, c.metric) == wanted), None)

    def column_notes(self, task: str) -> list[str]:
        """Notes on the columns of this task."""
        return [column.note for column in self.columns.values() if column.task == task and column.note]

    def has_task(self, task: str) -> bool:
        """Whether any column is of this task."""
        return any(column.task == task for column in self.columns.values())


class Note(_Strict):
    """What to know before quoting some of its tables."""

    tables: list[str] = Field(min_length=1)
    text: Text


class Paper(_Strict):
    """A paper's numbers and the notes on them.

    ``evidence`` says how the numbers are known (`EVIDENCE`). ``comparisons`` are the tables that compare
    architectures with each other.
    """

    citation: Citation
    evidence: Literal["paper", "note", "files"]
    comparisons: list[str] = Field(min_length=1)
    tables: dict[str, Table]
    notes: list[Note]

    @model_validator(mode="after")
    def _tables_are_there(self) -> Paper:
        named = [*self.comparisons, *(table for note in self.notes for table in note.tables)]
        for table in named:
            if table not in self.tables:
                raise ValueError(f"names {table!r}, which is none of its tables; mend the name")
        return self

    def notes_on(self, table: str) -> list[str]:
        return [note.text for note in self.notes if table in note.tables]

    def compared(self) -> Iterator[tuple[str, Table]]:
        """The tables that compare architectures, with their keys."""
        for key in self.comparisons:
            yield key, self.tables[key]

    def frame(self) -> pd.DataFrame:
        """All values, one a row, with its table, row, column, unit, and counterpart here."""
        rows = [
            {"table": table.label, "row": row.name, "column": column.label, "value": value}
            | {"unit": column.unit, "base": row.base, "architecture": row.architecture}
            | {"variant": row.variant, "task": column.task, "metric": column.metric}
            for table in self.tables.values()
            for row in table.rows
            for key, value in row.numbers.items()
            for column in [table.columns[key]]
        ]
        return pd.DataFrame(rows)


def read_paper(path: Path) -> Paper:
    """A file of published numbers; InputError naming the file, the field and the mend where it is wrong."""
    content = read_yaml(path)
    try:
        return Paper.model_validate(content)
    except ValidationError as error:
        problem = error.errors()[0]
        field = ".".join(str(part) for part in problem["loc"])
        fault = problem["msg"].removeprefix("Value error, ")
        if problem["type"] == "extra_forbidden":
            fault = "is not a known field; check its spelling or remove it"
        elif problem["type"] != "value_error":
            fault = f"{fault}; mend it"
        raise InputError(": ".join(filter(None, [str(path), field, fault]))) from None


@cache
def load_published() -> dict[str, Paper]:
    """Every paper of ``reports/paper/published``, by the names that suites call them by."""
    return {name: read_paper(PUBLISHED / f"{name}.yaml") for name in get_args(PublishedName)}


def load_paper() -> Paper:
    """The RankMixer paper's numbers."""
    return load_published()["rankmixer"]
