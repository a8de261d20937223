"""The RankMixer paper's published numbers, typed; the values themselves are in ``paper.yaml``."""

from __future__ import annotations

from functools import cache
from pathlib import Path

import pandas as pd
import yaml
from pydantic import BaseModel, ConfigDict


class _Strict(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True)


class Citation(_Strict):
    """What to call the paper, and where it is."""

    name: str
    title: str
    venue: str
    arxiv: str
    doi: str

    def __str__(self) -> str:
        return f"{self.name}, {self.venue}, arXiv {self.arxiv}, doi {self.doi}"


class Column(_Strict):
    """What a column holds; ``task`` and ``metric`` where it is a quality this benchmark measures too.

    ``note`` is what to know before comparing the column with ours.
    """

    label: str
    unit: str
    task: str | None = None
    metric: str | None = None
    note: str | None = None


class Row(_Strict):
    """One printed row. ``architecture`` and ``variant`` name its counterpart here, where there is one.

    ``tier`` is its tier of user activity. ``base`` marks the row that the table's differences are taken to;
    its own differences are zero and not printed.
    """

    name: str
    numbers: dict[str, float]
    base: bool = False
    architecture: str | None = None
    variant: str = ""
    tier: str | None = None


class Table(_Strict):
    """One of the paper's tables or figures as data."""

    label: str
    about: str
    columns: dict[str, Column]
    rows: list[Row]

    def row(self, architecture: str, variant: str = "") -> Row | None:
        """The row that stands for an architecture of this benchmark; None where the paper has none."""
        for row in self.rows:
            if row.architecture == architecture and row.variant == variant:
                return row
        return None

    def column(self, task: str, metric: str) -> str | None:
        """The key of the column of this task and metric; None where the paper has none."""
        for key, column in self.columns.items():
            if column.task == task and column.metric == metric:
                return key
        return None

    def column_notes(self, task: str) -> list[str]:
        """Notes on the columns of this task."""
        return [column.note for column in self.columns.values() if column.task == task and column.note]

    def has_task(self, task: str) -> bool:
        """Whether any column is of this task."""
        return any(column.task == task for column in self.columns.values())


class Note(_Strict):
    """What to know before quoting some of its tables."""

    tables: list[str]
    text: str


class Paper(_Strict):
    """The paper's numbers and the notes on them."""

    citation: Citation
    tables: dict[str, Table]
    notes: list[Note]

    def notes_on(self, table: str) -> list[str]:
        return [note.text for note in self.notes if table in note.tables]

    def frame(self) -> pd.DataFrame:
        """All values, one a row, with its table, row, column, unit, and counterpart here."""
        return pd.DataFrame(
            [
                {
                    "table": table.label,
                    "row": row.name,
                    "column": table.columns[key].label,
                    "value": value,
                    "unit": table.columns[key].unit,
                    "base": row.base,
                    "architecture": row.architecture,
                    "variant": row.variant,
                    "task": table.columns[key].task,
                    "metric": table.columns[key].metric,
                }
                for table in self.tables.values()
                for row in table.rows
                for key, value in row.numbers.items()
            ]
        )


@cache
def load_paper() -> Paper:
    """The paper's numbers from ``reports/paper/paper.yaml``."""
    text = (Path(__file__).parent / "paper.yaml").read_text(encoding="utf-8")
    return Paper.model_validate(yaml.safe_load(text))
