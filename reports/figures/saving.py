"""A figure with its caption and the rows behind it, and their files."""

from __future__ import annotations

import io
import warnings
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

import pandas as pd
from matplotlib.figure import Figure

from reports.figures.hover import with_titles
from reports.figures.style import styled
from reports.files import replacing, write_csv, write_text


@dataclass(frozen=True)
class Drawing:
    """A figure that is drawn when it is asked for, its caption, and the rows that it shows."""

    draw: Callable[[], Figure]
    caption: str
    data: pd.DataFrame

    @cached_property
    def figure(self) -> Figure:
        """The figure, drawn once."""
        return self.draw()


Figures = dict[str, Drawing]  # by the stem of their files


def write_drawing(drawing: Drawing, stem: Path) -> None:
    """Write ``<stem>.png``, ``<stem>.svg``, and the rows as ``<stem>.csv``."""
    save_figure(drawing.draw(), stem)  # not kept: a report may have a hundred
    write_csv(stem.with_name(f"{stem.name}.csv"), drawing.data)


def markdown_drawing(name: str, drawing: Drawing) -> str:
    """The picture with its caption and the links to its files in ``figures/``."""
    links = f"[vector](figures/{name}.svg), [data](figures/{name}.csv)"
    return f"![{drawing.caption}](figures/{name}.png)\n\n*{drawing.caption}* ({links})"


@contextmanager
def missing_letters_are_boxes() -> Iterator[None]:
    """A letter that the font lacks is a box in the figure, without a warning; tables have the letter."""
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", "Glyph .* missing")
        yield


@styled
def save_figure(figure: Figure, stem: Path) -> None:
    """Write ``<stem>.png`` and ``<stem>.svg``, the same bytes for the same figure."""
    with missing_letters_are_boxes():
        with replacing(stem.with_name(f"{stem.name}.png")) as temporary:
            figure.savefig(temporary, metadata={"Software": None})
        svg = io.StringIO()
        figure.savefig(svg, format="svg", metadata={"Date": None})
    write_text(stem.with_name(f"{stem.name}.svg"), with_titles(svg.getvalue()))
