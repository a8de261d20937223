"""What the page shows of a table: its cells with the raw numbers that sorting goes by."""

from __future__ import annotations

from dataclasses import dataclass, replace

import pandas as pd
from markupsafe import Markup

from reports.cells import MISSING, Shown
from reports.page.intervals import Scale, draw, has_interval
from reports.tables.markup import NO_CONTESTANTS, Table

NOTHING = Markup("")
PAPERS = ("paper", "published")  # how the titles of papers' columns begin


@dataclass(frozen=True)
class Cell:
    """``value`` is what the cell is sorted by, empty where nothing is known; ``href`` makes it a link."""

    text: str
    value: str
    drawing: Markup = NOTHING
    href: str = ""


@dataclass(frozen=True)
class Column:
    """A heading; ``numeric`` columns are sorted by number, ``papers`` ones hold the paper's own values.

    In ``drawn`` columns intervals stand before the numbers.
    """

    title: str
    numeric: bool
    papers: bool = False
    drawn: bool = False

    @property
    def kind(self) -> str:
        """The classes of its cells."""
        names = {"number": self.numeric, "papers": self.papers, "drawn": self.drawn}
        return " ".join(name for name, is_so in names.items() if is_so)


@dataclass(frozen=True)
class TableView:
    """A table as the template takes it; ``stem`` names its files in ``tables/``, empty where it has none."""

    anchor: str
    caption: str
    columns: list[Column]
    rows: list[list[Cell]]
    references: list[list[Cell]]
    notes: list[str]
    stem: str = ""
    apart: str = NO_CONTESTANTS


def table_view(table: Table) -> TableView:
    """The view of one of the report's tables."""
    shown = [*table.rows, *table.references]
    scales = [Scale.fit(row[i] for row in table.rows) for i in range(len(table.header))]
    numeric = [any(isinstance(row[i], Shown) for row in shown) for i in range(len(table.header))]
    columns = [
        Column(title, numeric[i], title.startswith(PAPERS), scales[i] is not None)
        for i, title in enumerate(table.header)
    ]
    return TableView(
        anchor=f"table-{table.name}",
        caption=table.caption,
        columns=columns,
        rows=[_cells(row, scales) for row in table.rows],
        references=[_cells(row, scales) for row in table.references],
        notes=table.notes,
        stem=table.name,
    )


def page_table(
    anchor: str, caption: str, header: list[str], rows: list[list[str]], notes: list[str] | None = None
) -> TableView:
    """The view of a table that the page alone has: no file of it is written."""
    view = table_view(Table(anchor, caption, pd.DataFrame(), header, rows, notes=notes or []))
    return replace(view, anchor=anchor, stem="")


def _cells(row: list[str], scales: list[Scale | None]) -> list[Cell]:
    return [cell_view(cell, scale) for cell, scale in zip(row, scales, strict=True)]


def cell_view(cell: str, scale: Scale | None = None) -> Cell:
    """The cell with its raw number, where it has one, and its interval, where it is to be drawn."""
    if not isinstance(cell, Shown):
        return Cell(cell, "" if cell == MISSING else cell)
    value = "" if cell.value is None else repr(cell.value)
    return Cell(str(cell), value, draw(cell, scale) if scale and has_interval(cell) else NOTHING)
