"""A figure with its caption and the rows behind it, and their files."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import pandas as pd
from matplotlib.figure import Figure

from reports.files import write_csv
from reports.style import save_figure


@dataclass(frozen=True)
class Drawing:
    """A figure, its caption, and the rows that it was drawn from."""

    figure: Figure
    caption: str
    data: pd.DataFrame


Figures = dict[str, Drawing]  # by the stem of their files


def write_drawing(drawing: Drawing, stem: Path) -> None:
    """Write ``<stem>.png``, ``<stem>.svg``, and the rows as ``<stem>.csv``."""
    save_figure(drawing.figure, stem)
    write_csv(stem.with_name(f"{stem.name}.csv"), drawing.data)


def markdown_drawing(name: str, drawing: Drawing) -> str:
    """The picture with its caption and the links to its files in ``figures/``."""
    links = f"[vector](figures/{name}.svg), [data](figures/{name}.csv)"
    return f"![{drawing.caption}](figures/{name}.png)\n\n*{drawing.caption}* ({links})"
