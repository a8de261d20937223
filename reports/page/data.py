"""One page on a dataset: its drift in figures, then everything that is known of it in tables."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import pandas as pd

from reports.cells import MISSING, fixed, grouped, is_missing
from reports.figures.data import feature_distances, label_rates, shares_of_new
from reports.figures.drawing.saving import Drawing, svg_text
from reports.files import write_text
from reports.page.figures import FigureView, inline_svg
from reports.page.tables import TableView, page_table
from reports.page.templating import templates

NEW = {
    "new_users": "users",
    "rows_of_new_users": "rows of such users",
    "rows_with_new_item": "rows with such an item",
}


@dataclass(frozen=True)
class DataPage:
    """What the page shows of a dataset.

    ``labels`` has task, split, positive_rate; ``distances`` feature, valid, test; ``new`` split and what of
    `NEW` is known. ``tables`` are shown as they are, by their titles; ``words`` stand above them.
    """

    name: str
    description: str
    words: Sequence[str]
    labels: pd.DataFrame
    distances: pd.DataFrame
    new: pd.DataFrame
    tables: Mapping[str, pd.DataFrame] = field(default_factory=dict)


def write_data_page(data: DataPage, page: Path) -> Path:
    """Write one HTML file that needs no other; its path."""
    drawn = [_view(name, drawing) for name, drawing in _drawings(data).items()]
    tables = [_table(number, title, rows) for number, (title, rows) in enumerate(data.tables.items())]
    template = templates().get_template("data.html")
    write_text(page, template.render(data=data, figures=drawn, tables=tables))
    return page


def _drawings(data: DataPage) -> dict[str, Drawing]:
    known = {column: name for column, name in NEW.items() if column in data.new}
    drawings = {
        "distances": Drawing(feature_distances, data.distances, "How far each feature is from training"),
        "labels": Drawing(label_rates, data.labels, "How often each label is positive"),
    }
    if known:
        drawings["new"] = Drawing(shares_of_new, data.new, "What training has not seen", (known,))
    return drawings


def _view(name: str, drawing: Drawing) -> FigureView:
    return FigureView(name, drawing.caption, inline_svg(svg_text(drawing.figure), name, drawing.caption))


def _table(number: int, title: str, rows: pd.DataFrame) -> TableView:
    header = [str(column).replace("_", " ") for column in rows]
    cells = [[_cell(value) for value in row] for row in rows.astype(object).itertuples(index=False)]
    return page_table(f"table-{number}", title, header, cells)


def _cell(value: object) -> str:
    if is_missing(value):
        return MISSING
    if isinstance(value, bool | str):
        return str(value)
    return fixed(value, 4) if isinstance(value, float) else grouped(value)  # type: ignore[arg-type]
