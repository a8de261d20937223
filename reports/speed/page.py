"""``OUT/report/index.html`` of measured speeds."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

from reports.figures.saving import Figures
from reports.files import write_text
from reports.page.figures import figure_views
from reports.page.run_pages import flattened
from reports.page.tables import table_view
from reports.page.templating import templates
from reports.tables.markup import Table


@dataclass(frozen=True)
class SpeedContents:
    """All that a page of speeds says; ``printed`` are the paper's own tables."""

    title: str
    description: str
    command: str
    measured_at: str
    machine: dict[str, Any]
    words: list[str]
    tables: list[Table]
    printed: list[Table]
    figures: Figures


def write_speed_page(contents: SpeedContents, out: Path) -> Path:
    """Write the page from figures saved before; its path."""
    page = (
        templates()
        .get_template("speed.html")
        .render(
            contents=contents,
            machine=flattened(contents.machine),
            tables=list(map(table_view, contents.tables)),
            printed=list(map(table_view, contents.printed)),
            figures=figure_views(contents.figures, out / "figures"),
        )
    )
    write_text(out / "report" / "index.html", page)
    return out / "report" / "index.html"
